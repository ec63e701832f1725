/**
 * NumPy's `.npy`, versions 1 to 3 (numpy/lib/format.py): 6 magic bytes, 2 of version, the header's length, a Python dict
 * literal, padding and a newline, then the data. Read: little-endian f2 f4 f8 i1 u1 i4 i8 in C order. The dict is parsed as
 * exactly the three keys that NumPy writes; nothing is evaluated.
 */
import { FinetableError, tensorDtypeBytes, type TensorDtype } from '@finetable/core';
import {
  checkSource,
  elementCount,
  readArray,
  readArrayF32,
  writeArray,
  type ArrayInfo,
  type ArraySource,
  type TensorArray,
} from './array.ts';
import { writeFileAtomic } from './atomic.ts';
import { decodeUtf8, show, withFile, type InputFile } from './io.ts';

const descriptors: Readonly<Record<string, TensorDtype>> = {
  '<f2': 'F16', '<f4': 'F32', '<f8': 'F64', '|i1': 'I8', '<i1': 'I8', '|u1': 'U8', '<u1': 'U8', '<i4': 'I32', '<i8': 'I64',
}; // prettier-ignore

/** NumPy refuses headers above 10,000 bytes unless told otherwise; a plain array's has about 100. */
const largestHeaderBytes = 10_000;

/**
 * Reads the header of a `.npy` file; the result says where the data lie.
 * @throws UNSUPPORTED (other dtypes, big-endian, Fortran order), INVALID_FILE, NOT_FOUND, IO
 */
export async function readNpyHeader(path: string): Promise<ArrayInfo> {
  return withFile(path, (file) => readHeader(file));
}

/** The whole array. @throws what {@link readNpyHeader} does; UNSUPPORTED above 4 GiB, OUT_OF_MEMORY */
export async function readNpy(path: string): Promise<TensorArray> {
  return readArray(path, await readNpyHeader(path), 'the array');
}

/** The whole array as f32: f2 exactly, f8 rounded; integers are refused. */
export async function readNpyF32(path: string): Promise<Float32Array> {
  return readArrayF32(path, await readNpyHeader(path), 'the array');
}

