/** Reads record batches of Arrow IPC files, each by itself. They are decoded by `@uwdata/flechette`. */
import { closeSync } from 'node:fs';
import {
  CompressionType,
  getCompressionCodec,
  setCompressionCodec,
  tableFromIPC,
  Type,
  type Batch,
  type Column,
  type Table,
} from '@uwdata/flechette';
import { brokenFile, checkColumns, type BlockFile, type DecodedBlock } from '../blocks.ts';
import { checkVectors } from './check.ts';
import { decompressLz4Frame, decompressZstd } from '../codecs.ts';
import { checkUnchanged, fileChanged, openFile, readAt } from '../file.ts';
import type { BlockFormat, FileIndex } from '../source.ts';
import { withoutValues } from './head.ts';
import { scanArrowFile } from './messages.ts';
import { valuesOf } from './values.ts';

const extraction = { useBigInt: true, useDate: true };

class ArrowFile implements BlockFile {
  readonly #index: FileIndex;
  readonly #columns: readonly string[];
  readonly #fd: number;
  /** Messages that batches share: the schema, and the dictionaries without their values. */
  readonly #shared: Buffer[] = [];
  /** The dictionaries of the first `count` messages by their ids: decoded once, however many batches need them. */
  #dictionaries: { readonly count: number; readonly byId: ReadonlyMap<number, Column<unknown>> } | null = null;

  /** @throws INVALID_DATA where it lacks a column, NOT_FOUND, IO */
  constructor(index: FileIndex, columns: readonly string[]) {
    checkColumns(index, columns);
    registerCodecs();
    this.#index = index;
    this.#columns = columns;
    this.#fd = openFile(index.path, index.file);
  }

  async decode(block: number): Promise<DecodedBlock> {
    const { file, arrow, blocks } = this.#index;
    const { schema, dictionaries, batches, needed } = arrow!;
    checkUnchanged(this.#fd, this.#index);
    const count = needed[block]!;
    if (this.#shared.length === 0) this.#shared.push(this.#read(...schema));
    for (let i = this.#shared.length - 1; i < count; i++)
      this.#shared.push(withoutValues(this.#readDictionary(dictionaries, i)));
    const sizeBytes = batches[2 * block + 1]!;
    const batch = this.#read(batches[2 * block]!, sizeBytes);
    try {
      if (this.#dictionaries?.count !== count) {
        const values = Array.from({ length: count }, (_, i) => this.#readDictionary(dictionaries, i));
        const byId = new Map<number, Column<unknown>>();
        const whole = tableFromIPC([this.#shared[0]!, ...values, batch], extraction);
        eachDictionary(whole, (vector) => byId.set(vector.type.id, vector.dictionary));
        this.#dictionaries = { count, byId };
      }
      const { byId } = this.#dictionaries;
      // A schema, dictionaries and a batch are a whole stream.
      const table = tableFromIPC([...this.#shared.slice(0, count + 1), batch], extraction);
      eachDictionary(table, (vector) => vector.setDictionary(byId.get(vector.type.id)!));
      const rows = blocks[block + 1]! - blocks[block]!;
      if (table.numRows !== rows) throw new Error(`a batch of ${table.numRows} rows that says it has ${rows}`);
      const columns = this.#columns.map((name) => {
        const column = table.getChild(name);
        const vector = column.data[0]!;
        checkVectors(vector, rows);
        return valuesOf(vector);
      });
      return { columns, sizeBytes };
    } catch (error) {
      throw brokenFile(file, 'Arrow IPC', error);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #readDictionary(places: Float64Array, i: number): Buffer {
    return this.#read(places[2 * i]!, places[2 * i + 1]!);
  }

  /** In memory of its own, since vectors want to begin at multiples of 8 bytes. */
  #read(offset: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(length);
    if (readAt(this.#fd, this.#index.file, bytes, 0, length, offset) < length) throw fileChanged(this.#index.file);
    return bytes;
  }
}

interface DictionaryVector {
  readonly type: { readonly id: number };
  readonly dictionary: Column<unknown>;
  setDictionary(dictionary: Column<unknown>): void;
}

function eachDictionary(table: Table, visit: (vector: DictionaryVector) => void): void {
  const walk = (vector: Batch<unknown>): void => {
    if (vector.type.typeId === Type.Dictionary) visit(vector as unknown as DictionaryVector);
    for (const child of vector.children ?? []) walk(child);
  };
  for (let i = 0; i < table.numCols; i++) for (const vector of table.getChildAt(i).data) walk(vector);
}

export const arrowFormat: BlockFormat = {
  scan: scanArrowFile,
  open: (index, columns) => new ArrowFile(index, columns),
};

/** The library has one register for the whole program: what is in it stays. */
function registerCodecs(): void {
  const codecs = [
    [CompressionType.LZ4_FRAME, decompressLz4Frame],
    [CompressionType.ZSTD, decompressZstd],
  ] as const;
  for (const [type, decode] of codecs) {
    if (getCompressionCodec(type)) continue;
    setCompressionCodec(type, {
      decode: (bytes, size) => {
        const out = decode(bytes, size);
        return out.byteOffset % 8 === 0 ? out : out.slice();
      },
      encode: () => {
        throw new Error('reads only');
      },
    });
  }
}
