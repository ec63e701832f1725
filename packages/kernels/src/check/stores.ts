/** Checks of row stores, shards and the files behind them. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { FinetableError, formatBytes, rowBytes, rowDtypes, type Matrix } from '@finetable/core';
import type { Descriptors, Implementation } from '../implementation.ts';
import type { Delta, FileRows, LookupDelta, Overlay, RowStore, Shard, StoreDtype, TablePart } from '../kernels.ts';
import {
  checkApart,
  checkBytes,
  checkFloats,
  checkInteger,
  checkInts,
  checkMatrix,
  checkNumber,
  refuse,
} from './values.ts';
import { checkIndices } from './plan.ts';

// 64 TiB: half of what x86-64 gives a process to address. A larger size is a mistake, not a table.
const largestStore = 2 ** 46;
// A row of 2^24 f32 is 64 MiB; a portable store needs a row to fit one typed array.
const widestRow = 2 ** 24;

// `max_rank` of native/ops.h, which keeps a pooled factor row on the stack. A larger rank is no low-rank delta.
const mostRank = 4096;

const storeDtypes: readonly StoreDtype[] = [...rowDtypes, 'i32'];

/** Bytes of the elements of a row. */
export const elementBytes = (dtype: StoreDtype, dim: number): number =>
  dtype === 'i32' ? 4 * dim : rowBytes(dtype, dim);

/** All bytes of a row, its scales included. */
export const storedBytes = (dtype: StoreDtype, dim: number, groupDims: number): number =>
  elementBytes(dtype, dim) + (groupDims === 0 ? 0 : 4 * Math.ceil(dim / groupDims));

export function checkShape(where: string, rows: number, dim: number, dtype: StoreDtype): void {
  checkInteger(where, 'rows', rows, 0, 0x7fffffff);
  checkInteger(where, 'dim', dim, 1, widestRow);
  if (!storeDtypes.includes(dtype)) refuse(where, 'dtype', `must be ${storeDtypes.join(', ')}; found ${String(dtype)}`);
  const sizeBytes = rows * storedBytes(dtype, dim, 0);
  if (sizeBytes > largestStore) {
    throw new FinetableError(
      'OUT_OF_MEMORY',
      `${where}: [${rows}, ${dim}] ${dtype} is ${formatBytes(sizeBytes)}; at most ${formatBytes(largestStore)}`,
      { sizeBytes },
    );
  }
}

/** @returns columns that share a scale, at most all; where none are given, one group or none, as the dtype has it */
export function checkGroupDims(
  where: string,
  name: string,
  dtype: StoreDtype,
  dim: number,
  groupDims?: number,
): number {
  const scaled = dtype === 'int8' || dtype === 'int4';
  const allowed = !scaled ? [0] : dtype === 'int8' ? [dim] : [32, 64, 128, dim];
  const found = groupDims ?? (scaled ? dim : 0);
  if (!allowed.includes(found)) refuse(where, name, `of ${dtype} must be ${allowed.join(', ')}; found ${found}`);
  return Math.min(found, dim);
}

/** An open store of this implementation. */
export function checkStore(
  kernels: Implementation,
  where: string,
  name: string,
  store: RowStore,
  expected: { dtype?: StoreDtype; dim?: number; rows?: number; writable?: boolean } = {},
): void {
  if (!kernels.owns(store)) refuse(where, name, `must be a row store made by the ${kernels.name} kernels`);
  if (store.closed) throw new FinetableError('CLOSED', `${where}: ${name} is closed`, { argument: name });
  const { dtype, dim, rows, writable } = expected;
  if (dtype !== undefined && store.dtype !== dtype) refuse(where, name, `must hold ${dtype}, found ${store.dtype}`);
  if (dim !== undefined && store.dim !== dim) refuse(where, name, `must have ${dim} columns, found ${store.dim}`);
  if (rows !== undefined && store.rows !== rows) refuse(where, name, `must have ${rows} rows, found ${store.rows}`);
  if (writable && store.home !== 'ram') refuse(where, name, 'must be in RAM to be written, found a mapped file');
}

/** A store of rows that are numbers; step counts are read as bytes, since f32 cannot hold all of them. */
export function checkFloatStore(
  kernels: Implementation,
  where: string,
  name: string,
  store: RowStore,
  expected: { dim?: number; writable?: boolean } = {},
): void {
  checkStore(kernels, where, name, store, expected);
  if (store.dtype === 'i32')
    refuse(where, name, 'must hold numbers, found i32; readBytes and writeBytes take any store');
}

/** Bytes `[byteOffset, byteOffset + bytes.length)` of a store. */
export function checkStretch(
  where: string,
  name: string,
  store: RowStore,
  byteOffset: number,
  bytes: Uint8Array,
): void {
  checkBytes(where, name, bytes);
  if (bytes.length > store.sizeBytes)
    refuse(where, name, `must have at most the store's ${store.sizeBytes} bytes, found ${bytes.length}`);
  checkInteger(where, 'byteOffset', byteOffset, 0, store.sizeBytes - bytes.length);
}