async function readHeader(file: InputFile): Promise<ArrayInfo> {
  const { path } = file;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${path}: ${message}`, { file: path });
  };
  const prefix = new Uint8Array(Math.min(12, file.bytes));
  await file.read(prefix, 0);
  if (prefix.length < 10 || decodeLatin1(prefix.subarray(0, 6)) !== '\x93NUMPY')
    refuse('does not begin with the bytes of a .npy file');
  const [major, minor] = [prefix[6]!, prefix[7]!];
  if (major < 1 || major > 3 || minor !== 0) refuse(`is of .npy version ${major}.${minor}; allowed: 1.0, 2.0, 3.0`);
  const begin = major === 1 ? 10 : 12;
  if (prefix.length < begin) refuse(`is truncated: it has ${file.bytes} bytes`);
  const view = new DataView(prefix.buffer);
  const length = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > largestHeaderBytes) refuse(`has a header of ${length} bytes; allowed: at most ${largestHeaderBytes}`);
  if (begin + length > file.bytes)
    refuse(`is truncated: the header ends at byte ${begin + length}, the file has ${file.bytes}`);
  const bytes = new Uint8Array(length);
  await file.read(bytes, begin);
  const text = major === 3 ? (decodeUtf8(bytes) ?? refuse('has a header that is not UTF-8')) : decodeLatin1(bytes);
  const { dtype, shape } = parseDict(text, path);
  const byteLength = (elementCount(shape) ?? NaN) * tensorDtypeBytes[dtype];
  if (!Number.isSafeInteger(byteLength)) refuse(`shape (${shape.join(', ')}) overflows: it takes more than 2^53 bytes`);
  const byteOffset = begin + length;
  const found = file.bytes - byteOffset;
  if (found < byteLength)
    refuse(`is truncated: shape (${shape.join(', ')}) of ${dtype} takes ${byteLength} bytes, found ${found}`);
  if (found > byteLength)
    refuse(`has ${found - byteLength} trailing bytes after shape (${shape.join(', ')}) of ${dtype}`);
  return { dtype, shape, byteOffset, byteLength };
}

function decodeLatin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, keys in any order, each once. */
function parseDict(text: string, path: string): { dtype: TensorDtype; shape: number[] } {
  const fail = (code: 'INVALID_FILE' | 'UNSUPPORTED', message: string): never => {
    throw new FinetableError(code, `${path}: ${message}`, { file: path });
  };
  const items = new Map<string, string>();
  let rest =
    /^\{(.*)\}[ ]*\n?$/s.exec(text)?.[1] ??
    fail('INVALID_FILE', `the header ${show(text.trim())} is not a Python dict`);
  const item = /^\s*(['"])(\w+)\1\s*:\s*('[^'\\]*'|"[^"\\]*"|True|False|\([\d\sL,]*\)|\[[^\]]*\])\s*(,\s*|$)/;
  while (rest.trim() !== '') {
    const match =
      item.exec(rest) ?? fail('INVALID_FILE', `the header has ${show(rest.trim())}, where 'key': value is allowed`);
    const [whole, , key, value] = match as unknown as [string, string, string, string];
    if (items.has(key)) fail('INVALID_FILE', `the header has ${show(key)} twice`);
    items.set(key, value);
    rest = rest.slice(whole.length);
  }
  for (const key of ['descr', 'fortran_order', 'shape'])
    if (!items.has(key)) fail('INVALID_FILE', `the header lacks ${show(key)}`);
  if (items.size > 3)
    fail(
      'INVALID_FILE',
      `the header has the keys ${[...items.keys()].join(', ')}; allowed: descr, fortran_order, shape`,
    );

  const descr = items.get('descr')!;
  const dtype = Object.hasOwn(descriptors, descr.slice(1, -1)) ? descriptors[descr.slice(1, -1)] : undefined;
  if (dtype === undefined) {
    const reason = descr.startsWith('[')
      ? 'a record'
      : descr[1] === '>'
        ? 'big-endian'
        : /^.\|?O/.test(descr)
          ? 'Python objects'
          : 'not read';
    fail(
      'UNSUPPORTED',
      `dtype ${show(descr)} is ${reason}; allowed: '<f2', '<f4', '<f8', '|i1', '|u1', '<i4', '<i8'. Convert with astype() first`,
    );
  }
  const order = items.get('fortran_order')!;
  if (order === 'True') fail('UNSUPPORTED', 'is in Fortran order; save it with numpy.ascontiguousarray() first');
  if (order !== 'False') fail('INVALID_FILE', `fortran_order is ${show(order)}; allowed: True, False`);
  const tuple = items.get('shape')!;
  // A tuple of one has a comma, (3,), and only then; Python 2 wrote long integers as 3L.
  const match =
    /^\(\s*(?:(\d+L?\s*(?:,\s*\d+L?\s*)+),?|(\d+L?)\s*,)?\s*\)$/.exec(tuple) ??
    fail('INVALID_FILE', `shape is ${show(tuple)}; allowed: a tuple of integers`);
  const shape = (match[1] ?? match[2] ?? '').split(',').filter((part) => part !== '').map((part) => Number.parseInt(part, 10)); // prettier-ignore
  if (shape.some((dimension) => !Number.isSafeInteger(dimension)))
    fail('INVALID_FILE', `shape is ${show(tuple)}; allowed: integers below 2^53`);
  return { dtype: dtype!, shape };
}

const descriptorOf: Readonly<Partial<Record<TensorDtype, string>>> = {
  F16: '<f2', F32: '<f4', F64: '<f8', I8: '|i1', U8: '|u1', I32: '<i4', I64: '<i8',
}; // prettier-ignore

/**
 * Writes a `.npy` file of version 1.0, replacing one that is there; the same bytes as `numpy.save`. Rows may be counted while
 * they stream (`shape: [null, D]`): like NumPy, the header leaves room for the first dimension to grow.
 * @throws INVALID_ARGUMENT (shape, length), UNSUPPORTED (dtype), IO; on failure nothing is written
 */
export async function writeNpy(path: string, source: ArraySource): Promise<void> {
  checkSource(path, 'the array', source);
  const descr = descriptorOf[source.dtype];
  if (descr === undefined) {
    const message = `${path}: ${source.dtype} has no .npy dtype here; allowed: ${Object.keys(descriptorOf).join(', ')}`;
    throw new FinetableError('UNSUPPORTED', message, { file: path, dtype: source.dtype });
  }
  if (source.shape.length > mostDimensions) {
    const message = `${path}: the array has ${source.shape.length} dimensions; NumPy allows ${mostDimensions}`;
    throw new FinetableError('INVALID_ARGUMENT', message, { file: path });
  }
  await writeFileAtomic(path, async (write) => {
    const rows = source.shape[0] === null ? [0, ...(source.shape.slice(1) as number[])] : (source.shape as number[]);
    await write(formatHeader(descr, rows));
    const shape = await writeArray(path, 'the array', source, (chunk) => write(chunk));
    if (source.shape[0] === null) await write(formatHeader(descr, shape), 0);
  });
}

/** NumPy 2's limit. */
const mostDimensions = 64;

/** Digits that NumPy leaves for the first dimension, whatever it is (`GROWTH_AXIS_MAX_DIGITS`), so every length takes the same room. */
const growthDigits = 21;

function formatHeader(descr: string, shape: readonly number[]): Uint8Array {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const growth = shape.length > 0 ? growthDigits - String(shape[0]).length : 0;
  const total = Math.ceil((10 + dict.length + growth + 1) / 64) * 64;
  const header = Buffer.from(`\x93NUMPY\x01\x00\0\0${dict.padEnd(total - 11)}\n`, 'latin1');
  header.writeUInt16LE(total - 10, 8);
  return header;
}
