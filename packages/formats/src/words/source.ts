/** A file read forwards through one buffer that only grows for a record that does not fit. */
import { FinetableError } from '@finetable/core';
import type { InputFile } from '../io.ts';

export const tab = 0x09;
export const lineFeed = 0x0a;
export const carriageReturn = 0x0d;
export const space = 0x20;

/** Longer than any word with its vector: 16 MiB are a million numbers. */
const longestRecordBytes = 2 ** 24;

export class ByteSource {
  readonly #file: InputFile;
  #buffer: Uint8Array;
  #position: number;
  /** The bytes read and not yet taken are `bytes[begin, end)`. */
  begin = 0;
  end = 0;

  /** @param position where to begin in the file */
  constructor(file: InputFile, bufferBytes = 2 ** 20, position = 0) {
    this.#file = file;
    this.#position = position;
    this.#buffer = new Uint8Array(bufferBytes);
  }

  /** Valid until the next `more`. */
  get bytes(): Uint8Array {
    return this.#buffer;
  }

  /** Reads on; `begin` and `end` move. False at the end of the file. */
  async more(): Promise<boolean> {
    if (this.#position === this.#file.bytes) return false;
    const kept = this.end - this.begin;
    if (kept > longestRecordBytes) {
      const message = `${this.#file.path}: a line or word of more than ${longestRecordBytes} bytes; is this a word vector file?`;
      throw new FinetableError('INVALID_FILE', message, { file: this.#file.path });
    }
    if (kept > this.#buffer.length / 2) {
      const larger = new Uint8Array(this.#buffer.length * 2);
      larger.set(this.#buffer.subarray(this.begin, this.end));
      this.#buffer = larger;
    } else this.#buffer.copyWithin(0, this.begin, this.end);
    const count = Math.min(this.#file.bytes - this.#position, this.#buffer.length - kept);
    await this.#file.read(this.#buffer.subarray(kept, kept + count), this.#position);
    this.#position += count;
    this.begin = 0;
    this.end = kept + count;
    return true;
  }
}
