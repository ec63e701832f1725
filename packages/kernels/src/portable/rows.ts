/**
 * Row stores without native memory. A hot loop asks `seek(row)` for where a row lies and then reads `data` from there, so
 * a row costs no allocation in either home.
 */
import { closeSync, readSync } from 'node:fs';
import { FinetableError } from '@finetable/core';
import type { FileRows, RowStore, StoreDtype } from '../kernels.ts';
import { elementBytes, storedBytes, withPath } from '../check/stores.ts';

/** f16 rows are bits. */
export type Elements = Float32Array | Uint16Array | Int8Array | Uint8Array | Int32Array;

const arrays = {
  f32: Float32Array,
  f16: Uint16Array,
  bf16: Uint16Array,
  int8: Int8Array,
  int4: Uint8Array,
  i32: Int32Array,
} as const;

// 16 MiB: far below what any typed array may hold, large enough that finding the chunk costs little.
const chunkBytes = 2 ** 24;

export abstract class PortableRows implements RowStore {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: StoreDtype;
  readonly groupDims: number;
  abstract readonly home: 'ram' | 'mapped';
  readonly sizeBytes: number;
  readonly elementBytes: number;
  closed = false;
  /** Where the row of the last `seek` lies; overwritten by the next one. */
  data: Elements;

  constructor(rows: number, dim: number, dtype: StoreDtype, groupDims: number) {
    this.rows = rows;
    this.dim = dim;
    this.dtype = dtype;
    this.groupDims = groupDims;
    this.elementBytes = elementBytes(dtype, 1);
    this.sizeBytes = rows * storedBytes(dtype, dim, groupDims);
    this.data = new arrays[dtype](0);
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
  #chunks: (Elements | undefined)[];

  constructor(rows: number, dim: number, dtype: StoreDtype, groupDims: number) {
    super(rows, dim, dtype, groupDims);
    this.#shift = Math.max(0, Math.floor(Math.log2(chunkBytes / (dim * this.elementBytes))));
    this.#mask = 2 ** this.#shift - 1;
    this.#chunks = new Array<Elements | undefined>(Math.ceil(rows / 2 ** this.#shift));
  }

  seek(row: number): number {
    const chunk = row >>> this.#shift;
    this.data = this.#chunks[chunk] ?? this.#makeChunk(chunk);
    return (row & this.#mask) * this.dim;
  }

  #makeChunk(chunk: number): Elements {
    const perChunk = this.#mask + 1;
    const rows = Math.min(perChunk, this.rows - chunk * perChunk);
    try {
      return (this.#chunks[chunk] = new arrays[this.dtype](rows * this.dim));
    } catch (cause) {
      const bytes = rows * this.dim * this.elementBytes;
      throw new FinetableError(
        'OUT_OF_MEMORY',
        `a row store could not have another ${bytes} bytes`,
        { sizeBytes: bytes },
        { cause },
      );
    }
  }

  /** The stored bytes from `byteOffset` to the end of their chunk; at most `length`. A view, not a copy. */
  #bytesFrom(byteOffset: number, length: number): Uint8Array {
    const perChunk = (this.#mask + 1) * this.dim * this.elementBytes;
    const index = Math.floor(byteOffset / perChunk);
    const chunk = this.#chunks[index] ?? this.#makeChunk(index);
    const within = byteOffset - index * perChunk;
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

  /** Fills the store from an open file. */
  readFile(file: FileRows, descriptor: number): void {
    for (let done = 0; done < this.sizeBytes;) {
      const part = this.#bytesFrom(done, this.sizeBytes - done);
      readFully(file.path, descriptor, part, file.byteOffset + done);
      done += part.length;
    }
  }

  close(): void {
    this.closed = true;
    this.#chunks = [];
    this.data = new arrays[this.dtype](0);
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
  readonly #file: FileRows;
  readonly #descriptor: number;
  readonly #bytes: Uint8Array;
  /** 1 + the row that each place holds; 0 for none. */
  readonly #holds: Float64Array;

  /** Closes `descriptor` when it is closed. */
  constructor(file: FileRows, descriptor: number) {
    super(file.rows, file.dim, file.dtype, file.scales?.groupDims ?? 0);
    this.#file = file;
    this.#descriptor = descriptor;
    const cached = Math.max(1, Math.min(file.rows, Math.floor(cacheBytes / (file.dim * this.elementBytes))));
    this.data = new arrays[file.dtype](cached * file.dim);
    this.#bytes = new Uint8Array(this.data.buffer);
    this.#holds = new Float64Array(cached);
  }

  seek(row: number): number {
    const place = row % this.#holds.length;
    if (this.#holds[place] !== row + 1) {
      const rowBytes = this.dim * this.elementBytes;
      const into = this.#bytes.subarray(place * rowBytes, (place + 1) * rowBytes);
      this.#holds[place] = 0; // a read that fails leaves no row there
      readFully(this.#file.path, this.#descriptor, into, this.#file.byteOffset + row * rowBytes);
      this.#holds[place] = row + 1;
    }
    return place * this.dim;
  }

  readBytes(byteOffset: number, out: Uint8Array): void {
    readFully(this.#file.path, this.#descriptor, out, this.#file.byteOffset + byteOffset);
  }

  close(): void {
    if (!this.closed) closeSync(this.#descriptor);
    this.closed = true;
  }
}

/** @throws INVALID_FILE where the file has become shorter since it was opened */
function readFully(path: string, descriptor: number, out: Uint8Array, position: number): void {
  for (let done = 0; done < out.length;) {
    const count = withPath(path, () => readSync(descriptor, out, done, out.length - done, position + done));
    if (count === 0) {
      throw new FinetableError(
        'INVALID_FILE',
        `${path}: ends at byte ${position + done}, expected ${position + out.length}`,
        {
          file: path,
          expected: position + out.length,
          found: position + done,
        },
      );
    }
    done += count;
  }
}
