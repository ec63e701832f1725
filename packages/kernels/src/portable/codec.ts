/** How each dtype's elements become numbers and back. Small loops of one type each: what is written for all is slow for all. */
import { f16ToF32, f32ToBf16, f32ToF16, type Matrix } from '@finetable/core';
import type { StoreDtype } from '../kernels.ts';
import type { Elements, PortableRows } from './rows.ts';

/** The f32 value of every f16: 256 KiB. */
export const halfValues = Float32Array.from({ length: 65536 }, (_, bits) => f16ToF32(bits));
const halfBits = new Int32Array(halfValues.buffer);

/** Where unpacked rows go: f32 values that can also be written as bits. */
export interface Scratch {
  readonly floats: Float32Array;
  readonly bits: Int32Array;
}

export function scratchOf(length: number): Scratch {
  const floats = new Float32Array(length);
  return { floats, bits: new Int32Array(floats.buffer) };
}

/**
 * `y[yAt ..] =` the elements from `data[at]` on, without their scale. `length` columns, and for `int4` one more where it is odd
 * and `y` has room.
 */
export function unpack(dtype: StoreDtype, y: Scratch, yAt: number, data: Elements, at: number, length: number): void {
  if (dtype === 'f32') unpackFloats(y.floats, yAt, data as Float32Array, at, length);
  else if (dtype === 'f16') unpackHalves(y.bits, yAt, data as Int16Array, at, length);
  else if (dtype === 'bf16') unpackBfloats(y.bits, yAt, data as Int16Array, at, length);
  else if (dtype === 'int8') unpackBytes(y.floats, yAt, data as Int8Array, at, length);
  else unpackNibbles(y.floats, yAt, data as Int8Array, at, length);
}

function unpackFloats(y: Float32Array, yAt: number, data: Float32Array, at: number, length: number): void {
  for (let i = 0; i < length; i++) y[yAt + i] = data[at + i]!;
}

function unpackHalves(y: Int32Array, yAt: number, data: Int16Array, at: number, length: number): void {
  for (let i = 0; i < length; i++) {
    const half = data[at + i]!;
    // Exponents 0 and 31 (zero, subnormals, infinity, NaN) are looked up. In the others exponent and fraction move to their
    // places in an f32, and the exponent's bias goes from 15 to 127.
    y[yAt + i] = ((half + 0x400) & 0x7800) === 0 ? halfBits[half & 0xffff]! : ((half << 13) & 0x8fffe000) + 0x38000000;
  }
}

function unpackBfloats(y: Int32Array, yAt: number, data: Int16Array, at: number, length: number): void {
  for (let i = 0; i < length; i++) y[yAt + i] = data[at + i]! << 16;
}

function unpackBytes(y: Float32Array, yAt: number, data: Int8Array, at: number, length: number): void {
  for (let i = 0; i < length; i++) y[yAt + i] = data[at + i]!;
}

function unpackNibbles(y: Float32Array, yAt: number, data: Int8Array, at: number, length: number): void {
  for (let i = 0; i < length; i += 2) {
    const pair = data[at + (i >> 1)]!;
    y[yAt + i] = (pair << 28) >> 28;
    y[yAt + i + 1] = pair >> 4;
  }
}

/** `y[yAt ..] = store[row]`. @param scratch of `dim + 1` values or more */
export function decodeRow(y: Float32Array, yAt: number, store: PortableRows, row: number, scratch: Scratch): void {
  const { dim, groupDims } = store;
  const { floats } = scratch;
  const at = store.seek(row);
  unpack(store.dtype, scratch, 0, store.data, at, dim);
  if (groupDims > 0) {
    for (let c = 0; c < dim; c++) floats[c]! *= store.scales[store.scalesAt + Math.floor(c / groupDims)]!;
  }
  for (let c = 0; c < dim; c++) y[yAt + c] = floats[c]!;
}

/** `out[i] = store[rows[i]]`. */
export function gatherRows(store: PortableRows, rows: Int32Array, out: Matrix): void {
  const scratch = scratchOf(store.dim + 1);
  for (let i = 0; i < rows.length; i++) decodeRow(out.data, i * store.dim, store, rows[i]!, scratch);
}

/** The rows as they are stored. */
export function readRows(store: PortableRows, rows: Int32Array, out: Uint8Array): void {
  const { rowBytes } = store;
  for (let i = 0; i < rows.length; i++) {
    const at = store.seek(rows[i]!);
    const { buffer, byteOffset, BYTES_PER_ELEMENT } = store.data;
    out.set(new Uint8Array(buffer, byteOffset + at * BYTES_PER_ELEMENT, rowBytes), i * rowBytes);
  }
}

/** `store[rows[i]] = values[i]`. */
export function scatterRows(store: PortableRows, rows: Int32Array, { data, cols }: Matrix): void {
  for (let i = 0; i < rows.length; i++) {
    const at = store.seek(rows[i]!);
    const stored = store.data;
    if (store.groupDims > 0) quantizeRow(store, at, data, i * cols);
    else if (store.dtype === 'f16') for (let c = 0; c < cols; c++) stored[at + c] = f32ToF16(data[i * cols + c]!);
    else if (store.dtype === 'bf16') for (let c = 0; c < cols; c++) stored[at + c] = f32ToBf16(data[i * cols + c]!);
    else for (let c = 0; c < cols; c++) stored[at + c] = data[i * cols + c]!;
  }
}

function quantizeRow(store: PortableRows, at: number, x: Float32Array, xAt: number): void {
  const { dim, groupDims, dtype, scales, scalesAt, data } = store;
  const most = dtype === 'int8' ? 127 : 7;
  for (let first = 0, group = 0; first < dim; first += groupDims, group++) {
    const end = Math.min(dim, first + groupDims);
    let peak = 0;
    for (let c = first; c < end; c++) peak = Math.max(peak, Math.abs(x[xAt + c]!));
    const scale = Math.fround(peak / most);
    scales[scalesAt + group] = scale;
    if (dtype === 'int8') {
      for (let c = first; c < end; c++) data[at + c] = quantized(x[xAt + c]!, scale, most);
      continue;
    }
    for (let c = first; c < end; c += 2) {
      const high = c + 1 < end ? quantized(x[xAt + c + 1]!, scale, most) : 0;
      data[at + (c >> 1)] = (quantized(x[xAt + c]!, scale, most) & 15) | (high << 4);
    }
  }
}

/** `x / scale` to the nearest, ties to even: the last place of 1.5 · 2^52 is 1, so adding it rounds. */
function quantized(x: number, scale: number, most: number): number {
  if (scale === 0) return 0;
  // A scale so small that it is subnormal may be less than peak / most.
  const quotient = Math.min(most, Math.max(-most, x / scale));
  return quotient + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;
}
