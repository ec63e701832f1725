/** More rows for a table: new words, new items. */
import {
  checkOptionNames,
  FinetableError,
  jagged,
  makePlan,
  matrix,
  RandomStream,
  range,
  rowBytes,
  rowScales,
  type Matrix,
  type OptionNames,
} from '@finetable/core';
import type { Kernels, RowStore, Shard } from '@finetable/kernels';
import { ShardedTable } from './table.ts';

/** New rows made from a sample of the table's. */
export interface SampledInit {
  /** k. */
  readonly count: number;
  /**
   * `mean` (default): every new row is the mean of the sample. `random`: each of its dims is drawn from a normal distribution of the
   * sample's mean and deviation of that dim.
   */
  readonly init?: 'mean' | 'random' | undefined;
  /** Rows in the sample, evenly spaced: all of a table that has no more. Default 65536. */
  readonly sampleRows?: number | undefined;
  /** Of `random`. Default 0. */
  readonly seed?: number | undefined;
}

/** What the new rows are. */
export type GrowSpec =
  /** `[k, D]`, copied. */
  | { readonly vectors: Matrix }
  /** New row i is the mean of the rows `meanOf[i]`, such as the pieces that a new token used to be split into. */
  | { readonly meanOf: readonly ArrayLike<number>[] }
  | SampledInit;

/**
 * A table of V + k rows: those of `table`, which are shared and not copied, and new ones after them, in RAM and in the table's
 * dtype (rounded to it). Rows may live anywhere, devices included; a cache is shared. It can be grown again.
 *
 * `table` stays as it is. Each of the two is closed on its own, in any order: what both need is freed with the last. So a program
 * that wants the new table alone may close the old one at once.
 * @throws INVALID_ARGUMENT, ID_OUT_OF_RANGE (`meanOf`), MISMATCH (dims), NON_FINITE (also where the dtype cannot hold a value),
 *   OUT_OF_MEMORY, CLOSED, and what devices fail with
 */
export async function growTable(table: ShardedTable, spec: GrowSpec, signal?: AbortSignal): Promise<ShardedTable> {
  const values = await newRows(table, spec, signal);
  if (values.cols !== table.dim) {
    throw new FinetableError('MISMATCH', `${table.name}: new rows of ${values.cols} dims; the table has ${table.dim}`, {
      table: table.name,
    });
  }
  checkCount(table, values.rows);
  checkFinite(table, values);
  const shards = encode(table, values);
  const added = shards.map(({ store }) => store);
  const all = [...table.shards, ...shards].sort(
    (a, b) => (a.firstColumn ?? 0) - (b.firstColumn ?? 0) || a.firstRow - b.firstRow,
  );
  const { name, dtype, dim, groupDims, devices, kernels } = table;
  let grown: ShardedTable;
  try {
    if (table.closed) throw new FinetableError('CLOSED', `${name}: the table is closed`, { table: name });
    grown = new ShardedTable(name, all, kernels, {
      format: { dtype, dim, groupDims },
      devices,
      growth: { base: table, added },
    });
  } catch (error) {
    for (const store of added) store.close();
    throw error;
  }
  try {
    if (grown.needsFetch) await grown.computeFingerprint(grown.rows, signal);
    return grown;
  } catch (error) {
    grown.close();
    throw error;
  }
}

function checkCount(table: ShardedTable, count: number): void {
  const most = 2 ** 31 - 1 - table.rows;
  if (count < 1 || count > most) throw invalid(table, `${count} new rows; allowed: 1 to ${most}`);
}

const sampledNames: OptionNames<SampledInit> = { count: true, init: true, sampleRows: true, seed: true };

/** Of the form that was chosen: one of three. */
function namesOf(spec: object | null): Readonly<Record<string, true>> {
  if (spec && 'vectors' in spec) return { vectors: true };
  return spec && 'meanOf' in spec ? { meanOf: true } : sampledNames;
}

async function newRows(table: ShardedTable, spec: GrowSpec, signal?: AbortSignal): Promise<Matrix> {
  checkOptionNames(`${table.name}: new rows`, spec, namesOf(spec));
  if ('vectors' in spec) return spec.vectors;
  if ('meanOf' in spec) {
    const empty = spec.meanOf.findIndex(({ length }) => length === 0);
    if (empty >= 0) throw invalid(table, `new row ${empty} is the mean of no rows; allowed: one or more`);
    const plan = makePlan(jagged(spec.meanOf.map((ids) => Array.from(ids))), table.rows, { pooling: 'mean' });
    const out = allocate(table, spec.meanOf.length);
    await table.pool(plan, out, signal);
    return out;
  }
  const { count, init = 'mean', sampleRows = 65536, seed = 0 } = spec;
  for (const [name, value] of [
    ['count', count],
    ['sampleRows', sampleRows],
  ] as const) {
    if (!Number.isInteger(value) || value < 1)
      throw invalid(table, `${name} ${value}; allowed: an integer of 1 or more`);
  }
  checkCount(table, count);
  if (init !== 'mean' && init !== 'random') throw invalid(table, `init ${JSON.stringify(init)}; allowed: mean, random`);
  const out = allocate(table, count);
  const { mean, deviation } = await moments(table, sampleRows, signal);
  if (init === 'random') new RandomStream(seed, `${table.name}/grown/${table.rows}`).fillNormal(out.data);
  for (let i = 0, at = 0; i < count; i++) {
    for (let j = 0; j < table.dim; j++, at++) out.data[at] = mean[j]! + deviation[j]! * out.data[at]!;
  }
  return out;
}

