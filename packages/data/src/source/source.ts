/**
 * A source: one or more files whose examples are numbered from 0, file after file, and can be read in any order. A scan of each
 * file finds where its examples lie; readers, one set per thread, fetch the columns that are wanted. What a feature or label
 * sees is `Records`, whatever the format.
 */
import { FinetableError } from '@finetable/core';
import type { Place } from '../errors.ts';
import type { FileSource, Row } from '../spec.ts';
import { scanTextFile } from './text/scan.ts';
import { TextReader } from './text/reader.ts';

/** What a file's name says about it. */
export type SourceFormat = NonNullable<FileSource['format']>;

/** Where the examples of one file lie. Plain data over shared memory: threads pass it on without a copy. */
export interface FileIndex {
  /** As it was named: for messages. */
  readonly file: string;
  readonly format: SourceFormat | 'rows';
  /** Size and modification time at the scan; a reader refuses a file that has changed since. */
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  /** Column names where the file has them in one place; null where each record names its own. */
  readonly columns: readonly string[] | null;
  readonly examples: number;
  /** Examples in the file: as many, unless a scan of the first alone was wanted. */
  readonly totalExamples: number;
  /** `[blocks + 1]`: the first example of each run of examples that is best read in one go, and the end. */
  readonly blocks: Float64Array;
  readonly text: TextPlaces | null;
}

/** Where records of a text file lie: of each, or of each `stride`-th where there are very many. */
export interface TextPlaces {
  /** A power of two. */
  readonly stride: number;
  /** `[n + 1]`: records `i * stride ..` lie in bytes `starts[i] .. starts[i + 1]`, line ends and blank lines after them included. */
  readonly starts: Float64Array;
  /** `[n]`: the first line, from 1, of the first of them. */
  readonly lines: Float64Array;
  readonly delimiter: string;
}

export interface SourceIndex {
  readonly files: readonly FileIndex[];
  readonly examples: number;
  readonly sizeBytes: number;
}

/** Some examples of a source, column by column. */
export interface Records {
  /** The files that they are from; `fileOf` is null where they are all from the first. */
  readonly files: readonly string[];
  readonly fileOf: Uint32Array<ArrayBuffer> | null;
  /** Whether values are JSON values, or text that may mean numbers and lists. */
  readonly values: 'json' | 'text';
  /** What `lines` counts: rows where the source has no lines. */
  readonly unit: 'line' | 'row';
  /** `[size]`: the line of each, from 1. Given away: the batch takes it over. */
  readonly lines: Float64Array<ArrayBuffer>;
  /** One value per example; `Missing` where it has none. `valueOf` reads them. */
  readonly columns: ReadonlyMap<string, readonly unknown[]>;
  /** Bytes read for them. */
  readonly sizeBytes: number;
}

/** Where record i has its value of a column. */
export function placeOf({ files, fileOf, lines, unit }: Records, i: number, column: string): Place {
  return { file: files[fileOf ? fileOf[i]! : 0]!, line: lines[i]!, column, ...(unit === 'row' && { unit }) };
}

/** A whole record, and the line that it is on, from 1. */
export interface FirstRow {
  readonly line: number;
  readonly values: Row;
}

/** Reads one file's examples. */
export interface FileReader {
  readonly values: Records['values'];
  readonly unit: Records['unit'];
  /**
   * Appends the wanted columns of `rows` (numbers within the file) to `out`, and their lines to `lines` from `at` on.
   * @returns bytes read
   * @throws INVALID_DATA naming the line, INVALID_FILE where the file has changed, IO
   */
  read(rows: Uint32Array, out: readonly unknown[][], lines: Float64Array, at: number): number | Promise<number>;
  /**
   * All columns of the first `count` records, whichever columns it was opened for; fewer where they are longer than `mostBytes`
   * together, at least one. @throws as `read`
   */
  readFirst(count: number, mostBytes: number): FirstRow[] | Promise<FirstRow[]>;
  close(): void;
}

const endings: Readonly<Record<string, SourceFormat>> = {
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
  '.csv': 'csv',
  '.tsv': 'tsv',
};
const formats: readonly SourceFormat[] = ['jsonl', 'csv', 'tsv'];

