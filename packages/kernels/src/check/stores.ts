/** Checks of row stores, shards and the files behind them. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { FinetableError, formatBytes, type RowDtype } from '@finetable/core';
import type { Implementation } from '../implementation.ts';
import type { Delta, FileRows, RowStore, Shard, StoreDtype } from '../kernels.ts';
import { checkBytes, checkInteger, checkInts, checkMatrix, checkNumber, refuse } from './values.ts';
import { checkIndices } from './plan.ts';

export const storeDtypeBytes: Readonly<Record<StoreDtype, number>> = { f32: 4, f16: 2, i32: 4 };

// 64 TiB: half of what x86-64 gives a process to address. A larger size is a mistake, not a table.
const largestStore = 2 ** 46;
// A row of 2^24 f32 is 64 MiB; a portable store needs a row to fit one typed array.
const widestRow = 2 ** 24;

// `max_rank` of native/ops.h, which keeps a pooled factor row on the stack. A larger rank is no low-rank delta.
const mostRank = 4096;

export function checkShape(where: string, rows: number, dim: number, dtype: StoreDtype): void {
  checkInteger(where, 'rows', rows, 0, 0x7fffffff);
  checkInteger(where, 'dim', dim, 1, widestRow);
  if (!Object.hasOwn(storeDtypeBytes, dtype)) refuse(where, 'dtype', `must be f32, f16 or i32, found ${String(dtype)}`);
  const sizeBytes = rows * dim * storeDtypeBytes[dtype];
  if (sizeBytes > largestStore) {
    throw new FinetableError(
      'OUT_OF_MEMORY',
      `${where}: [${rows}, ${dim}] ${dtype} is ${formatBytes(sizeBytes)}; at most ${formatBytes(largestStore)}`,
      { sizeBytes },
    );
  }
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
    refuse(where, name, 'must hold f32 or f16, found i32; readBytes and writeBytes take any store');
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

/** Ascending shards of one width that cover `[0, tableRows)`. */
export function checkShards(
  kernels: Implementation,
  where: string,
  shards: readonly Shard[],
  tableRows: number,
  dim: number,
): void {
  if (!Array.isArray(shards) || shards.length === 0) refuse(where, 'base', 'must be a list of at least one shard');
  let covered = 0;
  shards.forEach(({ store, firstRow }, i) => {
    checkFloatStore(kernels, where, `base[${i}].store`, store, { dim });
    if (firstRow !== covered) refuse(where, `base[${i}].firstRow`, `must be ${covered}, found ${firstRow}`);
    covered += store.rows;
  });
  if (covered < tableRows) refuse(where, 'base', `must cover the plan's ${tableRows} rows, found ${covered}`);
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

/**
 * Opens a file that holds all of `rows`.
 * @throws NOT_FOUND, IO, INVALID_FILE
 */
export function openFile({ path, byteOffset, rows, dim, dtype }: FileRows): number {
  const where = 'openRows';
  if (typeof path !== 'string') refuse(where, 'path', 'must be a string');
  checkShape(where, rows, dim, dtype);
  if ((dtype as StoreDtype) === 'i32') refuse(where, 'dtype', 'must be f32 or f16, found i32');
  checkInteger(where, 'byteOffset', byteOffset, 0, Number.MAX_SAFE_INTEGER);
  const descriptor = withPath(path, () => openSync(path, 'r'));
  try {
    const stat = withPath(path, () => fstatSync(descriptor));
    const needed = byteOffset + rows * dim * storeDtypeBytes[dtype satisfies RowDtype];
    if (!stat.isFile()) throw new FinetableError('INVALID_FILE', `${path}: not a regular file`, { file: path });
    if (stat.size < needed) {
      throw new FinetableError(
        'INVALID_FILE',
        `${path}: too short for [${rows}, ${dim}] ${dtype} from byte ${byteOffset}: needs ${needed} bytes, found ${stat.size}`,
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
