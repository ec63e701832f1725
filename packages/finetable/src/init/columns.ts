/** What the columns of a data file hold, by its first rows. */
import { FinetableError } from '@finetable/core';
import { visitSource } from '@finetable/data';

const looked = 50;

export interface Columns {
  readonly examples: number;
  readonly holds: ReadonlyMap<string, 'text' | 'ids'>;
}

/** @throws NOT_FOUND, INVALID_DATA, INTERRUPTED */
export async function columnsOf(file: string, signal: AbortSignal): Promise<Columns> {
  const holds = new Map<string, 'text' | 'ids'>();
  const problems: string[] = [];
  const found = await visitSource(
    { file },
    {
      row: ({ values }) => {
        for (const [name, value] of Object.entries(values))
          if (value !== null && value !== '' && holds.get(name) !== 'text')
            holds.set(name, isIds(value) ? 'ids' : 'text');
      },
      problem: (message) => void problems.push(message),
    },
    { rows: looked, signal },
  );
  if (holds.size === 0) throw new FinetableError('INVALID_DATA', problems[0] ?? `${file}: no rows`, { file });
  return { examples: found.totalRows, holds };
}

/** An integer or a list of them; in text files as text. */
function isIds(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isIds);
  return typeof value === 'string' ? /^[[\]\d\s,]+$/.test(value) : Number.isInteger(Number(value));
}
