/**
 * Parquet files. A scan reads what the file says of itself; a reader decodes the wanted columns of one row group at a time. The
 * format is decoded by `hyparquet`.
 */
import { isUtf8 } from 'node:buffer';
import { closeSync } from 'node:fs';
import {
  parquetMetadataAsync,
  parquetScan,
  parquetSchema,
  type AsyncBuffer,
  type ColumnChunk,
  type FileMetaData,
  type ParquetParsers,
  type SchemaTree,
} from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { FinetableError } from '@finetable/core';
import { throwIfStopped } from '../errors.ts';
import {
  brokenFile,
  checkColumns,
  emptyFile,
  jsonValue,
  type BlockFile,
  type ColumnValues,
  type DecodedBlock,
} from './blocks.ts';
import { parquetCompressors } from './codecs.ts';
import type { BlockFormat, FileIndex } from './source.ts';
import { checkUnchanged, fileChanged, openFile, readAt, statFile } from './file.ts';

/** @throws NOT_FOUND, IO, INVALID_FILE, INVALID_DATA (no examples), INTERRUPTED */
async function scanParquetFile(file: string, path: string, signal?: AbortSignal): Promise<FileIndex> {
  throwIfStopped(signal, file);
  const fd = openFile(path, file);
  try {
    const { size, mtimeMs } = statFile(fd, file);
    const metadata = await readMetadata(fd, file, size);
    const groups = rowGroupsOf(metadata);
    const blocks = new Float64Array(new SharedArrayBuffer(8 * (groups.length + 1)));
    groups.forEach(({ num_rows: rows }, i) => (blocks[i + 1] = blocks[i]! + Number(rows)));
    const examples = blocks[groups.length]!;
    if (examples === 0) throw emptyFile(file);
    return {
      file,
      path,
      format: 'parquet',
      sizeBytes: size,
      modifiedMs: mtimeMs,
      columns: schemaOf(metadata).map(({ element }) => element.name),
      unreadable: unreadableColumns(metadata),
      examples,
      blocks,
      randomAccess: false,
      blockBytes: groups.reduce((most, { total_byte_size: bytes }) => Math.max(most, Number(bytes)), 0),
      text: null,
      arrow: null,
    };
  } finally {
    closeSync(fd);
  }
}

class ParquetFile implements BlockFile {
  readonly #index: FileIndex;
  readonly #columns: readonly string[];
  readonly #fd: number;
  #metadata: FileMetaData | null = null;

  /** @throws INVALID_DATA where it lacks a column, NOT_FOUND, IO */
  constructor(index: FileIndex, columns: readonly string[]) {
    checkColumns(index, columns);
    this.#index = index;
    this.#columns = columns;
    this.#fd = openFile(index.path, index.file);
  }

