/**
 * Copies of rows in RAM that stand in for those of a table (see `Overlay` of the kernels): hot rows first, and behind them
 * pages that hold the rows of a batch which live on devices, for as long as the batch needs them.
 */
import { FinetableError, rowBytes, rowScales, storedRowBytes, type RowFormat } from '@finetable/core';
import type { Kernels, RowStore } from '@finetable/kernels';

const pageRows = 1024;
/** 4 Mi rows. Memory is committed as pages are first used. */
const mostPages = 4096;
/** Batches of all rows of a small table that may be under way at once. */
const smallTableBatches = 64;

export class OverlayRows {
  readonly store: RowStore;
  readonly #table: string;
  readonly #kernels: Kernels;
  readonly #format: RowFormat;
  readonly #firstPage: number;
  readonly #pages: number;
  /** Pages used before and free again; those from `#used` on never were. */
  readonly #free: number[] = [];
  #used = 0;

  /** @param hotRows room for the cache @param stagedRows V where rows may have to be fetched, else 0 */
  constructor(table: string, format: RowFormat, hotRows: number, stagedRows: number, kernels: Kernels) {
    this.#table = table;
    this.#kernels = kernels;
    this.#format = format;
    this.#firstPage = hotRows;
    this.#pages = Math.min(mostPages, smallTableBatches * Math.ceil(stagedRows / pageRows));
    const rows = hotRows + this.#pages * pageRows;
    this.store = kernels.createRows(rows, format.dim, format.dtype, format.groupDims);
  }

  /** Room for `count` rows until it is given back. @throws OUT_OF_MEMORY */
  take(count: number): number[] {
    const needed = Math.ceil(count / pageRows);
    const free = this.#free.length + this.#pages - this.#used;
    if (needed > free) {
      throw new FinetableError(
        'OUT_OF_MEMORY',
        `${this.#table}: no room to fetch ${count} rows from devices: ${free * pageRows} of ${this.#pages * pageRows} staged rows are free; release fetched rows sooner, or make batches smaller`,
        { table: this.#table },
      );
    }
    return Array.from({ length: needed }, () => this.#free.pop() ?? this.#used++);
  }

  giveBack(pages: readonly number[]): void {
    this.#free.push(...pages);
  }

  /** The slot of row `i` of those in `pages`. */
  slot(pages: readonly number[], i: number): number {
    return this.#firstPage + pages[Math.floor(i / pageRows)]! * pageRows + (i % pageRows);
  }

  /** Fills pages with `count` rows as `RawRows` reads them. */
  stage(pages: readonly number[], count: number, bytes: Uint8Array): void {
    for (let i = 0; i < count; i += pageRows) {
      this.write(this.slot(pages, i), bytes, count, i, Math.min(pageRows, count - i));
    }
  }

  /** Writes rows `[first, first + rows)` of the `count` in `bytes` to slots from `slot` on. */
  write(slot: number, bytes: Uint8Array, count: number, first = 0, rows = count): void {
    const elements = rowBytes(this.#format.dtype, this.#format.dim);
    const scales = storedRowBytes(this.#format) - elements;
    this.#kernels.writeBytes(this.store, slot * elements, bytes.subarray(first * elements, (first + rows) * elements));
    if (rowScales(this.#format) === 0) return;
    const from = count * elements + first * scales;
    const to = this.store.rows * elements + slot * scales;
    this.#kernels.writeBytes(this.store, to, bytes.subarray(from, from + rows * scales));
  }

  close(): void {
    this.store.close();
  }
}