/** Columns of a shard must be groups of the overlay's rows, or lie within one. */
function checkScaleGroups(
  where: string,
  name: string,
  firstColumn: number,
  store: RowStore,
  overlayGroupDims: number,
): void {
  const group = overlayGroupDims;
  if (group === 0) return;
  const whole = firstColumn % group === 0 && store.groupDims === Math.min(group, store.dim);
  const within = Math.floor(firstColumn / group) === Math.floor((firstColumn + store.dim - 1) / group);
  if (!whole && !(within && store.groupDims === store.dim))
    refuse(
      where,
      name,
      `must have the overlay's groups of ${group} columns, found groups of ${store.groupDims} from column ${firstColumn}`,
    );
}

/**
 * Shards in column groups, each of which covers `[0, tableRows)`.
 * @param overlay where given, column groups may have gaps; `needed` are then the rows that must be somewhere
 */
export function checkShards(
  kernels: Implementation,
  where: string,
  shards: readonly Shard[],
  tableRows: number,
  dim: number,
  overlay: Overlay | null = null,
  needed: Int32Array | null = null,
): void {
  if (!Array.isArray(shards) || (shards.length === 0 && !overlay))
    refuse(where, 'base', 'must be a list of at least one shard');
  const format = overlay?.rows ?? shards[0]!.store;
  let [column, columns, row, groupDims] = [0, 0, 0, 0];
  let complete = shards.length > 0;
  shards.forEach(({ store, firstRow, firstColumn = 0 }, i) => {
    const name = `base[${i}]`;
    checkFloatStore(kernels, where, `${name}.store`, store);
    if (store.dtype !== format.dtype)
      refuse(where, `${name}.store`, `must hold ${format.dtype} as the others do, found ${store.dtype}`);
    if (i === 0 || firstColumn !== column) {
      if (i > 0 && row < tableRows) complete = false;
      if (firstColumn !== column + columns)
        refuse(where, `${name}.firstColumn`, `must be ${column + columns}, found ${firstColumn}`);
      [column, columns, row, groupDims] = [firstColumn, store.dim, 0, store.groupDims];
      if (overlay) checkScaleGroups(where, `${name}.store`, column, store, overlay.rows.groupDims);
    }
    if (store.dim !== columns) refuse(where, `${name}.store`, `must have ${columns} columns, found ${store.dim}`);
    if (store.groupDims !== groupDims)
      refuse(where, `${name}.store`, `must have groups of ${groupDims} columns, found ${store.groupDims}`);
    if (firstRow !== row) {
      if (!overlay || !(firstRow > row)) refuse(where, `${name}.firstRow`, `must be ${row}, found ${firstRow}`);
      complete = false;
    }
    row = firstRow + store.rows;
  });
  if (row < tableRows) complete = false;
  if (shards.length > 0 && column + columns !== dim)
    refuse(where, 'base', `must have ${dim} columns, found ${column + columns}`);
  if (overlay) {
    checkFloatStore(kernels, where, 'overlay.rows', overlay.rows, { dim });
    if (needed) {
      checkInts(where, 'overlay.slots', overlay.slots, needed.length);
      checkIndices(kernels, where, 'overlay.slots', overlay.slots, -1, overlay.rows.rows);
    }
  }
  if (complete) return;
  if (!overlay || !needed) refuse(where, 'base', `must cover the plan's ${tableRows} rows, found ${row}`);
  needed.forEach((id, u) => {
    if (overlay.slots[u]! >= 0) return;
    let held = 0;
    for (const { store, firstRow } of shards) if (id >= firstRow && id < firstRow + store.rows) held += store.dim;
    if (held < dim) refuse(where, 'overlay.slots', `must have a copy of row ${id}, which no shard holds`);
  });
}

/** @param dim D of the lookup; @param unique u of its plan */
export function checkDelta(kernels: Implementation, where: string, delta: Delta, dim: number, unique: number): void {
  const { factors, slots, b, scale } = delta;
  checkStore(kernels, where, 'delta.factors', factors, { dtype: 'f32' });
  if (b === null) checkStore(kernels, where, 'delta.factors', factors, { dim });
  else {
    checkMatrix(where, 'delta.b', b, factors.dim, dim);
    if (b.rows > mostRank) refuse(where, 'delta.b', `must have at most ${mostRank} rows, found ${b.rows}`);
  }
  checkNumber(where, 'delta.scale', scale);
  checkInts(where, 'delta.slots', slots, unique);
  checkIndices(kernels, where, 'delta.slots', slots, -1, factors.rows);
}

