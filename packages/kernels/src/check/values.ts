/** Checks of single arguments. A message says where, what is allowed and what was found. */
import { FinetableError, type Matrix } from '@finetable/core';
import type { RowStore } from '../kernels.ts';

export function refuse(where: string, name: string, message: string): never {
  throw new FinetableError('INVALID_ARGUMENT', `${where}: ${name} ${message}`, { argument: name });
}

/** What a wrong value is, in few words. */
function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  return typeof value === 'object' ? (value.constructor?.name ?? 'an object') : `${typeof value} ${String(value)}`;
}

export function checkInteger(where: string, name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    refuse(where, name, `must be an integer from ${low} to ${high}, found ${kindOf(value)}`);
  }
}

/** A finite number with `low <= value`, and `value < limit` where given. */
export function checkNumber(where: string, name: string, value: number, low = -Infinity, limit = Infinity): void {
  if (!Number.isFinite(value) || value < low || value >= limit) {
    const least = low === -Infinity ? '' : ` from ${low}`;
    refuse(
      where,
      name,
      `must be a finite number${least}${limit === Infinity ? '' : ` to below ${limit}`}, found ${kindOf(value)}`,
    );
  }
}

export function checkDoubles(where: string, name: string, x: Float64Array, length: number): void {
  if (!(x instanceof Float64Array)) refuse(where, name, `must be a Float64Array, found ${kindOf(x)}`);
  if (x.length !== length) refuse(where, name, `must have ${length} values, found ${x.length}`);
}

export function checkFloats(where: string, name: string, x: Float32Array, length?: number): void {
  if (!(x instanceof Float32Array)) refuse(where, name, `must be a Float32Array, found ${kindOf(x)}`);
  if (length !== undefined && x.length !== length) refuse(where, name, `must have ${length} values, found ${x.length}`);
}

export function checkInts(where: string, name: string, x: Int32Array, length?: number): void {
  if (!(x instanceof Int32Array)) refuse(where, name, `must be an Int32Array, found ${kindOf(x)}`);
  if (length !== undefined && x.length !== length) refuse(where, name, `must have ${length} values, found ${x.length}`);
}

export function checkBytes(where: string, name: string, x: Uint8Array): void {
  if (!(x instanceof Uint8Array)) refuse(where, name, `must be a Uint8Array, found ${kindOf(x)}`);
}

/** A matrix whose shape agrees with its data, and with `rows` and `cols` where given. */
export function checkMatrix(where: string, name: string, m: Matrix, rows?: number, cols?: number): void {
  if (typeof m !== 'object' || m === null) refuse(where, name, `must be a matrix, found ${kindOf(m)}`);
  checkInteger(where, `${name}.rows`, m.rows, 0, 0x7fffffff);
  checkInteger(where, `${name}.cols`, m.cols, 0, 0x7fffffff);
  checkFloats(where, `${name}.data`, m.data, m.rows * m.cols);
  if ((rows !== undefined && m.rows !== rows) || (cols !== undefined && m.cols !== cols)) {
    refuse(where, name, `must be [${rows ?? 'any'}, ${cols ?? 'any'}], found [${m.rows}, ${m.cols}]`);
  }
}

/** Of an argument that may be a matrix or a store. */
export const isMatrix = (rows: RowStore | Matrix | null): rows is Matrix =>
  typeof rows === 'object' && rows !== null && 'cols' in rows;

/** Outputs are written while inputs are read, so they must not share memory. */
export function checkApart(
  where: string,
  name: string,
  output: ArrayBufferView,
  ...inputs: readonly ArrayBufferView[]
): void {
  for (const input of inputs) {
    const overlaps =
      output.buffer === input.buffer &&
      output.byteOffset < input.byteOffset + input.byteLength &&
      input.byteOffset < output.byteOffset + output.byteLength;
    if (overlaps && output.byteLength > 0 && input.byteLength > 0) refuse(where, name, 'shares memory with an input');
  }
}

/** Matrices of one shape, and one with a column for each pair of them. */
export function checkPairs(
  where: string,
  name: string,
  vectors: readonly Matrix[],
  pairs: Matrix,
  firstColumn = 0,
): void {
  checkInteger(where, 'vectors.length', vectors.length, 2, 1024);
  const { rows, cols } = vectors[0]!;
  vectors.forEach((x, i) => checkMatrix(where, `vectors[${i}]`, x, rows, cols));
  checkMatrix(where, name, pairs, rows);
  const count = (vectors.length * (vectors.length - 1)) / 2;
  if (pairs.cols < count) refuse(where, name, `must have ${count} columns or more, found ${pairs.cols}`);
  checkInteger(where, 'firstColumn', firstColumn, 0, pairs.cols - count);
}
