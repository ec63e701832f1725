/**
 * A source: one or more files whose examples are numbered from 0, file after file, and can be read in any order. A scan of each
 * file finds where its examples lie; readers, one set per thread, fetch the columns that are wanted. What a feature or label
 * sees is `Records`, whatever the format.
 */
import { FinetableError, upperBound } from '@finetable/core';
import type { Place } from '../errors.ts';
import type { FileSource } from '../spec.ts';
import { decompress, isCompressed, withoutCompression } from './compressed.ts';
import type { ArrowPlaces } from './arrow/messages.ts';
import { BlockReader, type BlockFile } from './blocks.ts';
import { OpenFiles } from './open-files.ts';
import { scanTextFile } from './text/scan.ts';
import { TextReader } from './text/reader.ts';

/** What a file's name says about it. */
export type SourceFormat = NonNullable<FileSource['format']>;

/** Where the examples of one file lie. Plain data over shared memory: threads pass it on without a copy. */
export interface FileIndex {
  /** As it was named: for messages. */
  readonly file: string;
  /** Where its bytes are: the file itself, or what was decompressed out of it. */
  readonly path: string;
  readonly format: SourceFormat | 'rows';
  /** Size and modification time at the scan; a reader refuses a file that has changed since. */
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  /** Column names where the file has them in one place; null where each record names its own. */
  readonly columns: readonly string[] | null;
  /** Types of columns that examples cannot be made of. */
  readonly unreadable: ReadonlyMap<string, string>;
  readonly examples: number;
  /** `[blocks + 1]`: the first example of each run of examples that is best read in one go, and the end. */
  readonly blocks: Float64Array;
  /** Whether an example costs no more to read by itself than with its block, which otherwise is decoded as a whole. */
  readonly randomAccess: boolean;
  /** Of the largest block where blocks are decoded: about the bytes that it takes. */
  readonly blockBytes: number;
  readonly text: TextPlaces | null;
  readonly arrow: ArrowPlaces | null;
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

/** What of a source decides how it is read. */
export interface SourceShape {
  readonly examples: number;
  readonly sizeBytes: number;
  /** As of its files, which are of one format. */
  readonly randomAccess: boolean;
  /** Text of so many records that not all places are noted. */
  readonly strided: boolean;
  readonly largestBlock: {
    /** Blocks of all files. */
    readonly count: number;
    /** The most that one of them has. */
    readonly examples: number;
    readonly sizeBytes: number;
  };
}

export interface SourceIndex extends SourceShape {
  readonly files: readonly FileIndex[];
}

/** Where some examples are from. */
export interface RecordPlaces {
  /** The files that they are from; `fileOf` is null where they are all from the first. */
  readonly files: readonly string[];
  readonly fileOf: Uint32Array | null;
  /** What `lines` counts: rows where the source has no lines. */
  readonly unit: 'line' | 'row';
  /** `[size]`: the line of each, from 1. */
  readonly lines: Float64Array;
}

/** Some examples of a source, column by column. */
export interface Records extends RecordPlaces {
  /** Whether values are JSON values, or text that may mean numbers and lists. */
  readonly values: 'json' | 'text';
  /** One value per example; `Missing` where it has none. `valueOf` reads them. */
  readonly columns: ReadonlyMap<string, readonly unknown[]>;
  /** Bytes read for them. */
  readonly sizeBytes: number;
}

/** Records `begin .. end`. */
export function sliceRecords(records: Records, begin: number, end: number): Records {
  const { fileOf, lines, columns } = records;
  return {
    ...records,
    fileOf: fileOf && fileOf.slice(begin, end),
    lines: lines.slice(begin, end),
    columns: new Map(Array.from(columns, ([name, values]) => [name, values.slice(begin, end)])),
  };
}

/** Where record i has its value of a column. */
export function placeOf({ files, fileOf, lines, unit }: RecordPlaces, i: number, column: string): Place {
  return { file: files[fileOf ? fileOf[i]! : 0]!, line: lines[i]!, column, ...(unit === 'row' && { unit }) };
}

const endings: Readonly<Record<string, SourceFormat>> = {
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
  '.csv': 'csv',
  '.tsv': 'tsv',
  '.parquet': 'parquet',
  '.arrow': 'arrow',
  '.arrows': 'arrow',
  '.feather': 'arrow',
};
const formats = [...new Set(Object.values(endings))];

/** @throws INVALID_ARGUMENT */
export function formatOf(file: string, { format }: Pick<FileSource, 'format'>): SourceFormat {
  const plain = withoutCompression(file);
  const found = format ?? endings[/\.[^./\\]+$/.exec(plain)?.[0].toLowerCase() ?? ''];
  if (found !== undefined && formats.includes(found)) return found;
  const problem =
    format === undefined ? 'the ending does not tell the format' : `unknown format ${JSON.stringify(format)}`;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `${file}: ${problem}; allowed: ${Object.keys(endings).join(', ')} (and with .gz or .zst behind), or format ${formats.map((name) => `"${name}"`).join(', ')}`,
    { file },
  );
}

