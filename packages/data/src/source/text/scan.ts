/** One pass over a text file: where its records begin. */
import { isUtf8 } from 'node:buffer';
import { closeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { FinetableError } from '@finetable/core';
import { invalidData, throwIfStopped } from '../../errors.ts';
import type { FileIndex, SourceFormat, TextPlaces } from '../source.ts';
import { parseCsvHeader } from './csv.ts';
import { fileChanged, openFile, readAt, statFile } from '../file.ts';
import { checkRecordBytes, notUtf8 } from './record.ts';

const newline = 10;
const quote = 34;

export interface ScanOptions {
  readonly signal?: AbortSignal | undefined;
  /** Where the bytes of `file` are; default: there. */
  readonly path?: string | undefined;
  /** Column names of a file of separated values that has no header. */
  readonly columns?: readonly string[] | undefined;
  /** Between the fields; default: a comma, or a tab in `tsv`. */
  readonly delimiter?: string | undefined;
  /** Read at a time; the places do not depend on it. */
  readonly blockBytes?: number | undefined;
  /** Places to keep; beyond it every second is forgotten, so that memory does not grow with the file. */
  readonly mostPlaces?: number | undefined;
}

/** Of a scan's memory, 16 bytes each. */
export const mostPlaceCount = 1 << 21;

/** Records that are best read in one go: neighbours up to about this size. */
const runBytes = 1 << 20;

export async function scanTextFile(
  file: string,
  format: SourceFormat,
  options: ScanOptions = {},
): Promise<FileIndex & { readonly text: TextPlaces }> {
  const { signal, path = file, blockBytes = 1 << 20, mostPlaces = mostPlaceCount } = options;
  const separated = format !== 'jsonl';
  const delimiter = options.delimiter ?? (format === 'tsv' ? '\t' : ',');
  const fd = openFile(path, file);
  try {
    const { size: sizeBytes, mtimeMs: modifiedMs } = statFile(fd, file);
    let offset = skipByteOrderMark(fd, file);
    const headed = separated && options.columns === undefined;
    const scanner = new RecordScanner({ quoted: separated, start: offset, headed, mostPlaces });
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
    const { header, starts, lines, stride, count } = scanner.end(file, sizeBytes);

    let columns = separated ? (options.columns ?? null) : null;
    if (header) {
      const size = header.end - header.start;
      checkRecordBytes(size, file, header.line);
      const bytes = Buffer.allocUnsafe(size);
      readAt(fd, file, bytes, 0, size, header.start);
      if (!isUtf8(bytes)) throw notUtf8(file, header.line);
      columns = parseCsvHeader(bytes.toString().replace(/[\r\n]+$/, ''), file, header.line, delimiter);
    }
    if (count === 0) {
      const what = sizeBytes === 0 ? 'the file is empty' : header ? 'a header and no records' : 'blank lines only';
      throw new FinetableError('INVALID_DATA', `${file}: no examples: ${what}`, { file });
    }
    return {
      file,
      path,
      format,
      sizeBytes,
      modifiedMs,
      columns,
      examples: count,
      blocks: blocksOf(starts, stride, count),
      unreadable: new Map(),
      randomAccess: true,
      blockBytes: 0,
      text: { stride, starts: share(starts), lines: share(lines), delimiter },
      arrow: null,
    };
  } finally {
    closeSync(fd);
  }
}

/** The first record of each run of about `runBytes`, and the end. */
function blocksOf(starts: Float64Array, stride: number, examples: number): Float64Array {
  const blocks = [0];
  let begin = starts[0]!;
  for (let i = 1; i + 1 < starts.length; i++) {
    if (starts[i + 1]! - begin <= runBytes) continue;
    blocks.push(i * stride);
    begin = starts[i]!;
  }
  return share(Float64Array.from([...blocks, examples]));
}

/**
 * Finds records in blocks that may end anywhere. In CSV a line end inside quotes ends no record; counting quotes is
 * enough to know, since an escaped quote is two. A file that breaks the quoting rules is caught by the parser, at the
 * record in which it begins to.
 */
export class RecordScanner {
  readonly #separated: boolean;
  readonly #mostPlaces: number;
  #headed: boolean;
  #header: { start: number; end: number; line: number } | null = null;
  #starts = new Float64Array(1024);
  #lines = new Float64Array(1024);
  #stride = 1;
  #count = 0;
  /** Of the record that is being scanned. */
  #start: number;
  #startLine: number;
  #line: number;
  #blank = true;
  #quoted = false;

  /**
   * @param options.quoted whether quotes may hold line ends @param options.headed the first record is a header
   * @param options.line of the first byte
   */
  constructor(options: {
    readonly quoted: boolean;
    readonly start: number;
    readonly line?: number;
    readonly headed?: boolean;
    readonly mostPlaces?: number;
  }) {
    this.#separated = options.quoted;
    this.#start = options.start;
    this.#line = options.line ?? 1;
    this.#startLine = this.#line;
    this.#headed = options.headed ?? false;
    this.#mostPlaces = options.mostPlaces ?? Infinity;
  }

  scan(block: Buffer, offset: number): void {
    const separated = this.#separated;
    let line = this.#line;
    let blank = this.#blank;
    let quoted = this.#quoted;
    for (let i = 0; i < block.length; i++) {
      const byte = block[i]!;
      if (byte === newline) {
        line++;
        if (quoted) continue;
        if (!blank) this.#push(offset + i + 1);
        this.#start = offset + i + 1;
        this.#startLine = line;
        blank = true;
      } else if (separated) {
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

  /** `starts` has one element more than `lines`: where the last of them ends. */
  end(
    file: string,
    sizeBytes: number,
  ): {
    readonly header: { readonly start: number; readonly end: number; readonly line: number } | null;
    readonly starts: Float64Array;
    readonly lines: Float64Array;
    readonly stride: number;
    readonly count: number;
  } {
    if (this.#quoted) {
      throw invalidData({ file, line: this.#startLine }, 'a quote is opened in this record and never closed');
    }
    if (!this.#blank) this.#push(sizeBytes);
    const count = this.#count;
    const places = Math.ceil(count / this.#stride);
    this.#starts[places] = sizeBytes;
    return {
      header: this.#header,
      starts: this.#starts.subarray(0, places + 1),
      lines: this.#lines.subarray(0, places),
      stride: this.#stride,
      count,
    };
  }

  #push(end: number): void {
    if (this.#headed) {
      this.#headed = false;
      this.#header = { start: this.#start, end, line: this.#startLine };
      return;
    }
    const record = this.#count++;
    if (record % this.#stride !== 0) return;
    let i = record / this.#stride;
    if (i >= this.#mostPlaces) {
      for (let j = 1; 2 * j < i; j++) {
        this.#starts[j] = this.#starts[2 * j]!;
        this.#lines[j] = this.#lines[2 * j]!;
      }
      this.#stride *= 2;
      if (record % this.#stride !== 0) return;
      i = record / this.#stride;
    }
    // One element more than there are places, for the end.
    if (i + 1 >= this.#starts.length) {
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
