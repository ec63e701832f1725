/**
 * An adapted table as a table of its own: W + s A B of all groups, with DoRA's magnitudes, in a new file; and the way back, which is
 * the base that was kept. Both pass over the table in blocks and hold none of it beyond those.
 */
import { checkOptionNames, FinetableError, type OptionNames, type RowDtype, type RowFormat } from '@finetable/core';
import { checkOutput, writeTableBlocks, type TableBlock } from '@finetable/formats';
import { StoredRows, type ShardedTable } from '@finetable/placement';
import type { Adapter } from '../adapter.ts';
import { blockRowsOf, MergedRows } from './merged-rows.ts';
import { baseOf, describeBase, originOf, ownMetadata, withOrigin } from './origin.ts';

/** How a table is written anew. */
export interface RewriteOptions {
  /** Name of the table in the new file; default: as in the base's file, else `embeddings`. */
  readonly tensor?: string | undefined;
  /** Replace a file that is there. */
  readonly overwrite?: boolean | undefined;
  /** Told after each block, of some thousand rows, how many rows of how many are done. */
  readonly onProgress?: ((done: number, rows: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How an adapter is merged into a new file. */
export interface MergeOptions extends RewriteOptions {
  /** Default: the base's. */
  readonly dtype?: RowDtype | undefined;
  /** Of `int4`: columns that share a scale, 32, 64, 128 or D. Default: the base's where that is int4, else 64. */
  readonly groupDims?: number | undefined;
}

const rewriteNames: OptionNames<RewriteOptions> = { tensor: true, overwrite: true, onProgress: true, signal: true };
const mergeNames: OptionNames<MergeOptions> = { ...rewriteNames, dtype: true, groupDims: true };

/** What was written. */
export interface MergedTable {
  readonly path: string;
  /** V. */
  readonly rows: number;
  readonly format: RowFormat;
  readonly tensor: string;
  /** Rows that differ from their base rows. */
  readonly changedRows: number;
}

/**
 * Writes the adapted table to a safetensors file, whole or not at all. With the base's dtype, rows that the adapter does not change keep their
 * bytes and are not looked at; others are rounded as a table of that dtype would. Until it settles, the adapter must not be trained.
 * @throws NON_FINITE naming row and dim; UNSUPPORTED with `maxNorm`; INVALID_ARGUMENT for a bad option, and where `path` is the base's
 *   own file; EXISTS, IO, INVALID_FILE (the base changed meanwhile), INTERRUPTED, what devices fail with
 */
export async function mergeAdapter(adapter: Adapter, path: string, options: MergeOptions = {}): Promise<MergedTable> {
  checkOptionNames('mergeAdapter', options, mergeNames);
  const { table } = adapter;
  if (!adapter.addsApart) {
    throw new FinetableError(
      'UNSUPPORTED',
      `${table.name}: an adapter with maxNorm is not merged: lookups shorten long rows, its own and the base's, which no table can say; use it as an adapter, or train without`,
      { table: table.name },
    );
  }
  const format = formatOf(table, options);
  await checkOutput(path, { inputs: table.origin?.files ?? [], overwrite: options.overwrite });
  checkFactors(adapter);
  adapter.settle();
  await table.computeFingerprint(table.grownFrom ?? table.rows, options.signal);
  const base = await StoredRows.open(table);
  try {
    const merged = new MergedRows(adapter, base, format);
    try {
      const metadata = withOrigin(table);
      const fill = (block: TableBlock): Promise<void> => merged.fill(block, options.signal);
      const written = await rewrite(table, path, format, {
        ...options,
        fill,
        metadata,
        base,
        blockRows: merged.blockRows,
      });
      return { ...written, changedRows: merged.changed.count };
    } finally {
      merged.close();
    }
  } finally {
    await base.close();
  }
}

/**
 * Undoes a merge: writes the rows of the base that was kept to a new file, bit for bit. Nothing is subtracted.
 * @param merged a file that `mergeAdapter` wrote, of which only the header is read
 * @param base the open table that it was made of
 * @throws MISMATCH where `merged` was made of another table; INVALID_FILE where it does not say what it was made of; else as `mergeAdapter`
 */
export async function unmergeTable(
  merged: string,
  base: ShardedTable,
  path: string,
  options: RewriteOptions = {},
): Promise<MergedTable> {
  checkOptionNames('unmergeTable', options, rewriteNames);
  const origin = await originOf(merged);
  const fingerprint = await base.computeFingerprint(base.rows, options.signal);
  if (origin.base.fingerprint !== fingerprint) {
    throw new FinetableError(
      'MISMATCH',
      `${merged}: it was made of ${describeBase(origin.base)}; "${base.name}" is ${describeBase(baseOf(base))}. Name the base that was kept`,
      { file: merged, table: base.name },
    );
  }
  await checkOutput(path, { inputs: [merged, ...(base.origin?.files ?? [])], overwrite: options.overwrite });
  const stored = await StoredRows.open(base);
  try {
    const fill = ({ firstRow, rows, bytes }: TableBlock): Promise<void> =>
      stored.read(firstRow, rows, bytes, options.signal);
    const metadata = ownMetadata(base);
    const blockRows = blockRowsOf(base.dim);
    const written = await rewrite(base, path, stored.format, { ...options, fill, metadata, base: stored, blockRows });
    return { ...written, changedRows: 0 };
  } finally {
    await stored.close();
  }
}

interface Rewriting extends RewriteOptions {
  readonly fill: (block: TableBlock) => Promise<void>;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly base: StoredRows;
  readonly blockRows: number;
}

async function rewrite(
  { rows, origin }: ShardedTable,
  path: string,
  format: RowFormat,
  { tensor = origin?.tensor ?? 'embeddings', fill, metadata, base, blockRows, signal, onProgress }: Rewriting,
): Promise<Omit<MergedTable, 'changedRows'>> {
  await writeTableBlocks(
    path,
    { name: tensor, rows, format },
    {
      blockRows,
      metadata,
      fill: async (block) => {
        if (signal?.aborted) throw new FinetableError('INTERRUPTED', 'interrupted; nothing was written');
        await fill(block);
        const done = block.firstRow + block.rows;
        // Bytes of a file that was written to meanwhile must not get the new file's name.
        if (done === rows) await base.checkUnchanged();
        onProgress?.(done, rows);
      },
    },
  );
  return { path, rows, format, tensor };
}

/** docs/guide/12-formats.md has what it costs and what it gives beside the others. */
const defaultGroupDims = 64;

function formatOf(table: ShardedTable, { dtype = table.dtype, groupDims }: MergeOptions): RowFormat {
  const { dim, name } = table;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${name}: ${message}`, { table: name });
  };
  if (!['f32', 'f16', 'bf16', 'int8', 'int4'].includes(dtype))
    refuse(`dtype ${JSON.stringify(dtype)}; allowed: f32, f16, bf16, int8, int4`);
  if (dtype !== 'int4') {
    if (groupDims !== undefined) refuse(`groupDims ${groupDims} with ${dtype}; it goes with int4`);
    return { dtype, dim, groupDims: dtype === 'int8' ? dim : 0 };
  }
  const asked = groupDims ?? (table.dtype === 'int4' ? table.groupDims : defaultGroupDims);
  if (![32, 64, 128, dim].includes(asked)) refuse(`groupDims ${asked}; allowed: 32, 64, 128, ${dim}`);
  return { dtype, dim, groupDims: Math.min(dim, asked) };
}

/** What every row would get; A is looked at row by row, in the results. */
function checkFactors({ table, groups, magnitude }: Adapter): void {
  const check = (values: Float32Array | undefined, columns: number, what: string): void => {
    const at = values ? table.kernels.firstNonFinite(values) : -1;
    if (at < 0) return;
    const place = columns === 0 ? `[${at}]` : `[${Math.floor(at / columns)}, ${at % columns}]`;
    const message = `${table.name}: ${what}${place} is ${values![at]}; the training that made the adapter diverged. Nothing was written`;
    throw new FinetableError('NON_FINITE', message, { table: table.name });
  };
  for (const { name, b } of groups) check(b?.data, table.dim, `B of group "${name}" `);
  if (magnitude) check(magnitude, 0, 'magnitude ');
}
