/**
 * The best approximation of a sum of deltas at a given rank, without the V x D or k x D matrix that it approximates.
 *
 * With the sum written as A B, A [k, R] and B [R, D] (see `concatenate`), and A = Q T: A B = Q (T B), and Q's columns are
 * orthonormal, so A B and the small T B [R, D] have the same singular values and the same right singular vectors. Keeping the
 * projection on the first `rank` of those, A B ≈ (A B V) Vᵀ, leaves the error that Eckart and Young (1936) prove smallest:
 * the norm of the singular values left out. Q is not needed, and A is read twice, row by row. Where many deltas make R larger
 * than D, rows of A B are triangulated instead, each made when it is needed: 2 k min(R, D)² operations either way.
 */
import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import { checkFinite, leftFactor, unionRows, type LowRank, type WeightedDelta } from './lowrank.ts';
import { stackedB, stackedRank, walkStacked } from './stack.ts';
import { Triangle } from './triangle.ts';

/**
 * `b` has orthonormal rows, and column c of `a` has the norm of singular value c, largest first: the first columns of one
 * result are the result at a smaller rank. Rows are those that any part touches; scale 1.
 */
export function truncate(parts: readonly WeightedDelta[], dim: number, rank: number): LowRank {
  const rows = unionRows(parts.map(({ delta }) => leftFactor(delta)));
  const stacked = stackedRank(parts);
  const b = stackedB(parts, dim);
  const core = smallCore(parts, rows, b, stacked, dim);
  checkFinite(core, 'combine: the weighted sum'); // of a sum past f64 nothing can be decomposed

  const vectors = rightVectors(core, core.length / dim, dim, rank);
  const back = multiply(b, transpose(vectors, rank, dim), stacked, dim, rank);
  const a = new Float32Array(rows.length * rank);
  const projected = new Float64Array(rank);
  walkStacked(parts, rows, (place, row) => {
    multiplyRow(row, back, projected);
    a.set(projected, place * rank);
  });
  return { rows, a, rank, b: Float32Array.from(vectors), scale: 1 };
}

/** `[min(R, D), D]` with the singular values and the right singular vectors of the sum. */
function smallCore(
  parts: readonly WeightedDelta[],
  rows: Int32Array,
  b: Float32Array,
  stacked: number,
  dim: number,
): Float64Array {
  const triangle = new Triangle(Math.min(stacked, dim));
  if (stacked <= dim) {
    walkStacked(parts, rows, (_place, row) => {
      triangle.add(row);
    });
    return multiply(triangle.factor(), b, stacked, stacked, dim);
  }
  const product = new Float64Array(dim);
  walkStacked(parts, rows, (_place, row) => {
    multiplyRow(row, b, product);
    triangle.add(product);
  });
  return triangle.factor();
}

/** `[rank, n]`: the right singular vectors of `values` [m, n] with the largest singular values. */
function rightVectors(values: Float64Array, m: number, n: number, rank: number): Float64Array {
  const { rightSingularVectors } = new SingularValueDecomposition(Matrix.from1DArray(m, n, values), {
    computeLeftSingularVectors: false,
    autoTranspose: true,
  });
  const vectors = new Float64Array(rank * n);
  for (let c = 0; c < rank; c++) {
    for (let d = 0; d < n; d++) vectors[c * n + d] = rightSingularVectors.get(d, c);
  }
  return vectors;
}

/** `[m, inner]` times `[inner, n]`. */
function multiply(
  left: Float64Array | Float32Array,
  right: Float64Array | Float32Array,
  m: number,
  inner: number,
  n: number,
): Float64Array {
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    multiplyRow(left.subarray(i * inner, (i + 1) * inner), right, out.subarray(i * n, (i + 1) * n));
  }
  return out;
}

/** A row times `[row.length, out.length]`. */
function multiplyRow(row: Float64Array | Float32Array, right: Float64Array | Float32Array, out: Float64Array): void {
  out.fill(0);
  for (let k = 0; k < row.length; k++) {
    const value = row[k]!;
    if (value === 0) continue; // most rows lack some part
    const start = k * out.length;
    for (let j = 0; j < out.length; j++) out[j]! += value * right[start + j]!;
  }
}

function transpose(values: Float64Array, m: number, n: number): Float64Array {
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) out[j * m + i] = values[i * n + j]!;
  }
  return out;
}