/** Where a delta keeps `out`, and what it multiplies that by. @param pooled written in the same call */
export function checkScaling(
  where: string,
  { pooledBase, columns, b }: LookupDelta,
  out: Matrix,
  pooled: Matrix | null,
): void {
  if (columns) {
    checkFloats(where, 'delta.columns', columns, out.cols);
    checkApart(where, 'out', out.data, columns);
    if (pooled) checkApart(where, 'pooledFactors', pooled.data, columns);
  }
  if (!pooledBase) return;
  checkMatrix(where, 'delta.pooledBase', pooledBase, out.rows, out.cols);
  const others = [b?.data, pooled?.data, columns].filter((x) => x instanceof Float32Array);
  checkApart(where, 'delta.pooledBase', pooledBase.data, out.data, ...others);
}

/** A checked part of a file's table, the whole where none is given. */
export function checkPart(where: string, file: FileRows, part?: TablePart): TablePart {
  const { rows, dim, dtype, scales } = file;
  const { firstRow, rows: count, firstColumn, columns } = part ?? { firstRow: 0, rows, firstColumn: 0, columns: dim };
  checkInteger(where, 'part.firstRow', firstRow, 0, rows);
  checkInteger(where, 'part.rows', count, 0, rows - firstRow);
  checkInteger(where, 'part.firstColumn', firstColumn, 0, dim - 1);
  checkInteger(where, 'part.columns', columns, 1, dim - firstColumn);
  const group = scales?.groupDims ?? 1;
  const withinGroup = Math.floor(firstColumn / group) === Math.floor((firstColumn + columns - 1) / group);
  if (firstColumn % group !== 0 && !withinGroup)
    refuse(where, 'part.firstColumn', `must be a multiple of ${group}, found ${firstColumn}`);
  if (dtype === 'int4' && firstColumn % 2 !== 0)
    refuse(where, 'part.firstColumn', `of int4 must be even, found ${firstColumn}`);
  return { firstRow, rows: count, firstColumn, columns };
}

/** Columns that share a scale in a part: those of the whole, or all of a part that lies within one group. */
export const partGroupDims = ({ scales }: FileRows, { columns }: TablePart): number =>
  scales ? Math.min(scales.groupDims, columns) : 0;

/**
 * Opens the files that hold `file`'s rows and scales, and calls `body` with them.
 * @throws NOT_FOUND, IO, INVALID_FILE
 */
export function withFiles<T>(file: FileRows, body: (descriptors: Descriptors) => T): T {
  const where = 'openRows';
  const { path, byteOffset, rows, dim, dtype, scales } = file;
  if (typeof path !== 'string') refuse(where, 'path', 'must be a string');
  checkShape(where, rows, dim, dtype);
  if ((dtype as StoreDtype) === 'i32') refuse(where, 'dtype', `must be ${rowDtypes.join(', ')}; found i32`);
  const groupDims = checkGroupDims(where, 'scales.groupDims', dtype, dim, scales?.groupDims ?? 0);
  const what = `[${rows}, ${dim}] ${dtype}`;
  const descriptor = openFile(path, byteOffset, rows * rowBytes(dtype, dim), what);
  let scalesDescriptor: number | null = null;
  try {
    if (scales) {
      const bytes = rows * Math.ceil(dim / groupDims) * 4;
      scalesDescriptor = openFile(scales.path, scales.byteOffset, bytes, `the scales of ${what}`);
    }
    return body({ rows: descriptor, scales: scalesDescriptor });
  } finally {
    closeSync(descriptor);
    if (scalesDescriptor !== null) closeSync(scalesDescriptor);
  }
}

/** A descriptor of a file that holds `sizeBytes` from `byteOffset`. */
function openFile(path: string, byteOffset: number, sizeBytes: number, what: string): number {
  checkInteger('openRows', 'byteOffset', byteOffset, 0, Number.MAX_SAFE_INTEGER);
  const descriptor = withPath(path, () => openSync(path, 'r'));
  try {
    const stat = withPath(path, () => fstatSync(descriptor));
    const needed = byteOffset + sizeBytes;
    if (!stat.isFile()) throw new FinetableError('INVALID_FILE', `${path}: not a regular file`, { file: path });
    if (stat.size < needed) {
      throw new FinetableError(
        'INVALID_FILE',
        `${path}: too short for ${what} from byte ${byteOffset}: needs ${needed} bytes, found ${stat.size}`,
        { file: path, expected: needed, found: stat.size },
      );
    }
    return descriptor;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** Runs a file operation; a refusal of the system becomes NOT_FOUND or IO. */
export function withPath<T>(path: string, operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    const kind = code === 'ENOENT' ? 'NOT_FOUND' : 'IO';
    throw new FinetableError(
      kind,
      `${path}: ${(error as Error).message}`,
      { file: path, errno: code },
      { cause: error },
    );
  }
}
