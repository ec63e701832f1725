/** Reads records of a text file by their offsets, in any order. */
import { isUtf8 } from 'node:buffer';
import { closeSync } from 'node:fs';
import { csvParser, parseCsvRow } from './csv.ts';
import { jsonlParser, parseJsonRow } from './jsonl.ts';
import type { Records, Row, SourceIndex, SourceReader } from './source.ts';
import { fileChanged, notUtf8, openFile, readAt, recordBytes, statFile } from './text-file.ts';

/** Appends one record's values, `out[c]` being the wanted column c. @throws INVALID_DATA naming the line */
export type RecordParser = (text: string, line: number, out: readonly unknown[][]) => void;

type RecordVisitor = (text: string, line: number) => void;

/** Neighbours are read together up to about this size, so that long records do not pile up as bytes. */
const runBytes = 4 << 20;

export class TextReader implements SourceReader {
  readonly #file: string;
  readonly #index: SourceIndex;
  readonly #columns: readonly string[];
  readonly #parse: RecordParser;
  readonly #fd: number;
  /** Kept between reads; strings are decoded out of it. */
  #bytes = Buffer.allocUnsafeSlow(1 << 16);

  constructor(file: string, index: SourceIndex, columns: readonly string[]) {
    this.#file = file;
    this.#index = index;
    this.#columns = columns;
    this.#parse = index.columns ? csvParser(file, index.columns, columns) : jsonlParser(file, columns);
    this.#fd = openFile(file);
  }

  read(rows: Uint32Array): Records {
    const lines = Float64Array.from(rows, (row) => this.#index.lines[row]!);
    const out = this.#columns.map((): unknown[] => []);
    const sizeBytes = this.#readRecords(rows, (text, line) => this.#parse(text, line, out));
    return {
      file: this.#file,
      values: this.#index.format === 'jsonl' ? 'json' : 'text',
      lines,
      columns: new Map(this.#columns.map((column, c) => [column, out[c]!])),
      sizeBytes,
    };
  }

  readFirst(count: number): Row[] {
    const { columns } = this.#index;
    const out: Row[] = [];
    this.#readRecords(
      Uint32Array.from({ length: count }, (_, i) => i),
      (text, line) =>
        out.push(columns ? parseCsvRow(text, this.#file, line, columns) : parseJsonRow(text, this.#file, line)),
    );
    return out;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** @returns bytes read */
  #readRecords(rows: Uint32Array, visit: RecordVisitor): number {
    const { size, mtimeMs } = statFile(this.#fd, this.#file);
    if (size !== this.#index.sizeBytes || mtimeMs !== this.#index.modifiedMs) throw fileChanged(this.#file);
    let sizeBytes = 0;
    for (let i = 0; i < rows.length;) {
      const first = rows[i]!;
      let run = this.#recordBytes(first);
      let count = 1;
      while (rows[++i] === first + count && run < runBytes) run += this.#recordBytes(first + count++);
      this.#readRun(first, count, run, visit);
      sizeBytes += run;
    }
    return sizeBytes;
  }

  #recordBytes(row: number): number {
    return recordBytes(this.#index.offsets, this.#index.lines, row, this.#file);
  }

  /** Records `first .. first + count`, neighbours in the file, with one read. */
  #readRun(first: number, count: number, sizeBytes: number, visit: RecordVisitor): void {
    if (this.#bytes.length < sizeBytes)
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(sizeBytes, 2 * this.#bytes.length));
    const bytes = this.#bytes;
    const { offsets, lines } = this.#index;
    if (readAt(this.#fd, this.#file, bytes, 0, sizeBytes, offsets[first]!) < sizeBytes) throw fileChanged(this.#file);
    // One check for the run; which record it was matters only when it fails.
    const valid = isUtf8(bytes.subarray(0, sizeBytes));
    for (let row = first; row < first + count; row++) {
      const begin = offsets[row]! - offsets[first]!;
      let end = offsets[row + 1]! - offsets[first]!;
      if (!valid && !isUtf8(bytes.subarray(begin, end))) throw notUtf8(this.#file, lines[row]!);
      while (end > begin && (bytes[end - 1] === 10 || bytes[end - 1] === 13)) end--;
      visit(bytes.toString('utf8', begin, end), lines[row]!);
    }
  }
}
