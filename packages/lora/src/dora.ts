/**
 * DoRA (Liu et al. 2024) on an embedding: every dim j of the adapted table W + s A B is scaled by magnitude[j] / norm[j], where norm[j]
 * is the length of its column over all V rows, taken for a constant by the gradient.
 *
 * The norms need no pass over the table:
 *
 *     norm[j]² = Σ W[:, j]² + 2 s Σ_k (AᵀW)[k, j] B[k, j] + s² B[:, j]ᵀ (AᵀA) B[:, j]
 *
 * Σ W² is summed once. AᵀW `[r, D]` and AᵀA `[r, r]` get the difference of every row of A that changes, in f64, so a step costs what
 * it touches. They count every row of A as its last update left it: reading never changes a training. In exact mode the steps that
 * a row skipped are counted with its next update; what is exported has norms of all rows as they are, by one pass over touched rows.
 */
import { FinetableError, range, Scratch, type Matrix } from '@finetable/core';
import type { RowStore, UpdatedProducts } from '@finetable/kernels';
import type { ShardedTable } from '@finetable/placement';
import type { RowGroup, RowWatcher } from './group.ts';
import type { BaseRows } from './plans.ts';

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
  /** Rows of the base that are counted. */
  readonly #rows: number;
  readonly #products: ReadonlyMap<RowGroup, Products>;
  /** A as it was counted. */
  readonly #counted = new Map<RowGroup, RowStore>();
  readonly #scratch = new Scratch();

  /**
   * @param baseSquares where they are known; else one pass over the base, which must not be on devices
   * @param rows the first rows of the base, that are summed
   */
  constructor(table: ShardedTable, groups: readonly RowGroup[], baseSquares: Float64Array | null, rows = table.rows) {
    this.#table = table;
    this.#rows = rows;
    this.baseSquares = baseSquares ?? sumSquares(table, rows);
    this.#products = new Map(
      groups.map((group) => {
        if (group.untouched) {
          const message = `${table.name}: dora with init "keras", where every row of A is other than 0; allowed: sparse, orthogonal, pissa`;
          throw new FinetableError('UNSUPPORTED', message, { table: table.name });
        }
        return [group, newProducts(group)];
      }),
    );
    for (const group of groups) {
      this.#counted.set(group, table.kernels.createRows(group.factors.rows, group.rank, 'f32'));
      group.watch(this);
    }
  }

  /** Bytes in use: A of touched rows as it was counted, and the sums. */
  get sizeBytes(): number {
    let bytes = this.baseSquares.byteLength;
    for (const [{ touchedRows, rank }, { cross, gram }] of this.#products)
      bytes += 4 * touchedRows * rank + cross.byteLength + gram.byteLength;
    return bytes;
  }

  /** What checkpoints keep of a group: sums, in the order of updates. */
  arrays(group: RowGroup): readonly Float64Array[] {
    const { cross, gram } = this.#products.get(group)!;
    return [cross, gram];
  }

  /** A of a group as it was counted, by slots, as checkpoints keep it. */
  counted(group: RowGroup): RowStore {
    return this.#counted.get(group)!;
  }

  products(group: RowGroup, rows: Int32Array, pooled: BaseRows | null): UpdatedProducts | null {
    const { shards, rows: tableRows } = this.#table;
    if (!group.b || this.#rows < tableRows || (!pooled && shards.length !== 1)) return null;
    const base = pooled ?? { base: shards[0]!.store, rows };
    return { ...base, counted: this.#counted.get(group)!, ...this.#products.get(group)! };
  }

  updated(group: RowGroup, rows: Int32Array, slots: Int32Array): void {
    this.#add(this.#products.get(group)!, group, rows, slots, this.#counted.get(group)!);
  }

  /** For a group that was reset and whose rows of A were written. */
  rebuild(group: RowGroup): void {
    this.#counted.get(group)!.close();
    const counted = this.#table.kernels.createRows(group.factors.rows, group.rank, 'f32');
    this.#counted.set(group, counted);
    const products = this.#products.get(group)!;
    products.cross.fill(0);
    products.gram.fill(0);
    this.#addAll(products, group, counted);
  }

  /** `[D]`, newly allocated. @param exact of all rows of A as they are, rather than as they were counted */
  norms(exact = false): Float64Array {
    const squares = this.baseSquares.slice();
    for (const [group, counted] of this.#products) {
      const products = exact ? newProducts(group) : counted;
      if (exact) this.#addAll(products, group, null);
      addSquares(group, products, squares);
    }
    // Columns that the delta takes to 0 may come out a little below it.
    for (let j = 0; j < squares.length; j++) squares[j] = Math.sqrt(Math.max(0, squares[j]!));
    return squares;
  }

  close(): void {
    for (const store of this.#counted.values()) store.close();
  }

  /** Products of all touched rows, in blocks. */
  #addAll(products: Products, group: RowGroup, counted: RowStore | null): void {
    for (let first = 0; first < group.touchedRows; first += blockRows) {
      const slots = range(Math.min(blockRows, group.touchedRows - first)).map((i) => first + i);
      this.#add(products, group, group.slots.rows.slice(first, first + slots.length), slots, counted);
    }
  }

  /** How rows of A differ from those that were counted, which are brought up to date; from zeros where those are null. */
  #add({ cross, gram }: Products, group: RowGroup, rows: Int32Array, all: Int32Array, counted: RowStore | null): void {
    if (all.length === 0) return;
    const { kernels, dim, shards, rows: tableRows } = this.#table;
    // Rows beyond those that are summed stay out.
    const slots = this.#rows < tableRows ? all.map((slot, i) => (rows[i]! < this.#rows ? slot : -1)) : all;
    const { factors } = group;
    if (group.b && shards.length === 1) {
      kernels.addRowProducts({ base: shards[0]!.store, rows, factors, slots, counted, cross, gram });
      return;
    }
    const base = this.#table.gather(rows, this.#scratch.matrix('base', rows.length, dim));
    if (group.b) {
      kernels.addRowProducts({ base, rows: range(rows.length), factors, slots, counted, cross, gram });
      return;
    }
    const before = this.#scratch.matrix('before', rows.length, dim);
    const after = this.#scratch.matrix('after', rows.length, dim);
    const difference = this.#scratch.matrix('difference', rows.length, dim);
    kernels.gatherRows(factors, all, after);
    if (counted) {
      kernels.gatherRows(counted, all, before);
      kernels.scatterRows(counted, all, after);
    } else before.data.fill(0);
    for (let i = 0; i < difference.data.length; i++) {
      difference.data[i] = slots[Math.floor(i / dim)]! < 0 ? 0 : after.data[i]! - before.data[i]!;
    }
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

function newProducts({ b, rank, table: { dim } }: RowGroup): Products {
  return {
    cross: new Float64Array(b ? rank * dim : dim),
    gram: new Float64Array(b ? rank * rank : dim),
  };
}

/** What a group's delta adds to the squared norms. */
function addSquares({ b, rank, scale }: RowGroup, { cross, gram }: Products, squares: Float64Array): void {
  if (!b) {
    for (let j = 0; j < squares.length; j++) squares[j]! += 2 * cross[j]! + gram[j]!;
    return;
  }
  const { cols, data } = b;
  for (let k = 0; k < rank; k++) {
    const row = k * cols;
    const own = scale * gram[k * rank + k]!;
    for (let j = 0; j < cols; j++) {
      let sum = cross[row + j]!;
      // AᵀA is symmetric.
      for (let l = 0, at = j; l < k; l++, at += cols) sum += scale * gram[k * rank + l]! * data[at]!;
      const x = data[row + j]!;
      squares[j]! += scale * x * (2 * sum + own * x);
    }
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
