/** Dot products of vectors that belong together: all pairs of an example's, and one with each of a bag's. Sums are f64 until they are stored. */
import type { BagDotsArgs, BagDotsBackwardArgs, PairDotsArgs, PairDotsBackwardArgs } from '../kernels.ts';
import { addScaled } from './vectors.ts';

export function dot(x: Float32Array, xAt: number, y: Float32Array, yAt: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += x[xAt + i]! * y[yAt + i]!;
  return sum;
}

export function pairDots({ vectors, out, firstColumn = 0 }: PairDotsArgs): void {
  const { rows, cols } = vectors[0]!;
  for (let row = 0; row < rows; row++) {
    let at = row * out.cols + firstColumn;
    for (let i = 1; i < vectors.length; i++) {
      for (let j = 0; j < i; j++)
        out.data[at++] = dot(vectors[i]!.data, row * cols, vectors[j]!.data, row * cols, cols);
    }
  }
}

export function pairDotsBackward({ vectors, gradient, firstColumn = 0, outs }: PairDotsBackwardArgs): void {
  const { rows, cols } = vectors[0]!;
  outs.forEach((out, i) => {
    if (!out) return;
    out.data.fill(0);
    for (let row = 0; row < rows; row++) {
      const first = row * gradient.cols + firstColumn;
      for (let j = 0; j < vectors.length; j++) {
        if (j === i) continue;
        const [more, less] = j < i ? [i, j] : [j, i];
        const g = gradient.data[first + (more * (more - 1)) / 2 + less]!;
        addScaled(out.data, row * cols, vectors[j]!.data, row * cols, g, cols);
      }
    }
  });
}

export function bagDots({ x, y, offsets, places, out }: BagDotsArgs): void {
  for (let i = 0; i < x.rows; i++) {
    for (let j = offsets[i]!; j < offsets[i + 1]!; j++) {
      const p = places ? places[j]! : j;
      out[j] = dot(x.data, i * x.cols, y.data, p * x.cols, x.cols);
    }
  }
}

export function bagDotsBackward({ x, y, offsets, places, gradient, xOut, yOut }: BagDotsBackwardArgs): void {
  xOut?.data.fill(0);
  yOut?.data.fill(0);
  for (let i = 0; i < x.rows; i++) {
    for (let j = offsets[i]!; j < offsets[i + 1]!; j++) {
      const p = places ? places[j]! : j;
      if (xOut) addScaled(xOut.data, i * x.cols, y.data, p * x.cols, gradient[j]!, x.cols);
      if (yOut) addScaled(yOut.data, p * x.cols, x.data, i * x.cols, gradient[j]!, x.cols);
    }
  }
}
