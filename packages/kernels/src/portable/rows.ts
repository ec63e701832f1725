/**
 * Row stores without native memory. A hot loop asks `seek(row)` for where a row lies and then reads `data` and `scales` from
 * there, so a row costs no allocation in either home.
 */
import { FinetableError } from '@finetable/core';
import type { RowStore, StoreDtype } from '../kernels.ts';
import { elementBytes } from '../check/stores.ts';
import type { FilePart } from './files.ts';

/** f16 and bf16 rows are bits, int4 rows pairs of columns. */
export type Elements = Float32Array | Int16Array | Int8Array | Int32Array;

const arrays = {
  f32: Float32Array,
  f16: Int16Array,
  bf16: Int16Array,
  int8: Int8Array,
  int4: Int8Array,
  i32: Int32Array,
} as const;

// 2 GiB, whose elements an int32 counts. Rows of one chunk are read in one loop over one array; memory of a chunk that was never
// written costs nothing.
const chunkBytes = 2 ** 31;

export abstract class PortableRows implements RowStore {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: StoreDtype;
  readonly groupDims: number;
  abstract readonly home: 'ram' | 'mapped';
  readonly sizeBytes: number;
  /** Bytes of a row's elements. */
  readonly rowBytes: number;
  /** Scales of a row. */
  readonly groups: number;
  /** Rows are whole numbers of 32-bit words, and not f32. */
  readonly inWords: boolean;
  /** From a row to the next in `data`. */
  readonly stride: number;
  closed = false;
  /** Where the row of the last `seek` lies; overwritten by the next one. */
  data: Elements;
  /** The scales of that row, from `scalesAt` on. */
  scales: Float32Array;
  scalesAt = 0;

  constructor(rows: number, dim: number, dtype: StoreDtype, groupDims: number) {
    this.rows = rows;
    this.dim = dim;
    this.dtype = dtype;
    this.groupDims = groupDims;
    this.rowBytes = elementBytes(dtype, dim);
    this.groups = groupDims === 0 ? 0 : Math.ceil(dim / groupDims);
    this.inWords = dtype !== 'f32' && this.rowBytes % 4 === 0;
    this.stride = this.rowBytes / arrays[dtype].BYTES_PER_ELEMENT;
    this.sizeBytes = rows * (this.rowBytes + 4 * this.groups);
    this.data = new arrays[dtype](0);
    this.scales = new Float32Array(0);
  }

  /** Index in `data` of the row's first element. */
  abstract seek(row: number): number;
  abstract readBytes(byteOffset: number, out: Uint8Array): void;
  abstract close(): void;
}

/** Chunks of a power of two of rows, made when first touched. */
export class RamRows extends PortableRows {
  readonly home = 'ram';
  /** `row >> shift` is the chunk, `row & mask` the row in it. */
  readonly #shift: number;
  readonly #mask: number;
  #elements: (Elements | undefined)[];
  /** The elements again; empty if not `inWords`. */
  #words: Int32Array[] = [];
  #scales: (Float32Array | undefined)[];

