/** An adapter's numbers in memory, the same for every file format. */
import { FinetableError } from '@finetable/core';
import { show } from '../io.ts';

/** What one table's adapter makes of its base: W plus the delta of its groups, times magnitude / column norm with DoRA. */
export interface AdapterTensors {
  readonly table: string;
  readonly base: AdapterBase;
  /** One or more; the first is named `rest`. Every row is in at most one. */
  readonly groups: readonly GroupTensors[];
  /** DoRA's magnitudes, `[D] f32`; null without. */
  readonly magnitude: Float32Array | null;
  /** `[D] f64`: Σ W² of every column, which DoRA's norms begin with; null where it is not known. */
  readonly baseSquares: Float64Array | null;
  /** `[k, D] f32`: rows `base.rows .. base.rows + k` of the table, which its base does not have; null where it was not grown. */
  readonly grown: Float32Array | null;
}

/**
 * The rows that share factors: row `rows[i]` of the delta is `s * a[i] * b`, with s = alpha / rank, or alpha / sqrt(rank) with
 * `rsLora`. Of kind `dense`, `rank` is D, `b` is null, and the delta is `s * a[i]`.
 */
export interface GroupTensors {
  readonly name: string;
  /** `[2 m] i32`: the rows that the group may hold, as ascending ranges [begin, end) that do not touch; null: all of the table. */
  readonly members: Int32Array | null;
  /** A of members that are not in `rows`: 0 where null, else `HeUniformRows` of this seed and stream (and V, r). */
  readonly untouched: { readonly seed: number; readonly stream: string } | null;
  readonly kind: 'lora' | 'dense';
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  /** `[k] i32`, ascending, each in [0, base.rows): the rows that the adapter changes. */
  readonly rows: Int32Array;
  /** `[k, rank] f32`. */
  readonly a: Float32Array;
  /** `[rank, D] f32`; null for `dense`. */
  readonly b: Float32Array | null;
}

/** The table that an adapter belongs to. */
export interface AdapterBase {
  /** V. */
  readonly rows: number;
  /** D. */
  readonly dim: number;
  /** What the rows were stored as, such as `f32`; `unknown` where the file does not say. */
  readonly dtype: string;
  /** Of the base's bytes; null where the file does not say. */
  readonly fingerprint: string | null;
}

/** i32 ids. */
const mostRows = 2 ** 31;

/**
 * Checks lengths, ranges, order of rows, and that every number is finite.
 * @param code INVALID_ARGUMENT for what a program passes, INVALID_FILE for what a file held
 */
export function checkAdapterTensors(
  adapter: AdapterTensors,
  code: 'INVALID_ARGUMENT' | 'INVALID_FILE',
  where: string,
): void {
  const { table, base, kind, rank, alpha, rows, a, b } = adapter;
  const refuse = (message: string): never => {
    throw new FinetableError(code, `${where}: adapter of table ${show(table)}: ${message}`, { table });
  };
  const checkSize = (name: string, value: number, most: number): void => {
    if (!Number.isInteger(value) || value < 1 || value > most)
      refuse(`${name} is ${show(value)}; allowed: an integer from 1 to ${most}`);
  };
  checkSize('base rows', base.rows, mostRows);
  checkSize('base dim', base.dim, mostRows);
  checkSize('rank', rank, mostRows);
  if (!Number.isFinite(alpha)) refuse(`alpha is ${alpha}; allowed: a finite number`);
  if (kind === 'dense' && rank !== base.dim)
    refuse(`is dense of rank ${rank}; a dense delta has the rank of its base's dim, ${base.dim}`);
  if (rows.length * rank !== a.length)
    refuse(`A has ${a.length} values; ${rows.length} rows of rank ${rank} have ${rows.length * rank}`);
  if (b === null ? kind === 'lora' : kind === 'dense')
    refuse(kind === 'lora' ? 'B is missing' : 'is dense and yet has a B');
  if (b && b.length !== rank * base.dim)
    refuse(`B has ${b.length} values; rank ${rank} by ${base.dim} dims has ${rank * base.dim}`);
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!;
    if (row < 0 || row >= base.rows) refuse(`rows[${i}] is ${row}; allowed: 0 to ${base.rows - 1}`);
    if (i > 0 && row <= rows[i - 1]!) refuse(`rows[${i}] is ${row} after ${rows[i - 1]}; rows must ascend, each once`);
  }
  checkFinite(a, rank, 'A');
  if (b) checkFinite(b, base.dim, 'B');

  function checkFinite(values: Float32Array, columns: number, name: string): void {
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad < 0) return;
    const place = `[${Math.floor(bad / columns)}, ${bad % columns}]`;
    const message = `${where}: adapter of table ${show(table)}: ${name}${place} is ${values[bad]}; the training that made it diverged`;
    throw new FinetableError('NON_FINITE', message, { table });
  }
}

/** Checks every adapter of one file, and that no table comes twice. */
export function checkAdapters(
  adapters: readonly AdapterTensors[],
  code: 'INVALID_ARGUMENT' | 'INVALID_FILE',
  where: string,
): void {
  if (adapters.length === 0)
    throw new FinetableError(code, `${where}: there is no adapter; at least one table is needed`);
  const tables = new Set<string>();
  for (const adapter of adapters) {
    if (tables.has(adapter.table)) {
      throw new FinetableError(code, `${where}: two adapters of table ${show(adapter.table)}; allowed: one`, {
        table: adapter.table,
      });
    }
    tables.add(adapter.table);
    checkAdapterTensors(adapter, code, where);
  }
}