function allocate({ name, dim }: ShardedTable, rows: number): Matrix {
  try {
    return matrix(rows, dim);
  } catch (cause) {
    const sizeBytes = rows * dim * 4;
    const message = `${name}: no memory for ${rows} new rows, ${sizeBytes} bytes while they are made`;
    throw new FinetableError('OUT_OF_MEMORY', message, { table: name, sizeBytes }, { cause });
  }
}

/** Rows read at a time. */
const blockRows = 4096;

/** Mean and deviation of every dim, over `sampleRows` rows evenly spaced. */
async function moments(
  table: ShardedTable,
  sampleRows: number,
  signal?: AbortSignal,
): Promise<{ mean: Float64Array; deviation: Float64Array }> {
  const { rows, dim } = table;
  const count = Math.min(rows, sampleRows);
  const mean = new Float64Array(dim);
  const squares = new Float64Array(dim);
  for (let begin = 0, seen = 0; begin < count; begin += blockRows) {
    const ids = range(Math.min(blockRows, count - begin)).map((i) => Math.floor(((begin + i) * rows) / count));
    const { data } = await table.gatherAsync(ids, signal);
    for (let at = 0; at < data.length;) {
      // Welford's updates, which keep their digits where the mean is far from 0.
      seen++;
      for (let j = 0; j < dim; j++, at++) {
        const difference = data[at]! - mean[j]!;
        mean[j]! += difference / seen;
        squares[j]! += difference * (data[at]! - mean[j]!);
      }
    }
  }
  return { mean, deviation: squares.map((sum) => Math.sqrt(sum / count)) };
}

/** The new rows in the table's dtype, cut into its columns. */
function encode(table: ShardedTable, values: Matrix): Shard[] {
  const { kernels, dtype, dim, groupDims, rows: firstRow } = table;
  const whole = kernels.createRows(values.rows, dim, dtype, groupDims);
  const shards: Shard[] = [];
  try {
    kernels.scatterRows(whole, range(values.rows), values);
    checkFinite(table, decode(kernels, whole));
    const columns = new Map<number, number>();
    for (const { store, firstColumn = 0 } of table.shards) columns.set(firstColumn, store.dim);
    for (const part of table.devices) columns.set(part.firstColumn, part.columns);
    if (columns.size === 1) return [{ store: whole, firstRow }];
    for (const [firstColumn, width] of columns) {
      shards.push({ store: cut(kernels, whole, firstColumn, width), firstRow, firstColumn });
    }
    whole.close();
    return shards;
  } catch (error) {
    for (const { store } of [...shards, { store: whole }]) store.close();
    throw error;
  }
}

function decode(kernels: Kernels, store: RowStore): Matrix {
  const out = matrix(store.rows, store.dim);
  kernels.gatherRows(store, range(store.rows), out);
  return out;
}

/** Some columns of a store, as they are: scales are those of the whole rows. */
function cut(kernels: Kernels, whole: RowStore, firstColumn: number, columns: number): RowStore {
  const { rows, groupDims } = whole;
  const dtype = whole.dtype as ShardedTable['dtype'];
  const format = { dtype, dim: columns, groupDims: Math.min(groupDims, columns) };
  const part = kernels.createRows(rows, columns, dtype, format.groupDims);
  const [width, stride] = [rowBytes(dtype, columns), rowBytes(dtype, whole.dim)];
  copy(0, stride, rowBytes(dtype, firstColumn), 0, width);
  if (groupDims > 0) {
    const wholeScales = 4 * rowScales({ dtype, dim: whole.dim, groupDims });
    copy(rows * stride, wholeScales, 4 * Math.floor(firstColumn / groupDims), rows * width, 4 * rowScales(format));
  }
  return part;

  /** `width` bytes of every row, from byte `at` of each. */
  function copy(from: number, stride: number, at: number, to: number, width: number): void {
    const bytes = new Uint8Array(rows * stride);
    kernels.readBytes(whole, from, bytes);
    const out = new Uint8Array(rows * width);
    for (let i = 0; i < rows; i++) out.set(bytes.subarray(i * stride + at, i * stride + at + width), i * width);
    kernels.writeBytes(part, to, out);
  }
}

function checkFinite({ name, kernels, dtype }: ShardedTable, values: Matrix): void {
  const bad = kernels.firstNonFinite(values.data);
  if (bad < 0) return;
  const place = `[${Math.floor(bad / values.cols)}, ${bad % values.cols}]`;
  const message = `${name}: the new rows hold ${values.data[bad]} at ${place}; allowed: finite numbers that ${dtype} can hold`;
  throw new FinetableError('NON_FINITE', message, { table: name });
}

function invalid({ name }: ShardedTable, message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `${name}: ${message}`, { table: name });
}
