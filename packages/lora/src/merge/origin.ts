/** What a merged file says of the base it was made of; see docs/guide/12-formats.md. */
import { FinetableError } from '@finetable/core';
import { readSafetensorsHeader } from '@finetable/formats';
import type { ShardedTable } from '@finetable/placement';

/** Not `finetable.…`, which is what quantised tables are announced by. */
const metadataKey = 'finetable-merged';

export interface MergedBase {
  /** V, D. */
  readonly rows: number;
  readonly dim: number;
  readonly dtype: string;
  readonly fingerprint: string;
}

export interface MergedOrigin {
  /** Name of the table that the adapter was for. */
  readonly table: string;
  readonly base: MergedBase;
}

/** The table, without the rows that were added to it. */
export function baseOf(table: ShardedTable): MergedBase {
  const { rows, grownFrom, dim, dtype } = table;
  const first = grownFrom ?? rows;
  return { rows: first, dim, dtype, fingerprint: table.fingerprintOf(first) };
}

export const describeBase = ({ rows, dim, dtype, fingerprint }: MergedBase): string =>
  `[${rows}, ${dim}] ${dtype} with fingerprint ${fingerprint}`;

/** Metadata for what is made of `table`; what its own file says beside tensors stays, but for what is about those. */
export function withOrigin(table: ShardedTable): Record<string, string> {
  const origin: MergedOrigin = { table: table.name, base: baseOf(table) };
  return { ...ownMetadata(table), [metadataKey]: JSON.stringify(origin) };
}

/** What the table's file says beside its tensors, without what announces quantised ones. */
export function ownMetadata({ origin }: ShardedTable): Record<string, string> {
  return Object.fromEntries(Object.entries(origin?.metadata ?? {}).filter(([key]) => !key.startsWith('finetable.')));
}

/** @throws INVALID_FILE where the file does not say */
export async function originOf(path: string): Promise<MergedOrigin> {
  const text = (await readSafetensorsHeader(path)).metadata[metadataKey];
  if (text === undefined) {
    throw new FinetableError(
      'INVALID_FILE',
      `${path}: does not say what it was made of (no "${metadataKey}" in its metadata); allowed: a table that was merged by finetable`,
      { file: path },
    );
  }
  const found = parse(text);
  if (!found) {
    throw new FinetableError(
      'INVALID_FILE',
      `${path}: its metadata "${metadataKey}" is not as docs/guide/12-formats.md has it`,
      {
        file: path,
      },
    );
  }
  return found;
}

function parse(text: string): MergedOrigin | null {
  try {
    const { table, base } = JSON.parse(text) as Partial<MergedOrigin>;
    const fits =
      typeof table === 'string' &&
      typeof base?.fingerprint === 'string' &&
      typeof base.dtype === 'string' &&
      Number.isInteger(base.rows) &&
      Number.isInteger(base.dim);
    return fits ? { table, base } : null;
  } catch {
    return null;
  }
}
