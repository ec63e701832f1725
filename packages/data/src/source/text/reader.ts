/** Reads records of a text file by their places, in any order. */
import { isUtf8 } from 'node:buffer';
import { closeSync } from 'node:fs';
import { upperBound } from '@finetable/core';
import type { FileIndex, Records, TextPlaces } from '../source.ts';
import { csvParser } from './csv.ts';
import { checkUnchanged, fileChanged, openFile, readAt } from '../file.ts';
import { checkRecordBytes, notUtf8 } from './record.ts';
import { jsonlParser } from './jsonl.ts';
import { RecordScanner } from './scan.ts';

/** Appends one record's values, `out[c]` being the wanted column c. @throws INVALID_DATA naming the line */
export type RecordParser = (text: string, line: number, out: readonly unknown[][]) => void;

/** Bytes of neighbours, from `offset` of the file on, and where the records are in it. */
interface Run {
  readonly bytes: Buffer;
  readonly offset: number;
  /** Whether all of it is UTF-8. */
  readonly valid: boolean;
  readonly starts: Float64Array;
  readonly lines: Float64Array;
}

type RecordVisitor = (text: string, line: number) => void;

/** Neighbours are read together up to about this size, so that long records do not pile up as bytes. */
const runBytes = 4 << 20;

/** Reads one file's examples, each at its place. */
export class TextReader {
  readonly values: Records['values'];
  readonly unit = 'line';
  readonly #index: FileIndex;
  readonly #places: TextPlaces;
  readonly #parse: RecordParser;
  readonly #fd: number;
  readonly #keep: boolean;
  /** The whole file, where it is kept, and whether all of it is UTF-8. */
  #whole: Buffer | null = null;
  #wholeValid = false;
  /** Of the window that is read. */
  readonly #blocks = new Map<number, Run>();
  #window: number | null = null;
  /** Kept between reads; strings are decoded out of it. */
  #bytes = Buffer.allocUnsafeSlow(1 << 16);