  constructor(rows: number, dim: number, dtype: StoreDtype, groupDims: number) {
    super(rows, dim, dtype, groupDims);
    this.#shift = Math.max(0, Math.floor(Math.log2(chunkBytes / this.rowBytes)));
    this.#mask = 2 ** this.#shift - 1;
    const chunks = Math.ceil(rows / 2 ** this.#shift);
    this.#elements = new Array<Elements | undefined>(chunks);
    this.#scales = new Array<Float32Array | undefined>(chunks);
  }

  seek(row: number): number {
    const chunk = row >>> this.#shift;
    const within = row & this.#mask;
    this.data = this.#elements[chunk] ?? this.#makeChunk(chunk);
    if (this.groups > 0) {
      this.scales = this.#scales[chunk]!;
      this.scalesAt = within * this.groups;
    }
    return within * this.stride;
  }

  /** Seeks rows `ids[i]`, i in `[first, end)`: each begins at `data[i][at[i]]`. */
  seekRows(ids: Int32Array, first: number, end: number, data: Elements[], at: Int32Array): void {
    const [elements, shift, mask, stride] = [this.#elements, this.#shift, this.#mask, this.stride];
    for (let i = first; i < end; i++) {
      const row = ids[i]!;
      data[i] = elements[row >>> shift] ?? this.#makeChunk(row >>> shift);
      at[i] = (row & mask) * stride;
    }
  }

  /** The words of rows that were sought, where they are `inWords`. */
  seekWords(ids: Int32Array, first: number, end: number, words: Int32Array[]): void {
    const [chunks, shift] = [this.#words, this.#shift];
    for (let i = first; i < end; i++) words[i] = chunks[ids[i]! >>> shift]!;
  }

  /** The scales of rows that were sought. */
  seekScales(ids: Int32Array, first: number, end: number, scales: Float32Array[], scalesAt: Int32Array): void {
    const [chunks, shift, mask, groups] = [this.#scales, this.#shift, this.#mask, this.groups];
    for (let i = first; i < end; i++) {
      scales[i] = chunks[ids[i]! >>> shift]!;
      scalesAt[i] = (ids[i]! & mask) * groups;
    }
  }

  #makeChunk(chunk: number): Elements {
    const perChunk = this.#mask + 1;
    const rows = Math.min(perChunk, this.rows - chunk * perChunk);
    try {
      this.#scales[chunk] = new Float32Array(rows * this.groups);
      const elements = new arrays[this.dtype](rows * this.stride);
      if (this.inWords) this.#words[chunk] = new Int32Array(elements.buffer);
      return (this.#elements[chunk] = elements);
    } catch (cause) {
      const sizeBytes = rows * (this.rowBytes + 4 * this.groups);
      throw new FinetableError(
        'OUT_OF_MEMORY',
        `a row store could not have another ${sizeBytes} bytes`,
        { sizeBytes },
        { cause },
      );
    }
  }

  /** The stored bytes from `byteOffset` to the end of their chunk; at most `length`. A view, not a copy. */
  #bytesFrom(byteOffset: number, length: number): Uint8Array {
    const elements = this.rows * this.rowBytes;
    const inScales = byteOffset >= elements;
    const perChunk = (this.#mask + 1) * (inScales ? 4 * this.groups : this.rowBytes);
    const offset = inScales ? byteOffset - elements : byteOffset;
    const index = Math.floor(offset / perChunk);
    if (!this.#elements[index]) this.#makeChunk(index);
    const chunk = (inScales ? this.#scales : this.#elements)[index]!;
    const within = offset - index * perChunk;
    return new Uint8Array(chunk.buffer, within, Math.min(length, chunk.byteLength - within));
  }

  readBytes(byteOffset: number, out: Uint8Array): void {
    for (let done = 0; done < out.length;) {
      const part = this.#bytesFrom(byteOffset + done, out.length - done);
      out.set(part, done);
      done += part.length;
    }
  }

  writeBytes(byteOffset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const part = this.#bytesFrom(byteOffset + done, bytes.length - done);
      part.set(bytes.subarray(done, done + part.length));
      done += part.length;
    }
  }

  /** Fills the store from the file that holds its rows. */
  readFile(file: FilePart): void {
    for (let done = 0; done < this.sizeBytes;) {
      const part = this.#bytesFrom(done, this.sizeBytes - done);
      file.readBytes(done, part);
      done += part.length;
    }
  }

  close(): void {
    this.closed = true;
    this.#elements = [];
    this.#words = [];
    this.#scales = [];
    this.data = new arrays[this.dtype](0);
    this.scales = new Float32Array(0);
  }
}

/** Memory for rows of one file: as much as a call to the system for every row costs, these save. */
const cacheBytes = 64 * 2 ** 20;

/**
 * Rows read from a file when they are first needed, and kept in a direct-mapped cache: row i has one place, i modulo the
 * cache's rows. Rows of a file do not change, so nothing in it goes stale. A descriptor that is never closed stays open
 * as long as the process.
 */
export class FileBackedRows extends PortableRows {
  readonly home = 'mapped';
  readonly #file: FilePart;
  readonly #elementBytes: Uint8Array;
  readonly #scaleBytes: Uint8Array;
  /** 1 + the row that each place holds; 0 for none. */
  readonly #holds: Float64Array;

  /** Closes `file` when it is closed. */
  constructor(file: FilePart, rows: number, dim: number, dtype: StoreDtype, groupDims: number) {
    super(rows, dim, dtype, groupDims);
    this.#file = file;
    const cached = Math.max(1, Math.min(rows, Math.floor(cacheBytes / (this.rowBytes + 4 * this.groups))));
    this.data = new arrays[dtype](cached * this.stride);
    this.scales = new Float32Array(cached * this.groups);
    this.#elementBytes = new Uint8Array(this.data.buffer);
    this.#scaleBytes = new Uint8Array(this.scales.buffer);
    this.#holds = new Float64Array(cached);
  }

  seek(row: number): number {
    const place = row % this.#holds.length;
    this.scalesAt = place * this.groups;
    if (this.#holds[place] !== row + 1) {
      this.#holds[place] = 0; // a read that fails leaves no row there
      this.#file.readElements(row, this.#elementBytes, place * this.rowBytes);
      this.#file.readScales(row, this.#scaleBytes, 4 * this.scalesAt);
      this.#holds[place] = row + 1;
    }
    return place * this.stride;
  }

  readBytes(byteOffset: number, out: Uint8Array): void {
    this.#file.readBytes(byteOffset, out);
  }

  close(): void {
    if (!this.closed) this.#file.close();
    this.closed = true;
  }
}