export interface ScanFileOptions {
  readonly signal?: AbortSignal | undefined;
  /** Where the content of a compressed file goes. */
  readonly path?: string | undefined;
}

/**
 * One pass over a file, giving way to other work after each of its blocks; of Parquet and Arrow files over what they say of
 * themselves.
 * @throws NOT_FOUND, IO, INVALID_DATA (no examples, a broken header, an unclosed quote), INVALID_FILE, INTERRUPTED
 */
export async function scanFile(file: string, source: FileSource, options: ScanFileOptions = {}): Promise<FileIndex> {
  const { columns, delimiter } = source;
  const { signal, path = file } = options;
  const format = formatOf(file, source);
  if (isCompressed(file)) await decompress(file, path, signal);
  if (format === 'parquet' || format === 'arrow') return (await blockFormat(format)).scan(file, path, signal);
  return scanTextFile(file, format, { path, signal, columns, delimiter });
}

/** A format whose blocks are decoded. */
export interface BlockFormat {
  readonly scan: (file: string, path: string, signal?: AbortSignal) => Promise<FileIndex>;
  readonly open: (index: FileIndex, columns: readonly string[]) => BlockFile;
}

/** Loaded by who needs it: a thread starts sooner without. */
async function blockFormat(format: FileIndex['format']): Promise<BlockFormat> {
  return format === 'parquet'
    ? (await import('./parquet.ts')).parquetFormat
    : (await import('./arrow/file.ts')).arrowFormat;
}

export function indexOf(files: readonly FileIndex[]): SourceIndex {
  const largestBlock = { count: 0, examples: 0, sizeBytes: 0 };
  for (const { blocks, blockBytes } of files) {
    for (let i = 1; i < blocks.length; i++)
      largestBlock.examples = Math.max(largestBlock.examples, blocks[i]! - blocks[i - 1]!);
    largestBlock.sizeBytes = Math.max(largestBlock.sizeBytes, blockBytes);
    largestBlock.count += blocks.length - 1;
  }
  return {
    files,
    examples: files.reduce((sum, { examples }) => sum + examples, 0),
    sizeBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    randomAccess: files[0]!.randomAccess,
    strided: files.some(({ text }) => text !== null && text.stride > 1),
    largestBlock,
  };
}

/** Of a source that a thread keeps in memory: the most bytes. */
export const keptBytes = 64 << 20;

/** Reads examples of all files of a source. One per thread. */
export class SourceReader {
  readonly #index: SourceIndex;
  readonly #columns: readonly string[];
  /** `[files + 1]`: the first example of each file, and the end. */
  readonly #firsts: number[] = [0];
  readonly #open: OpenFiles<TextReader>;
  /** Null of text. */
  readonly #blocks: BlockReader | null;

  /**
   * @param keep small sources in memory: for examples that are read in any order
   * @throws INVALID_DATA where the first file lacks a column, NOT_FOUND, IO
   */
  constructor(index: SourceIndex, columns: readonly string[], keep = false) {
    this.#index = index;
    this.#columns = columns;
    for (const { examples } of index.files) this.#firsts.push(this.#firsts.at(-1)! + examples);
    const whole = keep && index.sizeBytes <= keptBytes;
    this.#open = new OpenFiles((file) => new TextReader(index.files[file]!, columns, whole));
    if (index.randomAccess) {
      this.#blocks = null;
      this.#open.get(0);
    } else this.#blocks = new BlockReader(index, columns, () => blockFormat(index.files[0]!.format));
  }

  /**
   * @param rows numbers of examples
   * @param window of which they are; blocks are kept in memory as long as it stays the same. Null: of none
   * @throws INVALID_DATA naming the line, INVALID_FILE where a file has changed, IO
   */
  async read(rows: Uint32Array, window: number | null = null): Promise<Records> {
    return this.#blocks ? this.#blocks.read(rows, window) : this.#readText(rows, window);
  }

  #readText(rows: Uint32Array, window: number | null): Records {
    const lines = new Float64Array(rows.length);
    const out = this.#columns.map((): unknown[] => []);
    const { files } = this.#index;
    const names: string[] = [];
    const fileOf = files.length > 1 ? new Uint32Array(rows.length) : null;
    let sizeBytes = 0;
    let reader = this.#open.get(0);
    for (let begin = 0; begin < rows.length;) {
      const file = upperBound(this.#firsts, rows[begin]!) - 1;
      const [first, last] = [this.#firsts[file]!, this.#firsts[file + 1]!];
      let end = begin + 1;
      while (end < rows.length && rows[end]! >= first && rows[end]! < last) end++;
      reader = this.#open.get(file);
      const local = first === 0 ? rows.subarray(begin, end) : rows.subarray(begin, end).map((row) => row - first);
      sizeBytes += reader.read(local, out, lines, begin, window);
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
    this.#blocks?.close();
    this.#open.close();
  }
}

export function nameIndex(names: string[], name: string): number {
  const found = names.indexOf(name);
  return found < 0 ? names.push(name) - 1 : found;
}
