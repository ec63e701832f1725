/** The inner loops: one stored row at a time, added to a row of a matrix. */
import { f16ToF32 } from '@finetable/core';
import type { PortableRows } from './rows.ts';

/** The f32 value of every f16: 256 KiB. */
const halfValues = Float32Array.from({ length: 65536 }, (_, bits) => f16ToF32(bits));

/** `y[yAt + i] += w * x[xAt + i]`, rounded to f32 at each addition. */
export function addScaled(y: Float32Array, yAt: number, x: Float32Array, xAt: number, w: number, length: number): void {
  for (let i = 0; i < length; i++) y[yAt + i]! += w * x[xAt + i]!;
}

function addScaledHalves(y: Float32Array, yAt: number, x: Uint16Array, xAt: number, w: number, length: number): void {
  for (let i = 0; i < length; i++) y[yAt + i]! += w * halfValues[x[xAt + i]!]!;
}

/** `y[yAt ..] += w * store[row]`. */
export function addRow(y: Float32Array, yAt: number, store: PortableRows, row: number, w: number): void {
  const at = store.seek(row);
  if (store.dtype === 'f32') addScaled(y, yAt, store.data as Float32Array, at, w, store.dim);
  else addScaledHalves(y, yAt, store.data as Uint16Array, at, w, store.dim);
}

/** `y[yAt ..] = store[row]`, decoded. */
export function copyRow(y: Float32Array, yAt: number, store: PortableRows, row: number): void {
  const at = store.seek(row);
  const { data, dim } = store;
  if (store.dtype === 'f16') for (let i = 0; i < dim; i++) y[yAt + i] = halfValues[data[at + i]!]!;
  else for (let i = 0; i < dim; i++) y[yAt + i] = data[at + i]!;
}
