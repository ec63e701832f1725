/**
 * The safetensors header, read as if it were hostile: 8 bytes of little-endian length N, N bytes of JSON, then the data.
 * Refused: every way in which two readers could see two different files, and every number that would make a reader reach
 * outside the file. Format: https://huggingface.co/docs/safetensors (metadata parsing); the list of traps follows the
 * format's own security audit.
 */
import { FinetableError, tensorDtypeBytes, type TensorDtype } from '@finetable/core';
import { elementCount, type ArrayInfo } from '../array.ts';
import { decodeUtf8, show, withFile } from '../io.ts';
import { JsonNumber, parseJson, type JsonObject, type JsonValue } from '../json.ts';

/** The format's own limit on N. */
export const largestHeaderBytes = 100_000_000;

export const metadataKey = '__metadata__';

/** What a safetensors file says before its data: tensors with their places, and metadata. */
export interface SafetensorsHeader {
  /** By name, in the header's order. */
  readonly tensors: ReadonlyMap<string, ArrayInfo>;
  /** Without prototype; empty where the file has none. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly fileBytes: number;
}

/**
 * Reads the header of a `.safetensors` file, and nothing after it.
 * @throws INVALID_FILE naming file, tensor, what was found and what is allowed; NOT_FOUND; IO
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  return withFile(path, async (file) => {
    const refuse = (message: string): never => {
      throw new FinetableError('INVALID_FILE', `${path}: ${message}`, { file: path });
    };
    if (file.bytes < 8) refuse(`has ${file.bytes} bytes; a safetensors file has at least 8`);
    const prefix = new Uint8Array(8);
    await file.read(prefix, 0);
    const length = new DataView(prefix.buffer).getBigUint64(0, true);
    if (length === 0n) refuse('the header length is 0; allowed: 2 and more');
    if (length > BigInt(largestHeaderBytes)) {
      refuse(
        `the header length is ${length}; allowed: at most ${largestHeaderBytes}. Is this a safetensors file? (Word vectors in text are converted with finetable convert.)`,
      );
    }
    if (length > BigInt(file.bytes - 8))
      refuse(`the header length is ${length}, but only ${file.bytes - 8} bytes follow it`);
    const bytes = new Uint8Array(Number(length));
    await file.read(bytes, 8);
    return parseSafetensorsHeader(bytes, file.bytes, path);
  });
}

/** The header from its JSON bytes; `fileBytes` is the length of the whole file. */
function parseSafetensorsHeader(bytes: Uint8Array, fileBytes: number, path: string): SafetensorsHeader {
  const root = parseRoot(bytes, path);
  const dataOffset = 8 + bytes.byteLength;
  const tensors = new Map<string, ArrayInfo>();
  for (const [name, value] of root) {
    if (name !== metadataKey) tensors.set(name, parseTensor(name, value, dataOffset, path));
  }
  checkCover(tensors, dataOffset, fileBytes, path);
  return { tensors, metadata: parseMetadata(root.get(metadataKey), path), fileBytes };
}

function parseRoot(bytes: Uint8Array, path: string): JsonObject {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${path}: the header ${message}`, { file: path });
  };
  const text = decodeUtf8(bytes) ?? refuse('is not UTF-8');
  if (text.startsWith('\ufeff')) refuse('begins with a byte order mark; allowed: "{" as its first byte');
  if (text.includes('\0')) refuse(`has a NUL at character ${text.indexOf('\0')}; it is padded with spaces only`);
  if (!text.startsWith('{'))
    refuse(`begins with ${show(text[0])}, it is not an object; allowed: "{" as its first byte`);
  return parseJson(text, `${path}: the header`) as JsonObject;
}

function parseMetadata(value: JsonValue | undefined, path: string): Record<string, string> {
  const metadata = Object.create(null) as Record<string, string>;
  if (value === undefined) return metadata;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${path}: ${metadataKey} ${message}`, { file: path });
  };
  if (!(value instanceof Map)) return refuse(`is ${show(value)}; allowed: an object`);
  for (const [key, text] of value as JsonObject) {
    metadata[key] = typeof text === 'string' ? text : refuse(`${show(key)} is ${show(text)}; allowed: a string`);
  }
  return metadata;
}

const fields = ['dtype', 'shape', 'data_offsets'];

