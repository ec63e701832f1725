/**
 * `y[yAt ..] += Σ w x` over four stored rows, rounded to f32 once: the loops that a lookup spends its time in, one for each
 * type, since one for all would be slow for all. Each adds the same numbers in the same order.
 *
 * Reading an element costs more than a few shifts, so all columns of a 32-bit word are taken out of one read. Words are named one by
 * one: taking an array apart is not free within a loop.
 */
import { halfValues } from './codec.ts';

// Numbers that can be written as bits.
const floats = new Float32Array(16);
const bits = new Int32Array(floats.buffer);

/**
 * @param data rows i to i + 3 begin at `data[i][at[i]]`, …
 * @param skip elements of each row to pass over
 */
export function addFourFloats(
  y: Float32Array,
  yAt: number,
  length: number,
  data: readonly Float32Array[],
  at: Int32Array,
  i: number,
  skip: number,
  w: Float64Array,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  let [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [w[i]!, w[i + 1]!, w[i + 2]!, w[i + 3]!];
  const end = yAt + length;
  let c = yAt;
  for (; c + 4 <= end; c += 4) {
    y[c] = y[c]! + w0 * x0[at0]! + w1 * x1[at1]! + w2 * x2[at2]! + w3 * x3[at3]!;
    y[c + 1] = y[c + 1]! + w0 * x0[at0 + 1]! + w1 * x1[at1 + 1]! + w2 * x2[at2 + 1]! + w3 * x3[at3 + 1]!;
    y[c + 2] = y[c + 2]! + w0 * x0[at0 + 2]! + w1 * x1[at1 + 2]! + w2 * x2[at2 + 2]! + w3 * x3[at3 + 2]!;
    y[c + 3] = y[c + 3]! + w0 * x0[at0 + 3]! + w1 * x1[at1 + 3]! + w2 * x2[at2 + 3]! + w3 * x3[at3 + 3]!;
    at0 += 4;
    at1 += 4;
    at2 += 4;
    at3 += 4;
  }
  for (; c < end; c++) y[c] = y[c]! + w0 * x0[at0++]! + w1 * x1[at1++]! + w2 * x2[at2++]! + w3 * x3[at3++]!;
}

/** `length` a multiple of four, two words a turn; `skip` counts words. */
export function addFourHalves(
  y: Float32Array,
  yAt: number,
  length: number,
  data: readonly Int32Array[],
  at: Int32Array,
  i: number,
  skip: number,
  w: Float64Array,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  let [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [w[i]!, w[i + 1]!, w[i + 2]!, w[i + 3]!];
  // The bits of an f16, moved to their places in an f32, are its value divided by this, exactly: the difference of the biases.
  const unbias = 2 ** 112;
  const [v0, v1, v2, v3] = [w0 * unbias, w1 * unbias, w2 * unbias, w3 * unbias];
  const end = yAt + length;
  for (let c = yAt; c < end; c += 4) {
    const p0 = x0[at0]!;
    const p1 = x1[at1]!;
    const p2 = x2[at2]!;
    const p3 = x3[at3]!;
    const q0 = x0[(at0 + 1) | 0]!;
    const q1 = x1[(at1 + 1) | 0]!;
    const q2 = x2[(at2 + 1) | 0]!;
    const q3 = x3[(at3 + 1) | 0]!;
    at0 = (at0 + 2) | 0;
    at1 = (at1 + 2) | 0;
    at2 = (at2 + 2) | 0;
    at3 = (at3 + 2) | 0;
    if (((p0 | p1 | p2 | p3 | q0 | q1 | q2 | q3) & 0x40004000) !== 0) {
      y[c] = y[c]! + w0 * low(p0) + w1 * low(p1) + w2 * low(p2) + w3 * low(p3);
      y[c + 1] = y[c + 1]! + w0 * high(p0) + w1 * high(p1) + w2 * high(p2) + w3 * high(p3);
      y[c + 2] = y[c + 2]! + w0 * low(q0) + w1 * low(q1) + w2 * low(q2) + w3 * low(q3);
      y[c + 3] = y[c + 3]! + w0 * high(q0) + w1 * high(q1) + w2 * high(q2) + w3 * high(q3);
      continue;
    }
    bits[0] = ((p0 << 16) >> 3) & 0x8fffe000;
    bits[1] = ((p1 << 16) >> 3) & 0x8fffe000;
    bits[2] = ((p2 << 16) >> 3) & 0x8fffe000;
    bits[3] = ((p3 << 16) >> 3) & 0x8fffe000;
    bits[4] = (p0 >> 3) & 0x8fffe000;
    bits[5] = (p1 >> 3) & 0x8fffe000;
    bits[6] = (p2 >> 3) & 0x8fffe000;
    bits[7] = (p3 >> 3) & 0x8fffe000;
    bits[8] = ((q0 << 16) >> 3) & 0x8fffe000;
    bits[9] = ((q1 << 16) >> 3) & 0x8fffe000;
    bits[10] = ((q2 << 16) >> 3) & 0x8fffe000;
    bits[11] = ((q3 << 16) >> 3) & 0x8fffe000;
    bits[12] = (q0 >> 3) & 0x8fffe000;
    bits[13] = (q1 >> 3) & 0x8fffe000;
    bits[14] = (q2 >> 3) & 0x8fffe000;
    bits[15] = (q3 >> 3) & 0x8fffe000;
    y[c] = y[c]! + v0 * floats[0]! + v1 * floats[1]! + v2 * floats[2]! + v3 * floats[3]!;
    y[c + 1] = y[c + 1]! + v0 * floats[4]! + v1 * floats[5]! + v2 * floats[6]! + v3 * floats[7]!;
    y[c + 2] = y[c + 2]! + v0 * floats[8]! + v1 * floats[9]! + v2 * floats[10]! + v3 * floats[11]!;
    y[c + 3] = y[c + 3]! + v0 * floats[12]! + v1 * floats[13]! + v2 * floats[14]! + v3 * floats[15]!;
  }
}

const low = (word: number): number => halfValues[word & 0xffff]!;
const high = (word: number): number => halfValues[word >>> 16]!;

/** `length` a multiple of two; `skip` counts words. */
export function addFourBfloats(
  y: Float32Array,
  yAt: number,
  length: number,
  data: readonly Int32Array[],
  at: Int32Array,
  i: number,
  skip: number,
  w: Float64Array,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  let [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [w[i]!, w[i + 1]!, w[i + 2]!, w[i + 3]!];
  const end = yAt + length;
  for (let c = yAt; c < end; c += 2) {
    const p0 = x0[at0++]!;
    const p1 = x1[at1++]!;
    const p2 = x2[at2++]!;
    const p3 = x3[at3++]!;
    bits[0] = p0 << 16;
    bits[1] = p1 << 16;
    bits[2] = p2 << 16;
    bits[3] = p3 << 16;
    bits[4] = p0 & 0xffff0000;
    bits[5] = p1 & 0xffff0000;
    bits[6] = p2 & 0xffff0000;
    bits[7] = p3 & 0xffff0000;
    y[c] = y[c]! + w0 * floats[0]! + w1 * floats[1]! + w2 * floats[2]! + w3 * floats[3]!;
    y[c + 1] = y[c + 1]! + w0 * floats[4]! + w1 * floats[5]! + w2 * floats[6]! + w3 * floats[7]!;
  }
}

/** `length` a multiple of four; `skip` counts words. */
export function addFourBytes(
  y: Float32Array,
  yAt: number,
  length: number,
  data: readonly Int32Array[],
  at: Int32Array,
  i: number,
  skip: number,
  w: Float64Array,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  let [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [w[i]!, w[i + 1]!, w[i + 2]!, w[i + 3]!];
  const end = yAt + length;
  for (let c = yAt; c < end; c += 4) {
    const p0 = x0[at0++]!;
    const p1 = x1[at1++]!;
    const p2 = x2[at2++]!;
    const p3 = x3[at3++]!;
    y[c] =
      y[c]! + w0 * ((p0 << 24) >> 24) + w1 * ((p1 << 24) >> 24) + w2 * ((p2 << 24) >> 24) + w3 * ((p3 << 24) >> 24);
    y[c + 1] =
      y[c + 1]! + w0 * ((p0 << 16) >> 24) + w1 * ((p1 << 16) >> 24) + w2 * ((p2 << 16) >> 24) + w3 * ((p3 << 16) >> 24);
    y[c + 2] =
      y[c + 2]! + w0 * ((p0 << 8) >> 24) + w1 * ((p1 << 8) >> 24) + w2 * ((p2 << 8) >> 24) + w3 * ((p3 << 8) >> 24);
    y[c + 3] = y[c + 3]! + w0 * (p0 >> 24) + w1 * (p1 >> 24) + w2 * (p2 >> 24) + w3 * (p3 >> 24);
  }
}

/** `length` a multiple of eight; `skip` counts words. */
export function addFourNibbles(
  y: Float32Array,
  yAt: number,
  length: number,
  data: readonly Int32Array[],
  at: Int32Array,
  i: number,
  skip: number,
  w: Float64Array,
): void {
  const [x0, x1, x2, x3] = [data[i]!, data[i + 1]!, data[i + 2]!, data[i + 3]!];
  let [at0, at1, at2, at3] = [at[i]! + skip, at[i + 1]! + skip, at[i + 2]! + skip, at[i + 3]! + skip];
  const [w0, w1, w2, w3] = [w[i]!, w[i + 1]!, w[i + 2]!, w[i + 3]!];
  const end = yAt + length;
  for (let c = yAt; c < end; c += 8) {
    const p0 = x0[at0++]!;
    const p1 = x1[at1++]!;
    const p2 = x2[at2++]!;
    const p3 = x3[at3++]!;
    y[c] =
      y[c]! + w0 * ((p0 << 28) >> 28) + w1 * ((p1 << 28) >> 28) + w2 * ((p2 << 28) >> 28) + w3 * ((p3 << 28) >> 28);
    y[c + 1] =
      y[c + 1]! + w0 * ((p0 << 24) >> 28) + w1 * ((p1 << 24) >> 28) + w2 * ((p2 << 24) >> 28) + w3 * ((p3 << 24) >> 28);
    y[c + 2] =
      y[c + 2]! + w0 * ((p0 << 20) >> 28) + w1 * ((p1 << 20) >> 28) + w2 * ((p2 << 20) >> 28) + w3 * ((p3 << 20) >> 28);
    y[c + 3] =
      y[c + 3]! + w0 * ((p0 << 16) >> 28) + w1 * ((p1 << 16) >> 28) + w2 * ((p2 << 16) >> 28) + w3 * ((p3 << 16) >> 28);
    y[c + 4] =
      y[c + 4]! + w0 * ((p0 << 12) >> 28) + w1 * ((p1 << 12) >> 28) + w2 * ((p2 << 12) >> 28) + w3 * ((p3 << 12) >> 28);
    y[c + 5] =
      y[c + 5]! + w0 * ((p0 << 8) >> 28) + w1 * ((p1 << 8) >> 28) + w2 * ((p2 << 8) >> 28) + w3 * ((p3 << 8) >> 28);
    y[c + 6] =
      y[c + 6]! + w0 * ((p0 << 4) >> 28) + w1 * ((p1 << 4) >> 28) + w2 * ((p2 << 4) >> 28) + w3 * ((p3 << 4) >> 28);
    y[c + 7] = y[c + 7]! + w0 * (p0 >> 28) + w1 * (p1 >> 28) + w2 * (p2 >> 28) + w3 * (p3 >> 28);
  }
}