  async decode(block: number): Promise<DecodedBlock> {
    const { file, sizeBytes } = this.#index;
    checkUnchanged(this.#fd, this.#index);
    const metadata = (this.#metadata ??= await readMetadata(this.#fd, file, sizeBytes));
    const group = rowGroupsOf(metadata)[block]!;
    // A file of this row group alone: what is planned does not grow with the number of row groups.
    const alone = { ...metadata, row_groups: [group], num_rows: group.num_rows };
    const buffer = new CountingBuffer(this.#fd, file, sizeBytes);
    let column = '';
    try {
      for (const chunk of group.columns) {
        column = chunk.meta_data?.path_in_schema[0] ?? '';
        if (this.#columns.includes(column)) checkPages(buffer, chunk, group.num_rows);
      }
      const scan = await parquetScan({
        file: buffer,
        metadata: alone,
        columns: [...this.#columns],
        compressors: parquetCompressors,
        parsers,
        geoparquet: false,
        useOffsetIndex: false,
      });
      const columns: ColumnValues[] = [];
      const rowEnd = Number(group.num_rows);
      for (column of this.#columns) {
        const values = await scan.readColumn({ column, rowStart: 0, rowEnd });
        if (values.length < rowEnd) throw new Error(`has ${values.length} values of ${rowEnd}`);
        columns.push(valuesOf(values));
      }
      return { columns, sizeBytes: buffer.sizeBytes };
    } catch (error) {
      const first = this.#index.blocks[block]! + 1;
      const where = `row group ${block + 1} (from row ${first}), column ${JSON.stringify(column)}: `;
      if (!(error instanceof FinetableError)) (error as Error).message = where + (error as Error).message;
      throw brokenFile(file, 'Parquet', error);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

export const parquetFormat: BlockFormat = {
  scan: scanParquetFile,
  open: (index, columns) => new ParquetFile(index, columns),
};

/** The file as `hyparquet` reads it. */
class CountingBuffer implements AsyncBuffer {
  readonly byteLength: number;
  readonly #fd: number;
  readonly #file: string;
  /** What was read already and will be asked for once more, by its first byte. */
  readonly #kept = new Map<number, ArrayBuffer>();
  /** Read so far. */
  sizeBytes = 0;

  constructor(fd: number, file: string, sizeBytes: number) {
    this.byteLength = sizeBytes;
    this.#fd = fd;
    this.#file = file;
  }

  slice(start: number, end = this.byteLength): ArrayBuffer {
    const kept = this.#kept.get(start);
    if (kept?.byteLength === end - start) {
      this.#kept.delete(start);
      return kept;
    }
    if (!(start >= 0 && start <= end && end <= this.byteLength))
      throw new RangeError(`bytes ${start} to ${end} of a file of ${this.byteLength}`);
    const buffer = new ArrayBuffer(end - start);
    if (readAt(this.#fd, this.#file, Buffer.from(buffer), 0, end - start, start) < end - start)
      throw fileChanged(this.#file);
    this.sizeBytes += end - start;
    return buffer;
  }

  keep(start: number, end: number): ArrayBuffer {
    const buffer = this.slice(start, end);
    this.#kept.set(start, buffer);
    return buffer;
  }
}

/**
 * The pages of a column in a row group, before they are decoded: `hyparquet` believes what they say of their lengths, and a broken
 * file would have it make lists of billions. @throws Error
 */
function checkPages(buffer: CountingBuffer, { meta_data: column }: ColumnChunk, rows: bigint): void {
  if (!column) throw new Error('is in another file');
  const start = Number(column.dictionary_page_offset || column.data_page_offset);
  const bytes = buffer.keep(start, start + Number(column.total_compressed_size));
  const reader = { view: new DataView(bytes), offset: 0 };
  let values = 0;
  while (reader.offset < bytes.byteLength - 1) {
    const page = parquetHeader(reader);
    const { compressed_page_size: size, uncompressed_page_size: fullSize, data_page_header_v2: second } = page;
    const what = `a page at byte ${start + reader.offset}`;
    if (!within(size, bytes.byteLength - reader.offset) || !within(fullSize, mostPageBytes))
      throw new Error(`${what} of ${size} bytes`);
    reader.offset += size;
    const count = (page.data_page_header ?? second)?.num_values;
    if (count !== undefined) {
      if (!within(count, Number(column.num_values))) throw new Error(`${what} of ${count} values`);
      values += count;
    }
    const entries = page.dictionary_page_header?.num_values;
    if (entries !== undefined && !within(entries, fullSize)) throw new Error(`${what} of ${entries} entries`);
    if (!second) continue;
    const { num_nulls: nulls, definition_levels_byte_length: definitions } = second;
    const levels = [definitions, second.repetition_levels_byte_length ?? 0];
    if (!within(nulls, second.num_values) || levels.some((length) => !within(length, size)))
      throw new Error(`${what} whose parts are longer than it`);
  }
  if (BigInt(values) !== column.num_values || column.num_values < rows)
    throw new Error(`has ${values} values instead of ${column.num_values}, in ${rows} rows`);
}

const mostPageBytes = 2 ** 31 - 1;

function within(value: number, most: number): boolean {
  return value >= 0 && value <= most;
}

async function readMetadata(fd: number, file: string, sizeBytes: number): Promise<FileMetaData> {
  try {
    if (sizeBytes < 12) throw new Error('it is too short');
    const metadata = await parquetMetadataAsync(new CountingBuffer(fd, file, sizeBytes), { geoparquet: false });
    const total = metadata.row_groups.reduce((sum, { num_rows: rows }) => sum + rows, 0n);
    if (total !== metadata.num_rows || metadata.row_groups.some(({ num_rows: rows }) => rows < 0n))
      throw new Error(`its row groups have ${total} rows, and it says that it has ${metadata.num_rows}`);
    schemaOf(metadata);
    return metadata;
  } catch (error) {
    throw brokenFile(file, 'Parquet', error);
  }
}

function rowGroupsOf({ row_groups: groups }: FileMetaData): FileMetaData['row_groups'] {
  return groups.filter(({ num_rows: rows }) => rows > 0n);
}

function schemaOf(metadata: FileMetaData): readonly SchemaTree[] {
  return parquetSchema(metadata).children;
}

function unreadableColumns(metadata: FileMetaData): Map<string, string> {
  const out = new Map<string, string>();
  const visit = (column: string, { element, children }: SchemaTree): void => {
    for (const child of children) visit(column, child);
    const type = element.logical_type?.type ?? element.converted_type;
    const binary = element.type === 'FIXED_LEN_BYTE_ARRAY' && type === undefined;
    if (binary || (type !== undefined && unreadableTypes.has(type))) out.set(column, type ?? 'binary');
  };
  for (const column of schemaOf(metadata)) visit(column.element.name, column);
  return out;
}

const unreadableTypes = new Set(['BSON', 'INTERVAL', 'VARIANT', 'GEOMETRY', 'GEOGRAPHY']);

/** Text is what is UTF-8, whether or not the file says that it is text: many writers do not. */
const parsers: Partial<ParquetParsers> = {
  stringFromBytes(bytes: Uint8Array | undefined) {
    if (!bytes) return bytes;
    const { buffer, byteOffset, length } = bytes;
    const text = Buffer.from(buffer, byteOffset, length).toString();
    if (text.includes('\uFFFD') && !isUtf8(bytes)) throw new Error('binary, which is not UTF-8 text');
    return text;
  },
};

function valuesOf(values: ArrayLike<unknown>): ColumnValues {
  return (row) => jsonValue(values[row]);
}
