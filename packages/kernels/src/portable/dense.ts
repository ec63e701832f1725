/** The dense operations that objectives need, over f32 matrices. Sums of a row or a column are f64 until they are stored. */
import type { Matrix } from '@finetable/core';
import type { CrossEntropyArgs, MatmulArgs } from '../kernels.ts';
import { dot } from './dots.ts';
import { addProduct, addScaled } from './vectors.ts';

export function matmul({ a, b, out, transposeA, transposeB, scale = 1 }: MatmulArgs): void {
  if (transposeB) return multiplyTransposedB(a, b, out, scale);
  const [row, step, terms] = transposeA ? [1, a.cols, a.rows] : [a.cols, 1, a.cols];
  out.data.fill(0);
  for (let i = 0; i < out.rows; i++) {
    addProduct(out.data, i * out.cols, a.data, i * row, step, terms, b.data, b.cols, scale);
  }
}

function multiplyTransposedB(a: Matrix, b: Matrix, out: Matrix, scale: number): void {
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.rows; j++)
      out.data[i * b.rows + j] = scale * dot(a.data, i * a.cols, b.data, j * b.cols, a.cols);
  }
}

export function addToRows(x: Matrix, row: Float32Array): void {
  for (let i = 0; i < x.rows; i++) addScaled(x.data, i * x.cols, row, 0, 1, x.cols);
}

export function scaleColumns(x: Matrix, row: Float32Array): void {
  for (let i = 0, at = 0; i < x.rows; i++) {
    for (let c = 0; c < x.cols; c++, at++) x.data[at]! *= row[c]!;
  }
}

export function sumRows(x: Matrix, out: Float32Array): void {
  const sums = new Float64Array(x.cols);
  for (let i = 0; i < x.rows; i++) {
    for (let c = 0; c < x.cols; c++) sums[c]! += x.data[i * x.cols + c]!;
  }
  out.set(sums);
}

export function columnDots(x: Matrix, y: Matrix, out: Float32Array): void {
  const sums = new Float64Array(x.cols);
  for (let i = 0, at = 0; i < x.rows; i++) {
    for (let c = 0; c < x.cols; c++, at++) sums[c]! += x.data[at]! * y.data[at]!;
  }
  out.set(sums);
}

/** The largest logit is subtracted first, so that no exponential overflows. */
export function softmaxCrossEntropy({ logits, labels, losses, gradient, scale = 1 }: CrossEntropyArgs): void {
  const { data, cols } = logits;
  const exponentials = new Float64Array(cols);
  for (let i = 0; i < logits.rows; i++) {
    const at = i * cols;
    const label = labels[i]!;
    let most = -Infinity;
    for (let c = 0; c < cols; c++) most = Math.max(most, data[at + c]!);
    let sum = 0;
    for (let c = 0; c < cols; c++) sum += exponentials[c] = Math.exp(data[at + c]! - most);
    losses[i] = Math.log(sum) + most - data[at + label]!;
    if (!gradient) continue;
    for (let c = 0; c < cols; c++) gradient.data[at + c] = (scale * exponentials[c]!) / sum;
    gradient.data[at + label] = scale * (exponentials[label]! / sum - 1);
  }
}

export function normalizeRows(x: Matrix, norms: Float32Array): void {
  for (let i = 0; i < x.rows; i++) {
    const at = i * x.cols;
    const norm = Math.sqrt(dot(x.data, at, x.data, at, x.cols));
    norms[i] = norm;
    if (norm === 0) continue;
    for (let c = 0; c < x.cols; c++) x.data[at + c]! /= norm;
  }
}

export function normalizeRowsBackward(y: Matrix, norms: Float32Array, gradient: Matrix): void {
  const g = gradient.data;
  for (let i = 0; i < y.rows; i++) {
    const at = i * y.cols;
    const norm = norms[i]!;
    const along = dot(g, at, y.data, at, y.cols);
    for (let c = 0; c < y.cols; c++) g[at + c] = norm === 0 ? 0 : (g[at + c]! - along * y.data[at + c]!) / norm;
  }
}

export function sumSquares(x: Float32Array): number {
  return dot(x, 0, x, 0, x.length);
}

export function scaleInPlace(x: Float32Array, factor: number): void {
  for (let i = 0; i < x.length; i++) x[i]! *= factor;
}

export function firstNonFinite(x: Float32Array): number {
  for (let i = 0; i < x.length; i++) if (!Number.isFinite(x[i]!)) return i;
  return -1;
}