function parseTensor(name: string, value: JsonValue, dataOffset: number, path: string): ArrayInfo {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${path}: tensor ${show(name)}: ${message}`, { file: path, tensor: name });
  };
  if (!(value instanceof Map)) return refuse(`is ${show(value)}; allowed: an object`);
  const entry = value as JsonObject;
  const missing = fields.find((field) => !entry.has(field));
  if (missing !== undefined) refuse(`${missing} is missing`);
  const extra = [...entry.keys()].find((field) => !fields.includes(field));
  if (extra !== undefined) refuse(`has the unknown field ${show(extra)}; allowed: ${fields.join(', ')}`);

  const dtype = parseDtype(entry.get('dtype'), refuse);
  const shape = parseIntegers(entry.get('shape'), 'shape', refuse);
  const offsets = parseIntegers(entry.get('data_offsets'), 'data_offsets', refuse);
  if (offsets.length !== 2) refuse(`data_offsets has ${offsets.length} numbers; allowed: exactly 2`);
  const [begin, end] = offsets as [number, number];
  if (end < begin) refuse(`data_offsets end at ${end}, before they begin at ${begin}`);
  const count = elementCount(shape) ?? refuse(`shape [${shape.join(', ')}] overflows: it has more than 2^53 values`);
  const bytes = count * tensorDtypeBytes[dtype];
  if (!Number.isSafeInteger(bytes))
    refuse(`shape [${shape.join(', ')}] of ${dtype} overflows: it takes more than 2^53 bytes`);
  if (bytes !== end - begin)
    refuse(`shape [${shape.join(', ')}] of ${dtype} takes ${bytes} bytes, data_offsets span ${end - begin}`);
  return { dtype, shape, byteOffset: dataOffset + begin, byteLength: bytes };
}

function parseDtype(value: JsonValue | undefined, refuse: (message: string) => never): TensorDtype {
  if (typeof value === 'string') {
    if (Object.hasOwn(tensorDtypeBytes, value)) return value as TensorDtype;
    const upper = value.toUpperCase();
    if (Object.hasOwn(tensorDtypeBytes, upper)) refuse(`dtype ${show(value)} is not upper case; allowed: "${upper}"`);
  }
  return refuse(`unknown dtype ${show(value)}; allowed: ${Object.keys(tensorDtypeBytes).join(', ')}`);
}

function parseIntegers(value: JsonValue | undefined, field: string, refuse: (message: string) => never): number[] {
  if (!Array.isArray(value)) return refuse(`${field} is ${show(value)}; allowed: an array of integers`);
  for (const item of value) {
    if (item instanceof JsonNumber)
      refuse(`${field} holds ${show(item.text)}; allowed: integers from 0 to 2^53 - 1, written with digits only`);
    if (typeof item !== 'number') refuse(`${field} holds ${show(item)}; allowed: integers`);
    if ((item as number) < 0) refuse(`${field} holds ${show(item)}, which is negative; allowed: integers from 0`);
  }
  return value as number[];
}

/** The tensors must cover the data exactly: no hole, no overlap, no byte before or after. */
function checkCover(
  tensors: ReadonlyMap<string, ArrayInfo>,
  dataOffset: number,
  fileBytes: number,
  path: string,
): void {
  const refuse = (tensor: string, message: string): never => {
    throw new FinetableError('INVALID_FILE', `${path}: tensor ${show(tensor)} ${message}`, { file: path, tensor });
  };
  const inOrder = [...tensors].sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = dataOffset;
  let previous: readonly [string, ArrayInfo] | undefined;
  for (const entry of inOrder) {
    const [name, info] = entry;
    if (previous && info.byteOffset < end) {
      const [other, { byteOffset, byteLength }] = previous;
      const alias = byteOffset === info.byteOffset && byteLength === info.byteLength;
      refuse(name, alias ? `is an alias of ${show(other)}: both have the same bytes` : `overlaps ${show(other)}`);
    }
    if (info.byteOffset > end) refuse(name, `leaves a hole of ${info.byteOffset - end} bytes before it`);
    end = info.byteOffset + info.byteLength;
    previous = entry;
  }
  if (end === fileBytes) return;
  throw new FinetableError(
    'INVALID_FILE',
    end > fileBytes
      ? `${path}: is truncated: the header describes ${end} bytes, the file has ${fileBytes}`
      : `${path}: has ${fileBytes - end} trailing bytes: the header describes ${end} bytes, the file has ${fileBytes}`,
    { file: path, bytes: fileBytes, expectedBytes: end },
  );
}
