/** Where a loader is: the next batch, and of what, so that another loader goes on only where it would make the same batches. */
import { FinetableError } from '@finetable/core';
import type { LoaderPlan } from './plan.ts';
import type { Feed } from './feed.ts';
import { checkInteger } from './refuse.ts';
import type { DataSpec, SplitSpec } from './spec.ts';

/** The next batch that a loader yields. JSON. */
export interface LoaderPosition {
  readonly epoch: number;
  /** Within the epoch; past its last where nobody knows how many there are. */
  readonly batch: number;
  /** What the batches depend on, beside what is in the examples. The number of workers is none of it. */
  readonly data: DataIdentity;
}

/** What the order and the content of batches depend on, beside what is in the examples: two loaders with the same values make the same batches. */
export type DataIdentity = Readonly<Record<string, string | number | boolean>>;

export function identityOf({ split }: DataSpec, plan: LoaderPlan, { examples, sizeBytes, window }: Feed): DataIdentity {
  const { batchSize, shuffle, seed, shard, distinct } = plan;
  return {
    ...(Number.isFinite(examples) && { examples, sizeBytes }),
    batchSize,
    seed,
    shuffle,
    ...(shuffle && { shuffleWindow: window }),
    ...(shard.count > 1 && { shard: `${shard.index} of ${shard.count}` }),
    ...(distinct !== null && { distinct }),
    ...(split && { split: describeSplit(split) }),
  };
}

/** However it was written. */
function describeSplit(split: SplitSpec): string {
  const given = Object.entries(split).filter(([, value]) => value !== undefined);
  return JSON.stringify(Object.fromEntries(given.sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** @throws INVALID_ARGUMENT where it is no position, MISMATCH where it is one of other data */
export function checkPosition(position: LoaderPosition, data: DataIdentity, name: string): void {
  checkInteger('position.epoch', position.epoch, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('position.batch', position.batch, 0, Number.MAX_SAFE_INTEGER);
  for (const key of new Set([...Object.keys(data), ...Object.keys(position.data)])) {
    const [found, now] = [position.data[key], data[key]];
    if (found === now) continue;
    const show = (value: DataIdentity[string] | undefined): string => (value === undefined ? 'none' : String(value));
    throw new FinetableError(
      'MISMATCH',
      `${name}: the position is of other batches: ${key} was ${show(found)}, now it is ${show(now)}; start again, or put back what it was`,
      { file: name, field: key },
    );
  }
}
