/** The rows of an adapted table, as a file of some dtype stores them: base rows in, merged rows out, a block at a time. */
import {
  FinetableError,
  makePlan,
  matrix,
  range,
  rowBytes,
  rowScales,
  storedRowBytes,
  type Matrix,
  type RowFormat,
} from '@finetable/core';
import type { TableBlock } from '@finetable/formats';
import type { Kernels, RowStore } from '@finetable/kernels';
import type { StoredRows } from '@finetable/placement';
import type { Adapter } from '../adapter.ts';
import { ChangedRows } from './changed-rows.ts';

/** f32 values of a block: 4 MiB. */
const blockValues = 2 ** 20;

export const blockRowsOf = (dim: number): number => Math.max(1, Math.floor(blockValues / dim));

export class MergedRows {
  readonly changed: ChangedRows;
  readonly blockRows: number;
  readonly #adapter: Adapter;
  readonly #base: StoredRows;
  readonly #format: RowFormat;
  /** Whether unchanged rows keep their bytes; else all go through f32. */
  readonly #keeps: boolean;
  /** Rows as the base stores them, and as the file will. */
  readonly #from: RowBytes;
  readonly #to: RowBytes;
  readonly #values: Float32Array;

  /** @param adapter settled, and not trained while this is in use @param base of its table */
  constructor(adapter: Adapter, base: StoredRows, format: RowFormat) {
    const { kernels, dim, rows } = adapter.table;
    this.changed = new ChangedRows(adapter);
    this.blockRows = Math.min(rows, blockRowsOf(dim));
    this.#adapter = adapter;
    this.#base = base;
    this.#format = format;
    this.#keeps = base.format.dtype === format.dtype && base.format.groupDims === format.groupDims;
    this.#from = new RowBytes(base.format, this.blockRows, kernels);
    this.#to = new RowBytes(format, this.blockRows, kernels);
    this.#values = new Float32Array(this.blockRows * dim);
  }

  /** @throws NON_FINITE naming row and dim of a result that is no number, or that the dtype cannot hold */
  async fill({ firstRow, rows, bytes }: TableBlock, signal?: AbortSignal): Promise<void> {
    const raw = this.#keeps ? bytes : this.#from.bytes(rows);
    await this.#base.read(firstRow, rows, raw, signal);
    const ids = this.#keeps ? this.changed.within(firstRow, rows) : range(rows).map((i) => firstRow + i);
    if (ids.length === 0) return;
    const some = ids.length < rows;
    const values = matrix(ids.length, this.#adapter.table.dim, this.#values.subarray(0, ids.length * this.#adapter.table.dim)); // prettier-ignore
    const from = some ? this.#from.bytes(ids.length) : raw;
    if (some) copyRows(this.#format, 'gather', ids, firstRow, bytes, rows, from);
    this.#from.decode(from, values);
    this.#adapter.addDelta(makePlan({ values: ids, offsets: range(ids.length + 1) }, this.#adapter.table.rows), values);
    await this.#checkResult(ids, values, signal);
    const to = some ? this.#to.bytes(ids.length) : bytes;
    this.#to.encode(values, to, (at, value) => this.#refuseRounding(ids, at, value));
    if (some) copyRows(this.#format, 'scatter', ids, firstRow, bytes, rows, to);
  }

  close(): void {
    this.#from.close();
    this.#to.close();
  }

  async #checkResult(ids: Int32Array, values: Matrix, signal?: AbortSignal): Promise<void> {
    const { table } = this.#adapter;
    const at = table.kernels.firstNonFinite(values.data);
    if (at < 0) return;
    const row = ids[Math.floor(at / table.dim)]!;
    const dim = at % table.dim;
    const base = (await table.gatherAsync(Int32Array.of(row), signal)).data[dim]!;
    const whose = Number.isFinite(base)
      ? 'the base is finite there, so the adapter is not: the training that made it diverged'
      : 'so is the base; mend that row of it';
    throw this.#nonFinite(row, dim, `is ${values.data[at]}; ${whose}`);
  }

  #refuseRounding(ids: Int32Array, at: number, value: number): never {
    const { dim } = this.#format;
    const row = ids[Math.floor(at / dim)]!;
    const allowed = this.#format.dtype === 'f16' ? ', which holds up to 65504' : '';
    throw this.#nonFinite(row, at % dim, `is ${value}, too large for ${this.#format.dtype}${allowed}; write f32`);
  }

  #nonFinite(row: number, dim: number, found: string): FinetableError {
    const { name } = this.#adapter.table;
    const message = `${name}: row ${row}, dim ${dim} of the merged table ${found}. Nothing was written`;
    return new FinetableError('NON_FINITE', message, { table: name, row, dim });
  }
}

