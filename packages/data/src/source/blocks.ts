/**
 * Examples of formats that store columns: a block (a row group of Parquet, a record batch of Arrow) is decoded as a whole, and kept
 * while examples of its window are read.
 */
import { FinetableError, upperBound } from '@finetable/core';
import { show, showNames } from '../errors.ts';
import { OpenFiles } from './open-files.ts';
import { nameIndex, type BlockFormat, type FileIndex, type Records, type SourceIndex } from './source.ts';

/** Value of a column at a row of its block, as the format's library gives it. */
export type ColumnValues = (row: number) => unknown;

export interface DecodedBlock {
  /** Of the wanted columns, in their order. */
  readonly columns: readonly ColumnValues[];
  /** Bytes read for them. */
  readonly sizeBytes: number;
}

export interface BlockFile {
  /** @throws INVALID_FILE, IO */
  decode(block: number): Promise<DecodedBlock>;
  close(): void;
}

export class BlockReader {
  readonly #index: SourceIndex;
  readonly #columns: readonly string[];
  readonly #format: () => Promise<BlockFormat>;
  #files: OpenFiles<BlockFile> | null = null;
  /** `[blocks + 1]`: of all files' blocks the first example, and the end. */
  readonly #firsts: Float64Array;
  /** `[files + 1]`: the first of each file's blocks, and the end. */
  readonly #fileBlocks: readonly number[];
  readonly #decoded = new Map<number, DecodedBlock>();
  #window: number | null = null;
  #closed = false;

  /** @throws INVALID_DATA where the first file lacks a column */
  constructor(index: SourceIndex, columns: readonly string[], format: () => Promise<BlockFormat>) {
    checkColumns(index.files[0]!, columns);
    this.#index = index;
    this.#columns = columns;
    this.#format = format;
    const firsts: number[] = [];
    const fileBlocks: number[] = [];
    let first = 0;
    for (const { blocks, examples } of index.files) {
      fileBlocks.push(firsts.length);
      for (const block of blocks.subarray(0, -1)) firsts.push(first + block);
      first += examples;
    }
    this.#firsts = Float64Array.from([...firsts, first]);
    this.#fileBlocks = [...fileBlocks, firsts.length];
  }

  /** @param window see `SourceReader.read` */
  async read(rows: Uint32Array, window: number | null): Promise<Records> {
    const blocks = this.#blocksOf(rows);
    const needed = new Set(blocks);
    if (window === null || window !== this.#window) {
      // Blocks that reach into the next window stay, and nothing else does: a window's blocks are all that is in memory.
      for (const block of this.#decoded.keys()) if (!needed.has(block)) this.#decoded.delete(block);
      this.#window = window;
    }
    const sizeBytes = await this.#decode(needed);

    const { files } = this.#index;
    const lines = new Float64Array(rows.length);
    const names: string[] = [];
    const fileOf = files.length > 1 ? new Uint32Array(rows.length) : null;
    for (let i = 0; i < rows.length; i++) {
      const file = fileOf ? upperBound(this.#fileBlocks, blocks[i]!) - 1 : 0;
      lines[i] = rows[i]! - this.#firsts[this.#fileBlocks[file]!]! + 1;
      if (fileOf) fileOf[i] = nameIndex(names, files[file]!.file);
    }
    const valuesOf = (c: number): unknown[] => {
      const values = [];
      let [block, first] = [-1, 0];
      let valueOf: ColumnValues | null = null;
      for (let i = 0; i < rows.length; i++) {
        if (blocks[i] !== block) {
          block = blocks[i]!;
          first = this.#firsts[block]!;
          valueOf = this.#decoded.get(block)!.columns[c]!;
        }
        values.push(valueOf!(rows[i]! - first));
      }
      return values;
    };
    const records: Records = {
      files: fileOf ? names : [files[0]!.file],
      fileOf,
      values: 'json',
      unit: 'row',
      lines,
      columns: new Map(this.#columns.map((column, c) => [column, valuesOf(c)])),
      sizeBytes,
    };
    return records;
  }

  close(): void {
    this.#closed = true;
    this.#decoded.clear();
    this.#files?.close();
  }

  #blocksOf(rows: Uint32Array): Uint32Array {
    let block = 0;
    return rows.map((row) => {
      if (row < this.#firsts[block]! || row >= this.#firsts[block + 1]!) block = upperBound(this.#firsts, row) - 1;
      return block;
    });
  }

  /** @returns bytes read */
  async #decode(needed: ReadonlySet<number>): Promise<number> {
    if (!this.#files) {
      const { open } = await this.#format();
      // Whoever closed it meanwhile waits for nothing, and nobody would close what is opened now.
      if (this.#closed) throw new Error('closed while it was read');
      this.#files = new OpenFiles((file) => open(this.#index.files[file]!, this.#columns));
    }
    let sizeBytes = 0;
    for (const block of needed) {
      if (this.#decoded.has(block)) continue;
      const file = upperBound(this.#fileBlocks, block) - 1;
      const decoded = await this.#files.get(file).decode(block - this.#fileBlocks[file]!);
      this.#decoded.set(block, decoded);
      sizeBytes += decoded.sizeBytes;
    }
    return sizeBytes;
  }
}

export function readableColumns({ columns, unreadable }: FileIndex): string[] {
  return columns!.filter((column) => !unreadable.has(column));
}

/**
 * A value as JSON would have it: 64-bit integers as numbers where a number holds them, dates as ISO 8601 text, vectors as lists.
 * An integer past 2^53 stays a bigint: whoever wants a number refuses it, rather than takes another number for it.
 */
export function jsonValue(value: unknown): unknown {
  switch (typeof value) {
    case 'number':
    case 'string':
    case 'boolean':
      return value;
    case 'bigint':
      return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
    case 'undefined':
      return null;
    default:
  }
  if (value === null) return null;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) if (typeof value[i] !== 'number') value[i] = jsonValue(value[i]);
    return value;
  }
  if (ArrayBuffer.isView(value)) {
    const values = value as unknown as ArrayLike<number | bigint>;
    const out = new Array<unknown>(values.length);
    for (let i = 0; i < out.length; i++) {
      const element = values[i]!;
      out[i] = typeof element === 'number' ? element : jsonValue(element);
    }
    return out;
  }
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Map) return Array.from(value, jsonValue);
  return Object.fromEntries(Object.entries(value as object).map(([name, member]) => [name, jsonValue(member)]));
}

/** @throws INVALID_DATA where a wanted column is not there, or of a type that examples cannot be made of */
export function checkColumns({ file, columns, unreadable }: FileIndex, wanted: readonly string[]): void {
  for (const column of wanted) {
    const type = unreadable.get(column);
    if (type !== undefined) {
      throw new FinetableError(
        'INVALID_DATA',
        `${file}, column ${show(column)}: found ${type}; allowed: numbers, text, true or false, dates, and lists of them`,
        { file, column },
      );
    }
    if (columns!.includes(column)) continue;
    throw new FinetableError(
      'INVALID_DATA',
      `${file}: no column ${show(column)}; the columns there are: ${showNames(columns!)}`,
      { file, column, columns: columns! },
    );
  }
}

export function emptyFile(file: string): FinetableError {
  return new FinetableError('INVALID_DATA', `${file}: no examples: it has columns and no rows`, { file });
}

/** What a format's library said about a file. */
export function brokenFile(file: string, format: string, error: unknown): FinetableError {
  if (error instanceof FinetableError) return error;
  return new FinetableError(
    'INVALID_FILE',
    `${file}: not a whole ${format} file: ${(error as Error).message}`,
    { file },
    { cause: error },
  );
}
