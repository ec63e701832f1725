/**
 * Stored bytes of a table's rows in order, block by block: what copies and merges of whole tables are made of. Rows that lie in
 * files are read from those rather than through their mapping: a file that is cut short meanwhile is an error then and not the
 * end of the process, and what was read does not count as memory of this process.
 */
import { FinetableError, range, rowBytes, rowScales, type RowFormat } from '@finetable/core';
import { openFile } from '@finetable/formats';
import type { ShardedTable } from './table.ts';

type Opened = Awaited<ReturnType<typeof openFile>>;

/** A run of bytes of every row. */
interface Stream {
  readonly file: Opened;
  readonly byteOffset: number;
  readonly rowBytes: number;
}

/** The rows of a table as they are stored, read from its files in blocks: what merging and exporting stream. */
export class StoredRows {
  readonly format: RowFormat;
  readonly #table: ShardedTable;
  /** Elements, then scales where there are any; none where rows are not read from files. */
  readonly #streams: readonly Stream[];
  /** Rows that are in the files. */
  readonly #fileRows: number;

  private constructor(table: ShardedTable, streams: readonly Stream[], fileRows: number) {
    const { dtype, dim, groupDims } = table;
    this.format = { dtype, dim, groupDims };
    this.#table = table;
    this.#streams = streams;
    this.#fileRows = fileRows;
  }

  /** @throws NOT_FOUND, IO, INVALID_FILE where a file is not the one that the table was opened from */
  static async open(table: ShardedTable): Promise<StoredRows> {
    const { origin, dtype, dim, groupDims } = table;
    if (!origin || table.inMemory || table.needsFetch) return new StoredRows(table, [], 0);
    const { path, byteOffset, rows, scales } = origin.rows;
    const file = await openFile(path);
    const streams = [{ file, byteOffset, rowBytes: rowBytes(dtype, dim) }];
    try {
      if (scales) {
        const ofScales = await openFile(scales.path);
        const rowBytes = 4 * rowScales({ dtype, dim, groupDims });
        streams.push({ file: ofScales, byteOffset: scales.byteOffset, rowBytes });
      }
      await table.checkUnchanged();
      return new StoredRows(table, streams, rows);
    } catch (error) {
      for (const stream of streams) await stream.file.close();
      throw error;
    }
  }

  /**
   * Rows `[firstRow, firstRow + rows)` into `out` (`[rows * storedRowBytes]`, overwritten): the elements of all, then the scales of all.
   * @throws what devices fail with; IO, INVALID_FILE (cut short), INTERRUPTED, CLOSED
   */
  async read(firstRow: number, rows: number, out: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { name, closed } = this.#table;
    if (closed) throw new FinetableError('CLOSED', `${name}: the table is closed`, { table: name });
    if (firstRow + rows > this.#fileRows) {
      await this.#table.readStored(
        range(rows).map((i) => firstRow + i),
        out,
        signal,
      );
      return;
    }
    let at = 0;
    for (const { file, byteOffset, rowBytes } of this.#streams) {
      await file.read(out.subarray(at, at + rows * rowBytes), byteOffset + firstRow * rowBytes);
      at += rows * rowBytes;
    }
  }

  /** @throws INVALID_FILE where a file has changed since the table was opened */
  async checkUnchanged(): Promise<void> {
    await this.#table.checkUnchanged();
  }

  /** Closes the files that it reads; the table stays open. */
  async close(): Promise<void> {
    for (const { file } of this.#streams) await file.close();
  }
}
