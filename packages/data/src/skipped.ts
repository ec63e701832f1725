/** Rows that were left out since they cannot be read. */
import { FinetableError } from '@finetable/core';
import { notedProblems } from './tasks.ts';

/** Rows that were left out since they could not be read. */
export interface Skipped {
  readonly count: number;
  /** What is wrong with the first of them. */
  readonly problems: readonly string[];
}

export const noneSkipped: Skipped = { count: 0, problems: [] };

/** @param limit of all together @throws INVALID_DATA above it */
export function addSkipped(
  before: Skipped,
  count: number,
  problems: readonly string[],
  limit: number,
  name: string,
): Skipped {
  const skipped = { count: before.count + count, problems: [...before.problems, ...problems].slice(0, notedProblems) };
  if (skipped.count <= limit) return skipped;
  const shown = skipped.problems.slice(0, 3).join('\n  ');
  throw new FinetableError(
    'INVALID_DATA',
    `${name}: more than ${limit} bad rows, which is what badRows.skip allows; the first:\n  ${shown}`,
    { file: name, problems: skipped.problems },
  );
}
