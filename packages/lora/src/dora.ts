/**
 * DoRA (Liu et al. 2024) on an embedding: every dim j of the adapted table W + s A B is scaled by magnitude[j] / norm[j], where norm[j]
 * is the length of its column over all V rows, taken for a constant by the gradient.
 *
 * The norms need no pass over the table:
 *
 *     norm[j]² = Σ W[:, j]² + 2 s Σ_k (AᵀW)[k, j] B[k, j] + s² B[:, j]ᵀ (AᵀA) B[:, j]
 *
 * Σ W² is summed once. AᵀW `[r, D]` and AᵀA `[r, r]` get the difference of every row of A that changes, in f64, so a step costs what
 * it touches. They know every row of A as its last update left it, or `settle`: in exact mode, steps that a row skipped are counted
 * with its next.
 */
import { FinetableError, matrix, range, Scratch, type Matrix } from '@finetable/core';
import type { ShardedTable } from '@finetable/placement';
import type { RowGroup, RowWatcher } from './group.ts';

/** Rows read at a time. */
const blockRows = 4096;

/** AᵀW and AᵀA of one group; of a dense one, whose B is the identity, `[D]` sums of W A and of A². */
interface Products {
  readonly cross: Float64Array;
  readonly gram: Float64Array;
}

export class ColumnNorms implements RowWatcher {
  /** `[D] f64`: Σ W². */
  readonly baseSquares: Float64Array;
  readonly #table: ShardedTable;
  readonly #products: ReadonlyMap<RowGroup, Products>;
  /** Rows that were brought forward, as they were before. */
  readonly #brought = new Map<RowGroup, { readonly slots: Int32Array; readonly before: Matrix }>();
  readonly #scratch = new Scratch();

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
    this.#settle(group);
    const { cross, gram } = this.#products.get(group)!;
    return [cross, gram];
  }

  /** Rows that a lookup brings forward: counted with the update that follows, or before any other change. */
  bringing(group: RowGroup, slots: Int32Array, change: () => void): void {
    this.#settle(group);
    const before = this.#factors(`${group.name}/before`, group, slots);
    change();
    this.#brought.set(group, { slots: slots.slice(), before });
  }

  updating(group: RowGroup, rows: Int32Array, slots: Int32Array, members: Int32Array | null, change: () => void): void {
    const brought = this.#brought.get(group);
    if (!brought) return this.changing(group, slots, change);
    this.#brought.delete(group);
    const { before } = brought;
    const own = members
      ? pickRows(before, members, this.#scratch.matrix('members', members.length, group.rank))
      : before;
    change();
    this.#add(group, slots, own, rows);
  }

  changing(group: RowGroup, slots: Int32Array, change: () => void): void {
    this.#settle(group);
    const before = this.#factors(`${group.name}/before`, group, slots);
    change();
    this.#add(group, slots, before);
  }

  #settle(group: RowGroup): void {
    const brought = this.#brought.get(group);
    if (!brought) return;
    this.#brought.delete(group);
    this.#add(group, brought.slots, brought.before);
  }

  /** For rows of A that were written, where they had been 0. */
  rebuild(group: RowGroup): void {
    this.#brought.delete(group);
    for (const array of this.arrays(group)) array.fill(0);
    for (let slot = 0; slot < group.touchedRows; slot += blockRows) {
      const slots = range(Math.min(blockRows, group.touchedRows - slot)).map((i) => slot + i);
      this.#add(group, slots, matrix(slots.length, group.rank));
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
        for (let j = 0; j < cols; j++) squares[j]! += 2 * scale * cross[k * cols + j]! * data[k * cols + j]!;
        for (let l = 0; l < rank; l++) {
          const factor = scale * scale * gram[k * rank + l]!;
          for (let j = 0; j < cols; j++) squares[j]! += factor * data[k * cols + j]! * data[l * cols + j]!;
        }
      }
    }
    // Columns that the delta takes to 0 may come out a little below it.
    return squares.map((square) => Math.sqrt(Math.max(0, square)));
  }

  /** A of these slots, zeros for -1. */
  #factors(name: string, group: RowGroup, slots: Int32Array): Matrix {
    const out = this.#scratch.matrix(name, slots.length, group.rank);
    const known = slots.map((slot) => Math.max(0, slot));
    this.#table.kernels.gatherRows(group.factors, known, out);
    slots.forEach((slot, i) => {
      if (slot < 0) out.data.fill(0, i * group.rank, (i + 1) * group.rank);
    });
    return out;
  }

  #add(group: RowGroup, slots: Int32Array, before: Matrix, rows = rowsIn(group, slots)): void {
    if (slots.length === 0) return;
    const { kernels, dim, shards } = this.#table;
    const { cross, gram } = this.#products.get(group)!;
    if (group.b && shards.length === 1) {
      kernels.addRowProducts({ base: shards[0]!.store, rows, factors: group.factors, slots, before, cross, gram });
      return;
    }
    const base = this.#table.gather(rows, this.#scratch.matrix('base', rows.length, dim));
    if (group.b) {
      const store = kernels.createRows(rows.length, dim, 'f32');
      const each = range(rows.length);
      kernels.scatterRows(store, each, base);
      kernels.addRowProducts({ base: store, rows: each, factors: group.factors, slots, before, cross, gram });
      store.close();
      return;
    }
    const after = this.#factors('after', group, slots);
    const difference = this.#scratch.matrix('difference', after.rows, dim);
    for (let i = 0; i < difference.data.length; i++) difference.data[i] = after.data[i]! - before.data[i]!;
    const sums = new Float32Array(dim);
    const count = (x: Matrix, y: Matrix, out: Float64Array): void => {
      kernels.columnDots(x, y, sums);
      for (let j = 0; j < dim; j++) out[j]! += sums[j]!;
    };
    // A² - A₀² = d (A + A₀)
    count(base, difference, cross);
    count(difference, after, gram);
    count(difference, before, gram);
  }
}

/** Those without a slot have no difference, whatever their base. */
function rowsIn(group: RowGroup, slots: Int32Array): Int32Array {
  const rowOf = group.slots.rows;
  return slots.map((slot) => (slot < 0 ? 0 : rowOf[slot]!));
}

function pickRows({ cols, data }: Matrix, rows: Int32Array, out: Matrix): Matrix {
  rows.forEach((row, i) => out.data.set(data.subarray(row * cols, (row + 1) * cols), i * cols));
  return out;
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
