/** Parts of tables in files, as the bytes that a store of them has: all elements, row by row without gaps, then all scales. */
import { closeSync, openSync, readSync } from 'node:fs';
import { FinetableError, rowBytes } from '@finetable/core';
import { withPath } from '../check/stores.ts';
import type { Descriptors } from '../implementation.ts';
import type { FileRows, TablePart } from '../kernels.ts';

/** What is read at once of rows that do not lie side by side. */
const blockBytes = 2 ** 22;

/** `rowBytes` of each row of a file's matrix whose rows are `stride` bytes apart. */
class Stretch {
  readonly path: string;
  readonly descriptor: number;
  readonly byteOffset: number;
  readonly rowBytes: number;
  readonly stride: number;

  constructor(path: string, descriptor: number, byteOffset: number, rowBytes: number, stride: number) {
    this.path = path;
    this.descriptor = descriptor;
    this.byteOffset = byteOffset;
    this.rowBytes = rowBytes;
    this.stride = stride;
  }

  readRow(row: number, out: Uint8Array, at: number): void {
    this.#read(out, at, this.rowBytes, row * this.stride);
  }

  /** Bytes of the stretch's rows, put side by side, from `from` on. */
  readBytes(from: number, out: Uint8Array): void {
    if (this.rowBytes === this.stride) return this.#read(out, 0, out.length, from);
    const first = Math.floor(from / this.rowBytes);
    const last = Math.floor((from + out.length - 1) / this.rowBytes);
    const most = Math.max(1, Math.floor(blockBytes / this.stride));
    const block = new Uint8Array((Math.min(most, last - first + 1) - 1) * this.stride + this.rowBytes);
    let done = 0;
    for (let row = first; row <= last; row += most) {
      const rows = Math.min(most, last - row + 1);
      this.#read(block, 0, (rows - 1) * this.stride + this.rowBytes, row * this.stride);
      for (let i = 0; i < rows; i++) {
        const within = row + i === first ? from - first * this.rowBytes : 0;
        const count = Math.min(this.rowBytes - within, out.length - done);
        out.set(block.subarray(i * this.stride + within, i * this.stride + within + count), done);
        done += count;
      }
    }
  }

  /** @throws INVALID_FILE where the file has become shorter since it was opened */
  #read(out: Uint8Array, at: number, length: number, from: number): void {
    const { path, descriptor } = this;
    const position = this.byteOffset + from;
    for (let done = 0; done < length;) {
      const count = withPath(path, () => readSync(descriptor, out, at + done, length - done, position + done));
      if (count === 0) {
        const [expected, found] = [position + length, position + done];
        throw new FinetableError('INVALID_FILE', `${path}: ends at byte ${found}, expected ${expected}`, {
          file: path,
          expected,
          found,
        });
      }
      done += count;
    }
  }
}

/** A part of a file's table. */
export class FilePart {
  readonly #elements: Stretch;
  readonly #scales: Stretch | null;
  readonly #elementBytes: number;

  constructor({ path, byteOffset, dim, dtype, scales }: FileRows, part: TablePart, descriptors: Descriptors) {
    const { firstRow, firstColumn, columns } = part;
    const stride = rowBytes(dtype, dim);
    const bytes = rowBytes(dtype, columns);
    const begin = byteOffset + firstRow * stride + rowBytes(dtype, firstColumn);
    this.#elements = new Stretch(path, descriptors.rows, begin, bytes, stride);
    this.#elementBytes = part.rows * bytes;
    this.#scales = null;
    if (scales && descriptors.scales !== null) {
      const { groupDims } = scales;
      const scalesStride = 4 * Math.ceil(dim / groupDims);
      // A part lies within one group, or begins with one.
      const firstGroup = Math.floor(firstColumn / groupDims);
      const endGroup = Math.ceil((firstColumn + columns) / groupDims);
      const scalesBegin = scales.byteOffset + firstRow * scalesStride + 4 * firstGroup;
      const scalesBytes = 4 * (endGroup - firstGroup);
      this.#scales = new Stretch(scales.path, descriptors.scales, scalesBegin, scalesBytes, scalesStride);
    }
  }

  readElements(row: number, out: Uint8Array, at: number): void {
    this.#elements.readRow(row, out, at);
  }

  /** Does nothing for rows without scales. */
  readScales(row: number, out: Uint8Array, at: number): void {
    this.#scales?.readRow(row, out, at);
  }

  /** Bytes `[byteOffset, byteOffset + out.length)`, all elements first. */
  readBytes(byteOffset: number, out: Uint8Array): void {
    const elements = out.subarray(0, Math.max(0, this.#elementBytes - byteOffset));
    const scales = out.subarray(elements.length);
    if (elements.length > 0) this.#elements.readBytes(byteOffset, elements);
    if (scales.length > 0) this.#scales!.readBytes(byteOffset + elements.length - this.#elementBytes, scales);
  }

  /** Closes the descriptors. */
  close(): void {
    closeSync(this.#elements.descriptor);
    if (this.#scales) closeSync(this.#scales.descriptor);
  }
}

/** Descriptors of a file's rows and scales, for a store that reads rows later than it is opened. */
export function openFiles({ path, scales }: FileRows): Descriptors {
  const rows = withPath(path, () => openSync(path, 'r'));
  try {
    return { rows, scales: scales ? withPath(scales.path, () => openSync(scales.path, 'r')) : null };
  } catch (error) {
    closeSync(rows);
    throw error;
  }
}