  /** @param keep the whole file in memory, from the first read on: a read of a short record costs more than its bytes */
  constructor(index: FileIndex, columns: readonly string[], keep = false) {
    const { file, format, path } = index;
    this.#index = index;
    this.#keep = keep;
    this.#places = index.text!;
    this.values = format === 'jsonl' ? 'json' : 'text';
    this.#parse = index.columns
      ? csvParser(file, index.columns, this.#places.delimiter, columns)
      : jsonlParser(file, columns);
    this.#fd = openFile(path, file);
  }

  /**
   * Appends the wanted columns of `rows` (numbers within the file) to `out`, and their lines to `lines` from `at` on.
   * @param window as of `SourceReader.read`
   * @returns bytes read
   * @throws INVALID_DATA naming the line, INVALID_FILE where the file has changed, IO
   */
  read(
    rows: Uint32Array,
    out: readonly unknown[][],
    lines: Float64Array,
    at: number,
    window: number | null = null,
  ): number {
    const visit: RecordVisitor = (text, line) => {
      lines[at++] = line;
      this.#parse(text, line, out);
    };
    return this.#places.stride > 1 && window !== null
      ? this.#readOfBlocks(rows, visit, window)
      : this.#readRecords(rows, visit);
  }

  close(): void {
    closeSync(this.#fd);
  }

  /**
   * Where only some places are noted, finding one record costs reading its neighbours; so of a window, whose records lie in few blocks,
   * the blocks are kept.
   */
  #readOfBlocks(rows: Uint32Array, visit: RecordVisitor, window: number): number {
    checkUnchanged(this.#fd, this.#index);
    if (window !== this.#window) this.#blocks.clear();
    this.#window = window;
    const { blocks } = this.#index;
    let sizeBytes = 0;
    for (const row of rows) {
      const number = upperBound(blocks, row) - 1;
      let block = this.#blocks.get(number);
      if (!block) {
        block = this.#readBlock(blocks[number]!, blocks[number + 1]!);
        this.#blocks.set(number, block);
        sizeBytes += block.bytes.length;
      }
      this.#visit(block, row - blocks[number]!, 1, visit);
    }
    return sizeBytes;
  }

  #readBlock(first: number, end: number): Run {
    const { stride, starts } = this.#places;
    const place = first / stride;
    const offset = starts[place]!;
    const bytes = this.#fill(Buffer.allocUnsafeSlow(starts[Math.ceil(end / stride)]! - offset), offset);
    return { bytes, offset, valid: isUtf8(bytes), ...this.#scan(bytes, offset, place) };
  }

  /** @returns bytes read */
  #readRecords(rows: Uint32Array, visit: RecordVisitor): number {
    checkUnchanged(this.#fd, this.#index);
    const { stride, starts, lines } = this.#places;
    let sizeBytes = 0;
    if (this.#keep && stride === 1) {
      const bytes = this.#bytesAt(0, this.#index.sizeBytes);
      const run = { bytes, offset: 0, valid: this.#wholeValid, starts, lines };
      for (const row of rows) {
        this.#visit(run, row, 1, visit);
        sizeBytes += starts[row + 1]! - starts[row]!;
      }
      return sizeBytes;
    }
    for (let i = 0; i < rows.length;) {
      const first = rows[i]!;
      const begin = starts[Math.floor(first / stride)]!;
      let count = 1;
      while (rows[++i] === first + count && starts[Math.floor((first + count) / stride) + 1]! - begin < runBytes)
        count++;
      sizeBytes += this.#readRun(first, count, visit);
    }
    return sizeBytes;
  }

  /** Records `first .. first + count`, neighbours in the file, with one read. @returns bytes read */
  #readRun(first: number, count: number, visit: RecordVisitor): number {
    const { file } = this.#index;
    const { stride } = this.#places;
    const place = Math.floor(first / stride);
    const end = Math.floor((first + count - 1) / stride) + 1;
    const offset = this.#places.starts[place]!;
    const sizeBytes = this.#places.starts[end]! - offset;
    // A run of several is short, so this is about one record, or those between two places.
    checkRecordBytes(sizeBytes / stride, file, this.#places.lines[place]!);
    const bytes = this.#bytesAt(offset, sizeBytes);
    // Of records between noted places the bytes tell where they are.
    const { starts, lines } = stride === 1 ? this.#places : this.#scan(bytes, offset, place);
    const begin = stride === 1 ? place : first - place * stride;
    // One check for the run, or for the file; which record it was matters only when it fails.
    const valid = this.#wholeValid || isUtf8(bytes);
    this.#visit({ bytes, offset, valid, starts, lines }, begin, count, visit);
    return sizeBytes;
  }

  #visit({ bytes, offset, valid, starts, lines }: Run, begin: number, count: number, visit: RecordVisitor): void {
    const { file } = this.#index;
    for (let i = begin; i < begin + count; i++) {
      const from = starts[i]! - offset;
      let to = starts[i + 1]! - offset;
      checkRecordBytes(to - from, file, lines[i]!);
      if (!valid && !isUtf8(bytes.subarray(from, to))) throw notUtf8(file, lines[i]!);
      while (to > from && (bytes[to - 1] === 10 || bytes[to - 1] === 13)) to--;
      visit(bytes.toString('utf8', from, to), lines[i]!);
    }
  }

  #bytesAt(offset: number, length: number): Buffer {
    const { sizeBytes } = this.#index;
    if (this.#keep) {
      if (!this.#whole) {
        this.#whole = this.#fill(Buffer.allocUnsafeSlow(sizeBytes), 0);
        this.#wholeValid = isUtf8(this.#whole);
      }
      return this.#whole.subarray(offset, offset + length);
    }
    if (this.#bytes.length < length)
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(length, Math.min(2 * this.#bytes.length, runBytes)));
    return this.#fill(this.#bytes.subarray(0, length), offset);
  }

  #fill(bytes: Buffer, offset: number): Buffer {
    const { file } = this.#index;
    if (readAt(this.#fd, file, bytes, 0, bytes.length, offset) < bytes.length) throw fileChanged(file);
    return bytes;
  }

  #scan(bytes: Buffer, start: number, place: number): { readonly starts: Float64Array; readonly lines: Float64Array } {
    const line = this.#places.lines[place]!;
    const scanner = new RecordScanner({ quoted: this.#index.format !== 'jsonl', start, line });
    scanner.scan(bytes, start);
    return scanner.end(this.#index.file, start + bytes.length);
  }
}
