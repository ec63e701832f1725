/**
 * `y[yAt ..] += Σ w x` over four stored rows, rounded to f32 once: the loops that a lookup spends its time in, one for each
 * type, since one for all would be slow for all. Each adds the same numbers in the same order.
 */
import { halfToFloatBits } from './codec.ts';
import type { Elements } from './rows.ts';

/** Rows that were sought: row i begins at `data[i][at[i]]`. */
export interface SoughtRows<T extends Elements = Elements> {
  readonly data: T[];
  readonly at: Int32Array;
}

// Numbers that can be written as bits.
const floats = new Float32Array(4);
const bits = new Int32Array(floats.buffer);

/**
 * @param skip elements of each row to pass over
 * @param factors from `f` on, those of the four rows from row i on
 */
export function addFourFloats(
  y: Float32Array,
  yAt: number,
  length: number,
  { data, at }: SoughtRows<Float32Array>,
  i: number,
  skip: number,
  factors: Float64Array,
  f: number,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  const [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [factors[f]!, factors[f + 1]!, factors[f + 2]!, factors[f + 3]!];
  for (let c = 0; c < length; c++) {
    y[yAt + c] = y[yAt + c]! + w0 * x0[at0 + c]! + w1 * x1[at1 + c]! + w2 * x2[at2 + c]! + w3 * x3[at3 + c]!;
  }
}

export function addFourHalves(
  y: Float32Array,
  yAt: number,
  length: number,
  { data, at }: SoughtRows<Int16Array>,
  i: number,
  skip: number,
  factors: Float64Array,
  f: number,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  const [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [factors[f]!, factors[f + 1]!, factors[f + 2]!, factors[f + 3]!];
  for (let c = 0; c < length; c++) {
    bits[0] = halfToFloatBits(x0[at0 + c]!);
    bits[1] = halfToFloatBits(x1[at1 + c]!);
    bits[2] = halfToFloatBits(x2[at2 + c]!);
    bits[3] = halfToFloatBits(x3[at3 + c]!);
    y[yAt + c] = y[yAt + c]! + w0 * floats[0]! + w1 * floats[1]! + w2 * floats[2]! + w3 * floats[3]!;
  }
}

export function addFourBfloats(
  y: Float32Array,
  yAt: number,
  length: number,
  { data, at }: SoughtRows<Int16Array>,
  i: number,
  skip: number,
  factors: Float64Array,
  f: number,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  const [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [factors[f]!, factors[f + 1]!, factors[f + 2]!, factors[f + 3]!];
  for (let c = 0; c < length; c++) {
    bits[0] = x0[at0 + c]! << 16;
    bits[1] = x1[at1 + c]! << 16;
    bits[2] = x2[at2 + c]! << 16;
    bits[3] = x3[at3 + c]! << 16;
    y[yAt + c] = y[yAt + c]! + w0 * floats[0]! + w1 * floats[1]! + w2 * floats[2]! + w3 * floats[3]!;
  }
}

export function addFourBytes(
  y: Float32Array,
  yAt: number,
  length: number,
  { data, at }: SoughtRows<Int8Array>,
  i: number,
  skip: number,
  factors: Float64Array,
  f: number,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  const [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [factors[f]!, factors[f + 1]!, factors[f + 2]!, factors[f + 3]!];
  for (let c = 0; c < length; c++) {
    y[yAt + c] = y[yAt + c]! + w0 * x0[at0 + c]! + w1 * x1[at1 + c]! + w2 * x2[at2 + c]! + w3 * x3[at3 + c]!;
  }
}

/** `skip` and `length` are columns, two a byte. */
export function addFourNibbles(
  y: Float32Array,
  yAt: number,
  length: number,
  { data, at }: SoughtRows<Int8Array>,
  i: number,
  skip: number,
  factors: Float64Array,
  f: number,
): void {
  const bytes = skip >> 1;
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  const [at0, at1, at2, at3] = [at[i]! + bytes, at[i + 1]! + bytes, at[i + 2]! + bytes, at[i + 3]! + bytes];
  const [w0, w1, w2, w3] = [factors[f]!, factors[f + 1]!, factors[f + 2]!, factors[f + 3]!];
  for (let c = 0; c < length; c += 2) {
    const pair = c >> 1;
    const [p0, p1, p2, p3] = [x0[at0 + pair]!, x1[at1 + pair]!, x2[at2 + pair]!, x3[at3 + pair]!];
    const low = yAt + c;
    y[low] =
      y[low]! + w0 * ((p0 << 28) >> 28) + w1 * ((p1 << 28) >> 28) + w2 * ((p2 << 28) >> 28) + w3 * ((p3 << 28) >> 28);
    if (c + 1 < length) y[low + 1] = y[low + 1]! + w0 * (p0 >> 4) + w1 * (p1 >> 4) + w2 * (p2 >> 4) + w3 * (p3 >> 4);
  }
}