/** Rows of one format between stored bytes and f32, by way of a store of the kernels, which thus decide how they round. */
class RowBytes {
  readonly #format: RowFormat;
  readonly #kernels: Kernels;
  readonly #store: RowStore;
  readonly #ids: Int32Array;
  #bytes: Uint8Array | null = null;
  #decoded: Float32Array | null = null;

  constructor(format: RowFormat, rows: number, kernels: Kernels) {
    this.#format = format;
    this.#kernels = kernels;
    this.#store = kernels.createRows(rows, format.dim, format.dtype, format.groupDims);
    this.#ids = range(rows);
  }

  /** Room for the stored bytes of `rows` rows; the same each time. */
  bytes(rows: number): Uint8Array {
    this.#bytes ??= new Uint8Array(this.#ids.length * storedRowBytes(this.#format));
    return this.#bytes.subarray(0, rows * storedRowBytes(this.#format));
  }

  decode(bytes: Uint8Array, values: Matrix): void {
    const { elements, scales, scalesAt } = this.#split(bytes, values.rows);
    this.#kernels.writeBytes(this.#store, 0, elements);
    if (scales.length > 0) this.#kernels.writeBytes(this.#store, scalesAt, scales);
    this.#kernels.gatherRows(this.#store, this.#ids.subarray(0, values.rows), values);
  }

  /** @param refuse is told the place and value of a finite number that came out infinite */
  encode(values: Matrix, bytes: Uint8Array, refuse: (at: number, value: number) => never): void {
    const { rows, cols, data } = values;
    const ids = this.#ids.subarray(0, rows);
    this.#kernels.scatterRows(this.#store, ids, values);
    if (this.#format.dtype !== 'f32') {
      this.#decoded ??= new Float32Array(this.#ids.length * cols);
      const decoded = matrix(rows, cols, this.#decoded.subarray(0, data.length));
      this.#kernels.gatherRows(this.#store, ids, decoded);
      const at = this.#kernels.firstNonFinite(decoded.data);
      if (at >= 0) refuse(at, data[at]!);
    }
    const { elements, scales, scalesAt } = this.#split(bytes, rows);
    this.#kernels.readBytes(this.#store, 0, elements);
    if (scales.length > 0) this.#kernels.readBytes(this.#store, scalesAt, scales);
  }

  close(): void {
    this.#store.close();
  }

  #split(bytes: Uint8Array, rows: number): { elements: Uint8Array; scales: Uint8Array; scalesAt: number } {
    const width = rowBytes(this.#format.dtype, this.#format.dim);
    return {
      elements: bytes.subarray(0, rows * width),
      scales: bytes.subarray(rows * width),
      scalesAt: this.#ids.length * width,
    };
  }
}

/** Stored bytes of rows `ids` from a block to rows of their own, or back. @param block of `rows` rows from `firstRow` on */
function copyRows(
  format: RowFormat,
  way: 'gather' | 'scatter',
  ids: Int32Array,
  firstRow: number,
  block: Uint8Array,
  rows: number,
  own: Uint8Array,
): void {
  let [blockAt, ownAt] = [0, 0];
  for (const width of [rowBytes(format.dtype, format.dim), 4 * rowScales(format)]) {
    for (let i = 0; i < ids.length; i++) {
      const inBlock = blockAt + (ids[i]! - firstRow) * width;
      const inOwn = ownAt + i * width;
      if (way === 'gather') own.set(block.subarray(inBlock, inBlock + width), inOwn);
      else block.set(own.subarray(inOwn, inOwn + width), inBlock);
    }
    blockAt += rows * width;
    ownAt += ids.length * width;
  }
}
