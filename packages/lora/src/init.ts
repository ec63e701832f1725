/** How factors start; see `AdapterInit`. */
import { matrix, RandomStream, type Matrix } from '@finetable/core';
import type { ShardedTable } from '@finetable/placement';
import { EigenvalueDecomposition, Matrix as Dense } from 'ml-matrix';
import type { AdapterInit } from './options.ts';

/** B, `[rank, D]`. @param stream names the random numbers */
export function initialB(table: ShardedTable, rank: number, init: AdapterInit, seed: number, stream: string): Matrix {
  const b = matrix(rank, table.dim);
  if (init === 'keras') return b;
  if (init === 'pissa') return principalDirections(table, b);
  new RandomStream(seed, stream).fillNormal(b.data);
  if (init === 'orthogonal') orthogonalize(b);
  return b;
}

/** Gram-Schmidt, twice for rounding (Giraud, Langou and Rozloznik 2005), each row to length √D, that of a normal one. */
function orthogonalize({ rows, cols, data }: Matrix): void {
  for (let i = 0; i < rows; i++) {
    const row = data.subarray(i * cols, (i + 1) * cols);
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const other = data.subarray(j * cols, (j + 1) * cols);
        const share = dot(row, other) / dot(other, other);
        for (let c = 0; c < cols; c++) row[c]! -= share * other[c]!;
      }
    }
    const factor = Math.sqrt(cols / dot(row, row));
    for (let c = 0; c < cols; c++) row[c]! *= factor;
  }
}

function dot(x: Float32Array, y: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}

/** Rows sampled for their principal directions: enough for a covariance of this many dims, whatever V is. */
const sampledRows = (dim: number): number => 16384 + 8 * dim;

/** Row k becomes √σ v, with σ and v the k-th singular value and right singular vector of the base, estimated from evenly spaced rows. */
function principalDirections(table: ShardedTable, b: Matrix): Matrix {
  const { rows, dim, kernels } = table;
  const count = Math.min(rows, sampledRows(dim));
  const sample = table.gather(Int32Array.from({ length: count }, (_, i) => Math.floor((i * rows) / count)));
  const covariance = matrix(dim, dim);
  kernels.matmul({ a: sample, b: sample, out: covariance, transposeA: true, scale: rows / count });
  const symmetric = Dense.from1DArray(dim, dim, covariance.data);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(symmetric, { assumeSymmetric: true });
  // Ascending.
  for (let k = 0; k < b.rows; k++) {
    const which = dim - 1 - k;
    const length = Math.max(0, realEigenvalues[which]!) ** 0.25;
    for (let c = 0; c < dim; c++) b.data[k * dim + c] = length * eigenvectorMatrix.get(c, which);
  }
  return b;
}
