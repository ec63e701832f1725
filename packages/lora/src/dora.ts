/**
 * DoRA (Liu et al. 2024) on an embedding: every dim j of the adapted table W + s A B is scaled by magnitude[j] / norm[j], where norm[j]
 * is the length of its column over all V rows, taken for a constant by the gradient.
 *
 * The norms need no pass over the table:
 *
 *     norm[j]² = Σ W[:, j]² + 2 s Σ_k (WᵀA)[j, k] B[k, j] + s² B[:, j]ᵀ (AᵀA) B[:, j]
 *
 * Σ W² is summed once. WᵀA `[D, r]` and AᵀA `[r, r]` get the difference of every row of A that changes, in f64, so a step costs what
 * it touches. They know A as it is stored: in exact mode, rows that are not read keep their last values until `settle`.
 */
import { FinetableError, matrix, range, type Matrix } from '@finetable/core';
import type { ShardedTable } from '@finetable/placement';
import type { RowGroup, RowWatcher } from './group.ts';

/** Rows read at a time. */
const blockRows = 4096;

/** WᵀA and AᵀA of one group; of a dense one, whose B is the identity, `[D]` sums of W A and of A². */
interface Products {
  readonly cross: Float64Array;
  readonly gram: Float64Array;
}

export class ColumnNorms implements RowWatcher {
  /** `[D] f64`: Σ W². */
  readonly baseSquares: Float64Array;
  readonly #table: ShardedTable;
  readonly #products: ReadonlyMap<RowGroup, Products>;

  /**
   * @param baseSquares where they are known; else one pass over the base, which must not be on devices
   * @param rows the first rows of the base, that are summed
   */
  constructor(table: ShardedTable, groups: readonly RowGroup[], baseSquares: Float64Array | null, rows = table.rows) {
    this.#table = table;
    this.baseSquares = baseSquares ?? sumSquares(table, rows);
    this.#products = new Map(
      groups.map((group) => {
        if (group.untouched) {
          const message = `${table.name}: dora with init "keras", where every row of A is other than 0; allowed: sparse, orthogonal, pissa`;
          throw new FinetableError('UNSUPPORTED', message, { table: table.name });
        }
        const { dim } = table;
        const r = group.rank;
        const [cross, gram] = group.b ? [dim * r, r * r] : [dim, dim];
        return [group, { cross: new Float64Array(cross), gram: new Float64Array(gram) }];
      }),
    );
    for (const group of groups) group.watch(this);
  }

  /** What checkpoints keep of a group: sums, in the order of changes. */
  arrays(group: RowGroup): readonly Float64Array[] {
    const { cross, gram } = this.#products.get(group)!;
    return [cross, gram];
  }

  changing(group: RowGroup, slots: Int32Array, change: () => void): void {
    const known = slots.filter((slot) => slot >= 0);
    const before = this.#factors(group, known);
    change();
    this.#add(group, known, before, this.#factors(group, known));
  }

  /** For rows of A that were written, where they had been 0. */
  rebuild(group: RowGroup): void {
    for (const array of this.arrays(group)) array.fill(0);
    for (let slot = 0; slot < group.touchedRows; slot += blockRows) {
      const slots = range(Math.min(blockRows, group.touchedRows - slot)).map((i) => slot + i);
      this.#add(group, slots, matrix(slots.length, group.rank), this.#factors(group, slots));
    }
  }

  /** `[D]`, newly allocated. */
  norms(): Float64Array {
    const squares = this.baseSquares.slice();
    for (const [{ b, rank, scale }, { cross, gram }] of this.#products) {
      if (!b) {
        for (let j = 0; j < squares.length; j++) squares[j]! += 2 * cross[j]! + gram[j]!;
        continue;
      }
      const { cols, data } = b;
      for (let k = 0; k < rank; k++) {
        for (let j = 0; j < cols; j++) squares[j]! += 2 * scale * cross[j * rank + k]! * data[k * cols + j]!;
        for (let l = 0; l < rank; l++) {
          const factor = scale * scale * gram[k * rank + l]!;
          for (let j = 0; j < cols; j++) squares[j]! += factor * data[k * cols + j]! * data[l * cols + j]!;
        }
      }
    }
    // Columns that the delta takes to 0 may come out a little below it.
    return squares.map((square) => Math.sqrt(Math.max(0, square)));
  }

  #factors(group: RowGroup, slots: Int32Array): Matrix {
    const out = matrix(slots.length, group.rank);
    this.#table.kernels.gatherRows(group.factors, slots, out);
    return out;
  }

  #add(group: RowGroup, slots: Int32Array, before: Matrix, after: Matrix): void {
    if (slots.length === 0) return;
    const { kernels, dim } = this.#table;
    const { cross, gram } = this.#products.get(group)!;
    const rowOf = group.slots.rows;
    const base = this.#table.gather(slots.map((slot) => rowOf[slot]!));
    const difference = matrix(after.rows, after.cols);
    for (let i = 0; i < difference.data.length; i++) difference.data[i] = after.data[i]! - before.data[i]!;
    if (!group.b) {
      for (let i = 0, at = 0; i < after.rows; i++) {
        for (let j = 0; j < dim; j++, at++) {
          cross[j]! += base.data[at]! * difference.data[at]!;
          gram[j]! += difference.data[at]! * (after.data[at]! + before.data[at]!);
        }
      }
      return;
    }
    const r = group.rank;
    const product = matrix(dim, r);
    kernels.matmul({ a: base, b: difference, out: product, transposeA: true });
    product.data.forEach((x, i) => (cross[i]! += x));
    // AᵀA - A₀ᵀA₀ = dᵀA + A₀ᵀd.
    const square = matrix(r, r);
    kernels.matmul({ a: difference, b: after, out: square, transposeA: true });
    square.data.forEach((x, i) => (gram[i]! += x));
    kernels.matmul({ a: before, b: difference, out: square, transposeA: true });
    square.data.forEach((x, i) => (gram[i]! += x));
  }
}

/** Σ W² of every column over the first rows, by one pass in blocks. */
function sumSquares(table: ShardedTable, end: number): Float64Array {
  const sums = new Float64Array(table.dim);
  for (let row = 0; row < end; row += blockRows) {
    const first = row;
    const { rows, data } = table.gather(range(Math.min(blockRows, end - row)).map((i) => first + i));
    for (let i = 0, at = 0; i < rows; i++) {
      for (let j = 0; j < sums.length; j++, at++) sums[j]! += data[at]! * data[at]!;
    }
  }
  return sums;
}