/** @throws INVALID_ARGUMENT */
export function formatOf(file: string, { format }: Pick<FileSource, 'format'>): SourceFormat {
  const found = format ?? endings[/\.[^./\\]+$/.exec(file)?.[0].toLowerCase() ?? ''];
  if (found !== undefined && formats.includes(found)) return found;
  const problem =
    format === undefined ? 'the ending does not tell the format' : `unknown format ${JSON.stringify(format)}`;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `${file}: ${problem}; allowed: ${Object.keys(endings).join(', ')}, or format ${formats.map((name) => `"${name}"`).join(', ')}`,
    { file },
  );
}

/**
 * One pass over a file, giving way to other work after each of its blocks.
 * @param limit examples to note the places of; the rest are only counted
 * @throws NOT_FOUND, IO, INVALID_DATA (no examples, a broken header, an unclosed quote), INTERRUPTED
 */
export function scanFile(file: string, source: FileSource, signal?: AbortSignal, limit?: number): Promise<FileIndex> {
  const { columns, delimiter } = source;
  return scanTextFile(file, formatOf(file, source), { signal, limit, columns, delimiter });
}

/** @throws INVALID_DATA where the header lacks a column, NOT_FOUND, IO */
export function openFileReader(index: FileIndex, columns: readonly string[]): FileReader {
  return new TextReader(index, columns);
}

export function indexOf(files: readonly FileIndex[]): SourceIndex {
  return {
    files,
    examples: files.reduce((sum, { examples }) => sum + examples, 0),
    sizeBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  };
}

/** Files that a thread keeps open at a time. */
const mostOpen = 64;

/** Reads examples of all files of a source. One per thread. */
export class SourceReader {
  readonly #index: SourceIndex;
  readonly #columns: readonly string[];
  /** `[files + 1]`: the first example of each file, and the end. */
  readonly #firsts: number[] = [0];
  /** By file, the one used last at the end. */
  readonly #open = new Map<number, FileReader>();

  /** @throws INVALID_DATA where the first file lacks a column, NOT_FOUND, IO */
  constructor(index: SourceIndex, columns: readonly string[]) {
    this.#index = index;
    this.#columns = columns;
    for (const { examples } of index.files) this.#firsts.push(this.#firsts.at(-1)! + examples);
    this.#reader(0);
  }

  /** @param rows numbers of examples @throws INVALID_DATA naming the line, INVALID_FILE where a file has changed, IO */
  async read(rows: Uint32Array): Promise<Records> {
    const lines = new Float64Array(rows.length);
    const out = this.#columns.map((): unknown[] => []);
    const { files } = this.#index;
    const names: string[] = [];
    const fileOf = files.length > 1 ? new Uint32Array(rows.length) : null;
    let sizeBytes = 0;
    let reader = this.#open.get(0)!;
    for (let begin = 0; begin < rows.length;) {
      const file = this.#fileOf(rows[begin]!);
      const [first, last] = [this.#firsts[file]!, this.#firsts[file + 1]!];
      let end = begin + 1;
      while (end < rows.length && rows[end]! >= first && rows[end]! < last) end++;
      reader = this.#reader(file);
      const local = first === 0 ? rows.subarray(begin, end) : rows.subarray(begin, end).map((row) => row - first);
      sizeBytes += await reader.read(local, out, lines, begin);
      if (fileOf) fileOf.fill(nameIndex(names, files[file]!.file), begin, end);
      begin = end;
    }
    return {
      files: fileOf ? names : [files[0]!.file],
      fileOf,
      values: reader.values,
      unit: reader.unit,
      lines,
      columns: new Map(this.#columns.map((column, c) => [column, out[c]!])),
      sizeBytes,
    };
  }

  close(): void {
    for (const reader of this.#open.values()) reader.close();
    this.#open.clear();
  }

  #fileOf(row: number): number {
    let [low, high] = [0, this.#index.files.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#firsts[middle]! <= row) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #reader(file: number): FileReader {
    let reader = this.#open.get(file);
    if (reader && this.#index.files.length <= mostOpen) return reader;
    reader ??= openFileReader(this.#index.files[file]!, this.#columns);
    this.#open.delete(file);
    this.#open.set(file, reader);
    if (this.#open.size > mostOpen) {
      const [oldest, unused] = this.#open.entries().next().value!;
      this.#open.delete(oldest);
      unused.close();
    }
    return reader;
  }
}

function nameIndex(names: string[], name: string): number {
  const found = names.indexOf(name);
  return found < 0 ? names.push(name) - 1 : found;
}
