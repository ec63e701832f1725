/**
 * Arrow IPC files, of the file format and of the stream format: both are a schema and then batches, one message after the other.
 * A scan reads the heads of the messages and passes over their bodies.
 */
import { closeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { tableFromIPC, Type, type DataType } from '@uwdata/flechette';
import { throwIfStopped } from '../../errors.ts';
import { brokenFile, emptyFile } from '../blocks.ts';
import { fileChanged, openFile, readAt, statFile } from '../file.ts';
import type { FileIndex } from '../source.ts';
import { kinds, readHead } from './head.ts';

/** Where messages lie. Each pair is a message's first byte and how many it has, head and body. */
export interface ArrowPlaces {
  readonly schema: readonly [number, number];
  /** `[dictionaries, 2]` */
  readonly dictionaries: Float64Array;
  /** `[blocks, 2]` */
  readonly batches: Float64Array;
  /** `[blocks]`: the dictionary messages that a batch needs are the first so many. */
  readonly needed: Float64Array;
}

/** @throws NOT_FOUND, IO, INVALID_FILE, INVALID_DATA (no examples), INTERRUPTED */
export async function scanArrowFile(file: string, path: string, signal?: AbortSignal): Promise<FileIndex> {
  const fd = openFile(path, file);
  try {
    const { size: sizeBytes, mtimeMs: modifiedMs } = statFile(fd, file);
    const read = (offset: number, length: number): Buffer => {
      if (offset + length > sizeBytes) throw new Error(`it ends at byte ${sizeBytes}, within a message`);
      const bytes = Buffer.allocUnsafeSlow(length);
      if (readAt(fd, file, bytes, 0, length, offset) < length) throw fileChanged(file);
      return bytes;
    };
    const blocks = [0];
    const [dictionaries, batches, needed]: number[][] = [[], [], []];
    let schema: readonly [number, number] | null = null;
    let blockBytes = 0;
    const isFileFormat = sizeBytes >= 8 && read(0, 6).toString('latin1') === 'ARROW1';
    for (let offset = isFileFormat ? 8 : 0, count = 0; offset + 8 <= sizeBytes; count++) {
      const head = readHead(offset, read);
      if (!head) break;
      const { kind, length, bodyBytes, rows } = head;
      const bytes = length + bodyBytes;
      if (offset + bytes > sizeBytes) throw new Error(`it ends at byte ${sizeBytes}, within a message`);
      if (kind === kinds.schema) schema ??= [offset, bytes];
      else if (kind === kinds.dictionary) {
        // All its values are made into strings before they are asked for. Compressed, a byte may stand for some hundred.
        if (rows > 4096 * bytes) throw new Error(`a dictionary of ${rows} values in ${bytes} bytes`);
        dictionaries!.push(offset, bytes);
      } else if (kind === kinds.batch && rows > 0) {
        batches!.push(offset, bytes);
        needed!.push(dictionaries!.length / 2);
        blocks.push(blocks.at(-1)! + rows);
        blockBytes = Math.max(blockBytes, bytes);
      }
      offset += bytes;
      if (count % 256 === 0) {
        await setImmediate();
        throwIfStopped(signal, file);
      }
    }
    if (!schema) throw new Error('it has no schema');
    const { fields } = tableFromIPC(read(...schema)).schema;
    const examples = blocks.at(-1)!;
    if (examples === 0) throw emptyFile(file);
    // A file may have its dictionaries anywhere; in a stream they come before what needs them.
    if (isFileFormat) needed!.fill(dictionaries!.length / 2);
    return {
      file,
      path,
      format: 'arrow',
      sizeBytes,
      modifiedMs,
      columns: fields.map(({ name }) => name),
      unreadable: unreadableColumns(fields),
      examples,
      blocks: share(blocks),
      randomAccess: false,
      blockBytes,
      text: null,
      arrow: { schema, dictionaries: share(dictionaries!), batches: share(batches!), needed: share(needed!) },
    };
  } catch (error) {
    throw brokenFile(file, 'Arrow IPC', error);
  } finally {
    closeSync(fd);
  }
}

function unreadableColumns(fields: readonly { readonly name: string; readonly type: DataType }[]): Map<string, string> {
  const out = new Map<string, string>();
  const visit = (column: string, type: NestedType): void => {
    const name = unreadableTypes.get(type.typeId);
    if (name !== undefined) out.set(column, name);
    if (type.dictionary) visit(column, type.dictionary);
    for (const child of type.children ?? []) visit(column, child.type);
  };
  for (const { name, type } of fields) visit(name, type as NestedType);
  return out;
}

interface NestedType {
  readonly typeId: number;
  readonly dictionary?: NestedType;
  readonly children?: readonly { readonly type: NestedType }[];
}

const unreadableTypes = new Map<number, string>([
  [Type.Binary, 'binary'],
  [Type.LargeBinary, 'binary'],
  [Type.FixedSizeBinary, 'binary'],
  [Type.BinaryView, 'binary'],
  [Type.Interval, 'interval'],
  [Type.Union, 'union'],
  [Type.RunEndEncoded, 'run-end encoded values'],
]);

function share(values: readonly number[]): Float64Array {
  const shared = new Float64Array(new SharedArrayBuffer(8 * values.length));
  shared.set(values);
  return shared;
}
