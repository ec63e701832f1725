/** Nearest rows: every score of every row, the best k of each query kept in a heap. */
import { matrix, type Matrix } from '@finetable/core';
import type { NearestArgs, Shard, TouchedRows } from '../kernels.ts';
import { decodeRow, scratchOf, type Scratch } from './codec.ts';
import type { PortableRows } from './rows.ts';
import { addProduct, addScaled } from './vectors.ts';

/** Rows decoded at once; each query meets all of them while they are in cache. A multiple of four. */
const blockRows = 64;

/** Below this a sum of squares is that of a zero vector: the inverse of its root would not be a normal f32. */
const leastSquare = 2 ** -252;

export function nearest({ base, tableRows, queries, metric, delta, rows, scores }: NearestArgs): void {
  const count = scores.cols;
  const vectors = matrix(blockRows, queries.cols);
  const factors = new Float32Array(delta ? delta.factors.dim : 0);
  const scratch = scratchOf(Math.max(queries.cols, factors.length) + 1);
  const rowFactors = new Float64Array(blockRows).fill(1);
  const queryFactors = new Float64Array(queries.rows).fill(1);
  const sums = new Float64Array(4);
  if (metric === 'cosine') inverseNorms(queries, queries.rows, queryFactors);
  let touched = 0;
  for (let first = 0; first < tableRows; first += blockRows) {
    const length = Math.min(blockRows, tableRows - first);
    decodeRows(base, first, length, vectors, scratch);
    if (delta) touched = addTouched(delta, touched, first, length, vectors, factors, scratch);
    if (metric === 'cosine') inverseNorms(vectors, length, rowFactors);
    for (let query = 0; query < queries.rows; query++) {
      for (let i = 0; i < length; i += 4) {
        // Beyond the table's end lie rows of an earlier block: their products are not looked at.
        dotFour(queries, query, vectors, i, sums);
        for (let j = 0; j < 4 && i + j < length; j++) {
          // -0 is no other score than 0.
          const score = Math.fround(sums[j]! * rowFactors[i + j]! * queryFactors[query]!) + 0;
          const row = first + i + j;
          if (row < count) put(scores.data, rows, query * count, row, score, row);
          else if (isWorse(scores.data[query * count]!, rows[query * count]!, score, row))
            replaceWorst(scores.data, rows, query * count, count, score, row);
        }
      }
    }
  }
  for (let query = 0; query < queries.rows; query++) sortHeap(scores.data, rows, query * count, count);
}

/** Rows `[first, first + length)` of a table, from all its column groups. */
function decodeRows(base: readonly Shard[], first: number, length: number, out: Matrix, scratch: Scratch): void {
  for (const { store, firstRow, firstColumn = 0 } of base) {
    const end = Math.min(first + length, firstRow + store.rows);
    for (let row = Math.max(first, firstRow); row < end; row++)
      decodeRow(out.data, (row - first) * out.cols + firstColumn, store as PortableRows, row - firstRow, scratch);
  }
}

/**
 * Adds the delta to the touched ones of rows `[first, first + length)`, as a lookup of each alone does.
 * @param at the first touched row that is not before `first`
 * @returns the first one after
 */
function addTouched(
  { rows, slots, factors, b, scale }: TouchedRows,
  at: number,
  first: number,
  length: number,
  vectors: Matrix,
  a: Float32Array,
  scratch: Scratch,
): number {
  for (; at < rows.length && rows[at]! < first + length; at++) {
    if (slots[at]! < 0) continue;
    const to = (rows[at]! - first) * vectors.cols;
    decodeRow(a, 0, factors as PortableRows, slots[at]!, scratch);
    if (b === null) addScaled(vectors.data, to, a, 0, scale, vectors.cols);
    else addProduct(vectors.data, to, a, 0, 1, b.rows, b.data, b.cols, scale);
  }
  return at;
}

/** `out[i]` = 1 / |row i|, 0 for a zero row. */
function inverseNorms({ data, cols }: Matrix, count: number, out: Float64Array): void {
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let at = i * cols; at < (i + 1) * cols; at++) sum += data[at]! * data[at]!;
    out[i] = sum < leastSquare ? 0 : 1 / Math.sqrt(sum);
  }
}

/** Products of a query and four rows: JavaScript waits for each addition, but four sums wait together. */
function dotFour(queries: Matrix, query: number, vectors: Matrix, row: number, sums: Float64Array): void {
  const { cols, data: q } = queries;
  const x = vectors.data;
  const from = query * cols;
  const at0 = row * cols;
  const at1 = at0 + cols;
  const at2 = at1 + cols;
  const at3 = at2 + cols;
  let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0];
  for (let d = 0; d < cols; d++) {
    const value = q[from + d]!;
    sum0 += value * x[at0 + d]!;
    sum1 += value * x[at1 + d]!;
    sum2 += value * x[at2 + d]!;
    sum3 += value * x[at3 + d]!;
  }
  sums[0] = sum0;
  sums[1] = sum1;
  sums[2] = sum2;
  sums[3] = sum3;
}

/** Whether a score ranks after another: NaN after everything, equal ones by ascending row. */
function isWorse(score: number, row: number, other: number, otherRow: number): boolean {
  if (Number.isNaN(score)) return !Number.isNaN(other) || row > otherRow;
  return score < other || (score === other && row > otherRow);
}

// A heap per query in the outputs themselves, from `base`: the worst on top.

/** Appends to a heap of `size`. */
function put(scores: Float32Array, rows: Int32Array, base: number, size: number, score: number, row: number): void {
  let at = size;
  while (at > 0) {
    const above = (at - 1) >> 1;
    if (!isWorse(score, row, scores[base + above]!, rows[base + above]!)) break;
    scores[base + at] = scores[base + above]!;
    rows[base + at] = rows[base + above]!;
    at = above;
  }
  scores[base + at] = score;
  rows[base + at] = row;
}

/** Puts a candidate into a heap of `size` in place of its worst. */
function replaceWorst(
  scores: Float32Array,
  rows: Int32Array,
  base: number,
  size: number,
  score: number,
  row: number,
): void {
  let at = 0;
  for (;;) {
    let below = 2 * at + 1;
    if (below >= size) break;
    const other = below + 1;
    if (other < size && isWorse(scores[base + other]!, rows[base + other]!, scores[base + below]!, rows[base + below]!))
      below = other;
    if (!isWorse(scores[base + below]!, rows[base + below]!, score, row)) break;
    scores[base + at] = scores[base + below]!;
    rows[base + at] = rows[base + below]!;
    at = below;
  }
  scores[base + at] = score;
  rows[base + at] = row;
}

/** A heap becomes a list, the best first: its worst goes to the end, and the rest is a smaller heap. */
function sortHeap(scores: Float32Array, rows: Int32Array, base: number, size: number): void {
  for (let last = size - 1; last > 0; last--) {
    const [score, row] = [scores[base + last]!, rows[base + last]!];
    const [worst, worstRow] = [scores[base]!, rows[base]!];
    replaceWorst(scores, rows, base, last, score, row);
    scores[base + last] = worst;
    rows[base + last] = worstRow;
  }
}
