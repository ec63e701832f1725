/**
 * Arrays in files: where one lies, how its bytes become a typed array, and how a typed array or a stream becomes bytes.
 * Shared by every format; all of them are row-major and little-endian.
 *
 * 16-bit and 8-bit floats come out as their bits (`Uint16Array`, `Uint8Array`); {@link readArrayF32} decodes them.
 */
import { constants } from 'node:buffer';
import { endianness } from 'node:os';
import { f16ToF32, FinetableError, formatBytes, tensorDtypeBytes, type TensorDtype } from '@finetable/core';
import { show, withFile, type InputFile } from './io.ts';

/** Where an array lies in its file. */
export interface ArrayInfo {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

const arrayTypes = {
  F64: Float64Array, F32: Float32Array, F16: Uint16Array, BF16: Uint16Array, F8_E4M3: Uint8Array, F8_E5M2: Uint8Array,
  I64: BigInt64Array, I32: Int32Array, I16: Int16Array, I8: Int8Array,
  U64: BigUint64Array, U32: Uint32Array, U16: Uint16Array, U8: Uint8Array, BOOL: Uint8Array,
} as const satisfies Record<TensorDtype, unknown>; // prettier-ignore

/** What a tensor's values are held in: the type of the same width; bits for F16, BF16 and F8. */
export type TensorData =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | BigUint64Array
  | Uint32Array
  | Uint16Array
  | Uint8Array;

/** A tensor that was read. */
export interface TensorArray {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  /** Its own memory; the caller's to keep. */
  readonly data: TensorData;
}

/** Number of values of a shape, or null beyond 2^53. */
export function elementCount(shape: readonly number[]): number | null {
  if (shape.includes(0)) return 0;
  let count = 1;
  for (const dimension of shape) {
    count *= dimension;
    if (!Number.isSafeInteger(count)) return null;
  }
  return count;
}

/**
 * The whole array as a typed array.
 * @param what how errors name it
 * @throws UNSUPPORTED above 4 GiB (one typed array's limit in Node 20), OUT_OF_MEMORY, IO, INVALID_FILE
 */
export async function readArray(path: string, info: ArrayInfo, what: string): Promise<TensorArray> {
  const Type = arrayTypes[info.dtype];
  const data = allocate(path, what, info.byteLength, (length) => new Type(length / tensorDtypeBytes[info.dtype]));
  await withFile(path, (file) => file.read(bytesOf(data), info.byteOffset));
  return { dtype: info.dtype, shape: info.shape, data };
}

/**
 * The whole array as f32: F32 as it is, F16, BF16 and F8 exactly, F64 rounded to nearest.
 * @throws UNSUPPORTED for integers, and where the f32 values take more than 4 GiB; OUT_OF_MEMORY, IO, INVALID_FILE
 */
export async function readArrayF32(path: string, info: ArrayInfo, what: string): Promise<Float32Array> {
  const count = info.byteLength / tensorDtypeBytes[info.dtype];
  checkFloat(path, info.dtype, what);
  const values = allocate(path, what, count * 4, (length) => new Float32Array(length / 4));
  await withFile(path, (file) => readValuesF32(file, info, 0, values));
  return values;
}

/** At most so many bytes are read before they are decoded. */
const decodeBytes = 2 ** 22;

/** Fills `target` with values `first .. first + target.length` of the array, decoded to f32. */
export async function readValuesF32(
  file: InputFile,
  info: ArrayInfo,
  first: number,
  target: Float32Array,
): Promise<void> {
  const size = tensorDtypeBytes[info.dtype];
  if (info.dtype === 'F32') return file.read(bytesOf(target), info.byteOffset + first * 4);
  const block = new ArrayBuffer(Math.min(target.length * size, decodeBytes));
  for (let done = 0; done < target.length;) {
    const count = Math.min(target.length - done, block.byteLength / size);
    await file.read(new Uint8Array(block, 0, count * size), info.byteOffset + (first + done) * size);
    decodeF32(info.dtype, block, target.subarray(done, done + count));
    done += count;
  }
}

/** Refuses dtypes whose values are not floats. */
export function checkFloat(path: string, dtype: TensorDtype, what: string): void {
  if (dtype in decoders || dtype === 'F32') return;
  throw new FinetableError(
    'UNSUPPORTED',
    `${path}: ${what} is ${dtype}, which is not read as f32; allowed: F64, F32, F16, BF16, F8_E4M3, F8_E5M2`,
    { file: path, dtype },
  );
}

const decoders: Readonly<Partial<Record<TensorDtype, (block: ArrayBuffer, target: Float32Array) => void>>> = {
  F64: (block, target) => target.set(new Float64Array(block, 0, target.length)),
  BF16: (block, target) => {
    const source = new Uint16Array(block, 0, target.length);
    const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
    for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
  },
  F16: (block, target) => decodeByTable((f16Values ??= table(2 ** 16, f16ToF32)), new Uint16Array(block), target),
  F8_E4M3: (block, target) => decodeByTable((e4m3Values ??= table(256, e4m3ToF32)), new Uint8Array(block), target),
  // An E5M2 value is the upper half of an F16 value.
  F8_E5M2: (block, target) =>
    decodeByTable((e5m2Values ??= table(256, (code) => f16ToF32(code << 8))), new Uint8Array(block), target),
};
let f16Values: Float32Array | undefined;
let e4m3Values: Float32Array | undefined;
let e5m2Values: Float32Array | undefined;

function decodeF32(dtype: TensorDtype, block: ArrayBuffer, target: Float32Array): void {
  decoders[dtype]!(block, target);
}

function decodeByTable(values: Float32Array, codes: Uint8Array | Uint16Array, target: Float32Array): void {
  for (let i = 0; i < target.length; i++) target[i] = values[codes[i]!]!;
}

function table(size: number, decode: (code: number) => number): Float32Array {
  return Float32Array.from({ length: size }, (_, code) => decode(code));
}

/** OCP 8-bit float, 4 exponent bits of bias 7, 3 fraction bits; all ones is NaN, there is no infinity. */
function e4m3ToF32(code: number): number {
  const sign = code & 0x80 ? -1 : 1;
  const exponent = (code >>> 3) & 15;
  const fraction = code & 7;
  if (exponent === 15 && fraction === 7) return NaN;
  return exponent === 0 ? sign * fraction * 2 ** -9 : sign * (1 + fraction / 8) * 2 ** (exponent - 7);
}

/** Refuses what one typed array cannot hold; memory that cannot be had is an error, not a crash. */
export function allocate<T>(path: string, what: string, byteLength: number, make: (byteLength: number) => T): T {
  const details = { file: path, bytes: byteLength };
  if (byteLength > constants.MAX_LENGTH) {
    throw new FinetableError(
      'UNSUPPORTED',
      `${path}: ${what} takes ${formatBytes(byteLength)} in memory; one array holds at most ${formatBytes(constants.MAX_LENGTH)}; open it as a table instead`,
      details,
    );
  }
  try {
    return make(byteLength);
  } catch (error) {
    const message = `${path}: ${what} takes ${formatBytes(byteLength)}, which could not be had; open it as a table instead`;
    throw new FinetableError('OUT_OF_MEMORY', message, details, { cause: error });
  }
}

/** The bytes of a typed array; no copy. They are the file's bytes, as this machine must be little-endian too. */
export function bytesOf(data: TensorData): Uint8Array {
  if (endianness() !== 'LE')
    throw new FinetableError('UNSUPPORTED', 'files are little-endian; this machine is big-endian');
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** An array to be written. */
export interface ArraySource {
  readonly dtype: TensorDtype;
  /** `null` as the first dimension: counted from the data, for streams of unknown length. */
  readonly shape: readonly [null, ...number[]] | readonly number[];
  /** The dtype's typed array, or its bytes, whole or as a stream of chunks. Bytes may be cut anywhere. */
  readonly data: TensorData | AsyncIterable<Uint8Array>;
}

/** Checks dtype, shape and, where it is known, the length. `values` is the number of values, or of one row where rows are counted. */
export function checkSource(path: string, what: string, source: ArraySource): { values: number; counted: boolean } {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${path}: ${what}: ${message}`, { file: path });
  };
  const { dtype, shape, data } = source;
  if (!Object.hasOwn(tensorDtypeBytes, dtype))
    refuse(`dtype ${show(dtype)}; allowed: ${Object.keys(tensorDtypeBytes).join(', ')}`);
  const counted = shape[0] === null;
  const known = (counted ? shape.slice(1) : shape) as readonly number[];
  for (const dimension of known) {
    if (!Number.isSafeInteger(dimension) || dimension < 0) refuse(`dimension ${dimension}; allowed: integers from 0`);
  }
  const values = elementCount(known) ?? refuse(`shape [${shape.join(', ')}] has more than 2^53 values`);
  if (counted && values === 0) refuse(`rows of shape [${known.join(', ')}] have no bytes and cannot be counted`);
  if (!Number.isSafeInteger(values * tensorDtypeBytes[dtype]))
    refuse(`shape [${shape.join(', ')}] takes more than 2^53 bytes`);
  if (ArrayBuffer.isView(data)) {
    if (!(data instanceof arrayTypes[dtype]) && !(data instanceof Uint8Array)) {
      refuse(
        `data is a ${data.constructor.name}; allowed for ${dtype}: ${arrayTypes[dtype].name}, or a Uint8Array of its bytes`,
      );
    }
    const needed = values * tensorDtypeBytes[dtype];
    if (!counted && data.byteLength !== needed) {
      refuse(`data has ${data.byteLength} bytes; shape [${shape.join(', ')}] of ${dtype} takes ${needed}`);
    }
  }
  return { values, counted };
}

/**
 * Passes the array's bytes to `write`, checked against its shape, and returns that shape complete.
 * @throws INVALID_ARGUMENT where there are more or fewer bytes than the shape takes, or a row is cut short
 */
export async function writeArray(
  path: string,
  what: string,
  source: ArraySource,
  write: (chunk: Uint8Array) => Promise<void>,
): Promise<number[]> {
  const { values, counted } = checkSource(path, what, source);
  const size = values * tensorDtypeBytes[source.dtype];
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${path}: ${what}: ${message}`, { file: path });
  };
  const shown = `shape [${source.shape.map((d) => d ?? 'rows').join(', ')}] of ${source.dtype}`;
  let bytes = 0;
  if (ArrayBuffer.isView(source.data)) {
    await write(bytesOf(source.data));
    bytes = source.data.byteLength;
  } else {
    for await (const chunk of source.data) {
      bytes += chunk.byteLength;
      if (!counted && bytes > size) refuse(`the data go past ${size} bytes, which is what ${shown} takes`);
      await write(chunk);
    }
  }
  if (!counted) {
    if (bytes < size) refuse(`the data end after ${bytes} bytes; ${shown} takes ${size}`);
    return source.shape as number[];
  }
  if (bytes % size !== 0) refuse(`the data have ${bytes} bytes, not a multiple of ${size}, a row of ${shown}`);
  return [bytes / size, ...(source.shape.slice(1) as number[])];
}
