/**
 * Stored bytes of whole rows, whatever parts hold them: for fingerprints, the cache, and copies of rows on devices. The
 * layout is that of `Kernels.readBytes`: the elements of all rows, row by row, then the scales of all.
 */
import {
  FinetableError,
  isFinetableError,
  rowBytes,
  rowScales,
  storedRowBytes,
  type RowFormat,
  lowerBound,
} from '@finetable/core';
import type { Kernels, RowStore } from '@finetable/kernels';
import type { DevicePart, OpenPart } from './parts.ts';

/** Where a part's rows of a read lie: rows `[begin, end)` of the list, in bytes of their own. */
interface Piece {
  readonly part: OpenPart;
  readonly begin: number;
  readonly end: number;
}

export class RawRows {
  readonly format: RowFormat;
  readonly #table: string;
  readonly #kernels: Kernels;
  readonly #parts: readonly OpenPart[];

  constructor(table: string, format: RowFormat, parts: readonly OpenPart[], kernels: Kernels) {
    this.#table = table;
    this.format = format;
    this.#parts = parts;
    this.#kernels = kernels;
  }

  /** Bytes of `count` rows. */
  sizeBytes(count: number): number {
    return count * storedRowBytes(this.format);
  }

  /** @param rows `[n] i32`, ascending, none with a part on a device @param out `[sizeBytes(n)]`, overwritten */
  readHere(rows: Int32Array, out: Uint8Array): void {
    for (const piece of this.#pieces(rows)) this.#readStore(piece, rows, out);
  }

  /**
   * As `readHere`, for any rows. What is here is read at once; devices are asked together.
   * @throws IO naming the device, or the FinetableError it failed with; INTERRUPTED as soon as the signal says so
   */
  async read(rows: Int32Array, out: Uint8Array, signal?: AbortSignal): Promise<void> {
    const fetches: Promise<void>[] = [];
    for (const piece of this.#pieces(rows)) {
      if ('store' in piece.part) this.#readStore(piece, rows, out);
      else {
        const fetch = this.#fetch(piece.part, piece, rows, out, signal);
        fetch.catch(() => undefined); // where a store fails, nobody waits for it
        fetches.push(fetch);
      }
    }
    if (fetches.length > 0) await unlessAborted(Promise.all(fetches), signal, this.#table);
  }

  *#pieces(rows: Int32Array): Generator<Piece> {
    for (const part of this.#parts) {
      const begin = lowerBound(rows, part.firstRow);
      const end = lowerBound(rows, part.firstRow + part.rows);
      if (begin < end) yield { part, begin, end };
    }
  }

  #readStore(piece: Piece, rows: Int32Array, out: Uint8Array): void {
    const { part, begin, end } = piece;
    if (!('store' in part)) throw new Error('unreachable: a row on a device');
    const { store } = part;
    const bytes = rowBytes(this.format.dtype, store.dim);
    const scaleBytes = 4 * rowScales(store as RowStore & RowFormat);
    const direct = part.columns === this.format.dim;
    const own = direct ? null : new Uint8Array((end - begin) * (bytes + scaleBytes));
    const elements = own ? own.subarray(0, (end - begin) * bytes) : out.subarray(begin * bytes, end * bytes);
    const scalesAt = rows.length * bytes;
    const scales = own
      ? own.subarray((end - begin) * bytes)
      : out.subarray(scalesAt + begin * scaleBytes, scalesAt + end * scaleBytes);
    // Neighbours in one read.
    for (let i = begin; i < end;) {
      let next = i + 1;
      while (next < end && rows[next] === rows[next - 1]! + 1) next++;
      const row = rows[i]! - part.firstRow;
      this.#kernels.readBytes(store, row * bytes, elements.subarray((i - begin) * bytes, (next - begin) * bytes));
      if (scaleBytes > 0) {
        const to = scales.subarray((i - begin) * scaleBytes, (next - begin) * scaleBytes);
        this.#kernels.readBytes(store, store.rows * bytes + row * scaleBytes, to);
      }
      i = next;
    }
    if (own) this.#place(piece, own, out, rows.length);
  }

  async #fetch(part: DevicePart, piece: Piece, rows: Int32Array, out: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { begin, end } = piece;
    const local = rows.slice(begin, end);
    for (let i = 0; i < local.length; i++) local[i]! -= part.firstRow;
    const direct = part.columns === this.format.dim && this.format.groupDims === 0;
    const own = direct
      ? out.subarray(this.sizeBytes(begin), this.sizeBytes(end))
      : new Uint8Array(local.length * storedRowBytes(part.device));
    try {
      await part.device.fetch(local, own, signal);
    } catch (error) {
      if (isFinetableError(error)) throw error;
      throw new FinetableError(
        'IO',
        `${this.#table}: ${local.length} rows could not be fetched from device "${part.name}": ${error instanceof Error ? error.message : String(error)}`,
        { table: this.#table, device: part.name },
        { cause: error },
      );
    }
    if (!direct) this.#place(piece, own, out, rows.length);
  }

  /** Copies a part's rows to their columns. */
  #place({ part, begin, end }: Piece, own: Uint8Array, out: Uint8Array, count: number): void {
    const { dtype, groupDims, dim } = this.format;
    const inner = { dtype, dim: part.columns, groupDims: Math.min(groupDims, part.columns) };
    const firstScale = groupDims === 0 ? 0 : Math.floor(part.firstColumn / groupDims);
    const elements = {
      width: rowBytes(dtype, part.columns),
      stride: rowBytes(dtype, dim),
      at: rowBytes(dtype, part.firstColumn),
    };
    const scales = { width: 4 * rowScales(inner), stride: 4 * rowScales(this.format), at: 4 * firstScale };
    const rows = end - begin;
    copyRows(own, 0, out, begin * elements.stride, rows, elements);
    copyRows(own, rows * elements.width, out, count * elements.stride + begin * scales.stride, rows, scales);
  }
}

function copyRows(
  from: Uint8Array,
  fromAt: number,
  to: Uint8Array,
  toAt: number,
  rows: number,
  { width, stride, at }: { width: number; stride: number; at: number },
): void {
  if (width === stride) {
    to.set(from.subarray(fromAt, fromAt + rows * width), toAt);
    return;
  }
  for (let i = 0; i < rows; i++)
    to.set(from.subarray(fromAt + i * width, fromAt + (i + 1) * width), toAt + i * stride + at);
}

/** The promise, or INTERRUPTED as soon as the signal says so; what becomes of the promise then is nobody's. */
async function unlessAborted(promise: Promise<unknown>, signal: AbortSignal | undefined, table: string): Promise<void> {
  promise.catch(() => undefined);
  if (!signal) {
    await promise;
    return;
  }
  let onAbort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () =>
      reject(new FinetableError('INTERRUPTED', `${table}: interrupted while rows were fetched`, { table }));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
