/** The index pass over a text file: the byte offset and first line of every record. */
import { isUtf8 } from 'node:buffer';
import { closeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { FinetableError } from '@finetable/core';
import { parseCsvHeader } from './csv.ts';
import { invalidData, throwIfStopped } from './errors.ts';
import type { SourceFormat, SourceIndex } from './source.ts';
import { fileChanged, notUtf8, openFile, readAt, recordBytes, statFile } from './text-file.ts';

const newline = 10;
const quote = 34;

export interface IndexOptions {
  readonly signal?: AbortSignal | undefined;
  /** Records to note the places of, which bounds memory; the rest are only counted. Default: all. */
  readonly limit?: number | undefined;
  /** Read at a time; the index does not depend on it. */
  readonly blockBytes?: number | undefined;
}

export async function indexTextFile(
  file: string,
  format: SourceFormat,
  { signal, limit = Infinity, blockBytes = 1 << 20 }: IndexOptions = {},
): Promise<SourceIndex> {
  const fd = openFile(file);
  try {
    const { size: sizeBytes, mtimeMs: modifiedMs } = statFile(fd, file);
    let offset = skipByteOrderMark(fd, file);
    // A CSV header is the first record.
    const headers = format === 'csv' ? 1 : 0;
    const scanner = new RecordScanner(format, offset, limit + headers);
    const block = Buffer.allocUnsafe(Math.min(blockBytes, Math.max(sizeBytes, 1)));
    for (;;) {
      const length = readAt(fd, file, block, 0, block.length, offset);
      if (length === 0) break;
      scanner.scan(block.subarray(0, length), offset);
      offset += length;
      await setImmediate();
      throwIfStopped(signal, file);
    }
    const after = statFile(fd, file);
    if (offset !== sizeBytes || after.size !== sizeBytes || after.mtimeMs !== modifiedMs) throw fileChanged(file);
    const { starts, lines, count } = scanner.end(file, sizeBytes);

    let columns: string[] | null = null;
    if (headers > 0 && count > 0) {
      const header = Buffer.allocUnsafe(recordBytes(starts, lines, 0, file));
      readAt(fd, file, header, 0, header.length, starts[0]!);
      if (!isUtf8(header)) throw notUtf8(file, lines[0]!);
      columns = parseCsvHeader(header.toString().replace(/[\r\n]+$/, ''), file, lines[0]!);
    }
    if (count <= headers) {
      const what = sizeBytes === 0 ? 'the file is empty' : columns ? 'a header and no records' : 'blank lines only';
      throw new FinetableError('INVALID_DATA', `${file}: no examples: ${what}`, { file });
    }
    return {
      format,
      sizeBytes,
      modifiedMs,
      columns,
      examples: lines.length - headers,
      totalExamples: count - headers,
      offsets: share(starts.subarray(headers)),
      lines: share(lines.subarray(headers)),
    };
  } finally {
    closeSync(fd);
  }
}

/**
 * Finds records in blocks that may end anywhere. In CSV a line end inside quotes ends no record; counting quotes is
 * enough to know, since an escaped quote is two. A file that breaks the quoting rules is caught by the parser, at the
 * record in which it begins to.
 */
class RecordScanner {
  readonly #csv: boolean;
  readonly #limit: number;
  #starts = new Float64Array(1024);
  #lines = new Float64Array(1024);
  #count = 0;
  /** Of the record that is being scanned. */
  #start: number;
  #startLine = 1;
  #line = 1;
  #blank = true;
  #quoted = false;

  /** @param limit records whose places are noted */
  constructor(format: SourceFormat, start: number, limit: number) {
    this.#csv = format === 'csv';
    this.#limit = limit;
    this.#start = start;
  }

  scan(block: Buffer, offset: number): void {
    const csv = this.#csv;
    let line = this.#line;
    let blank = this.#blank;
    let quoted = this.#quoted;
    for (let i = 0; i < block.length; i++) {
      const byte = block[i]!;
      if (byte === newline) {
        line++;
        if (quoted) continue;
        if (!blank) this.#push();
        this.#start = offset + i + 1;
        this.#startLine = line;
        blank = true;
      } else if (csv) {
        if (byte === quote) quoted = !quoted;
        if (byte !== 13) blank = false;
        // Most bytes are neither; a loop that only skips them is twice as fast.
        if (!blank) while (i + 1 < block.length && block[i + 1] !== newline && block[i + 1] !== quote) i++;
      } else if (byte !== 32 && byte !== 9 && byte !== 13) {
        blank = false;
        const end = block.indexOf(newline, i + 1);
        i = (end < 0 ? block.length : end) - 1;
      }
    }
    this.#line = line;
    this.#blank = blank;
    this.#quoted = quoted;
  }

  /** Of `count` records, the places of the first. `starts` has one element more than `lines`: where the last of them ends. */
  end(file: string, sizeBytes: number): { starts: Float64Array; lines: Float64Array; count: number } {
    if (this.#quoted) {
      throw invalidData({ file, line: this.#startLine }, 'a quote is opened in this record and never closed');
    }
    if (!this.#blank) this.#push();
    const count = this.#count;
    this.#start = sizeBytes;
    this.#push();
    const noted = Math.min(count, this.#limit);
    return { starts: this.#starts.subarray(0, noted + 1), lines: this.#lines.subarray(0, noted), count };
  }

  #push(): void {
    const i = this.#count++;
    // The start of one record more is the end of the last.
    if (i > this.#limit) return;
    if (i === this.#starts.length) {
      this.#starts = grown(this.#starts);
      this.#lines = grown(this.#lines);
    }
    this.#starts[i] = this.#start;
    this.#lines[i] = this.#startLine;
  }
}

function skipByteOrderMark(fd: number, file: string): number {
  const mark = Buffer.alloc(3);
  readAt(fd, file, mark, 0, 3, 0);
  return mark.toString('latin1') === '\xef\xbb\xbf' ? 3 : 0;
}

function grown(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}

function share(array: Float64Array): Float64Array {
  const shared = new Float64Array(new SharedArrayBuffer(array.byteLength));
  shared.set(array);
  return shared;
}
