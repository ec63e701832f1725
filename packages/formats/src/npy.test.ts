import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { FinetableError } from '@finetable/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ArraySource } from './array.ts';
import { readNpy, readNpyF32, readNpyHeader, writeNpy } from './npy.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  path = join(folder, 'x.npy');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A file of a dict, as NumPy lays it out, and `dataBytes` zeros. */
function npy(dict: string, dataBytes = 0, version = 1, declared?: number): Buffer {
  const text = Buffer.from(`${dict}\n`);
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  if (version === 1) length.writeUInt16LE(declared ?? text.length);
  else length.writeUInt32LE(declared ?? text.length);
  return Buffer.concat([
    Buffer.from(`\x93NUMPY`, 'latin1'),
    Buffer.from([version, 0]),
    length,
    text,
    Buffer.alloc(dataBytes),
  ]);
}
const dict = (descr: string, shape: string, order = 'False'): string =>
  `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }`;

// numpy.save of float32 [[1, 2, 3], [4, 5, 6]], NumPy 2.
const saved =
  '934e554d5059010076007b276465736372273a20273c6634272c2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028322c2033292c207d' +
  '20'.repeat(58) +
  '0a0000803f0000004000004040000080400000a0400000c040';

test('the same bytes as numpy.save, rows counted or not', async () => {
  const values = new Float32Array([1, 2, 3, 4, 5, 6]);
  await writeNpy(path, { dtype: 'F32', shape: [2, 3], data: values });
  expect((await readFile(path)).toString('hex')).toBe(saved);
  async function* stream() {
    yield new Uint8Array(values.buffer, 0, 7);
    yield new Uint8Array(values.buffer, 7);
  }
  await writeNpy(path, { dtype: 'F32', shape: [null, 3], data: stream() });
  expect((await readFile(path)).toString('hex')).toBe(saved);
  expect(await readNpyHeader(path)).toEqual({ dtype: 'F32', shape: [2, 3], byteOffset: 128, byteLength: 24 });
  expect(await readNpyF32(path)).toEqual(values);
});

test.each<ArraySource>([
  { dtype: 'F16', shape: [2], data: new Uint16Array([0x3c00, 0x8000]) },
  { dtype: 'F64', shape: [], data: new Float64Array([2.5]) },
  { dtype: 'I8', shape: [1, 2], data: new Int8Array([-1, 5]) },
  { dtype: 'U8', shape: [2, 1, 1], data: new Uint8Array([255, 0]) },
  { dtype: 'I32', shape: [0, 3], data: new Int32Array(0) },
  { dtype: 'I64', shape: [1], data: new BigInt64Array([-5n]) },
])('reads back $dtype $shape', async (source) => {
  await writeNpy(path, source);
  expect(await readNpy(path)).toEqual(source);
});

test.each([
  ['version 2', npy(dict("'<f4'", '(2,)'), 8, 2), [2]],
  ['version 3', npy(dict("'<f4'", '(2,)'), 8, 3), [2]],
  ['other quotes, order and spaces', npy(`{ "shape" :(1,2),"fortran_order":False , "descr": "<f4"}   `, 8), [1, 2]],
  ['long integers of Python 2', npy(dict("'<f4'", '(2L,)'), 8), [2]],
  ['a scalar', npy(dict("'<f4'", '()'), 4), []],
  ['a comma at the end', npy(dict("'<f4'", '(1, 2,)'), 8), [1, 2]],
])('reads %s', async (_, bytes, shape) => {
  await writeFile(path, bytes);
  const header = await readNpyHeader(path);
  expect(header.shape).toEqual(shape);
  expect(header.byteOffset + header.byteLength).toBe(bytes.length);
});

test.each<[string, string, Buffer, RegExp]>([
  [
    'other bytes',
    'INVALID_FILE',
    Buffer.from('PK\x03\x04 an npz file'),
    /does not begin with the bytes of a .npy file/,
  ],
  ['an empty file', 'INVALID_FILE', Buffer.alloc(0), /does not begin/],
  ['version 4', 'INVALID_FILE', npy(dict("'<f4'", '()'), 4, 4), /version 4.0; allowed: 1.0, 2.0, 3.0/],
  [
    'a header past the end',
    'INVALID_FILE',
    npy(dict("'<f4'", '()'), 0, 1, 500),
    /is truncated: the header ends at byte 510/,
  ],
  [
    'a huge header',
    'INVALID_FILE',
    npy(dict("'<f4'", '()'), 0, 2, 2 ** 31),
    /a header of 2147483648 bytes; allowed: at most 10000/,
  ],
  [
    'too few data',
    'INVALID_FILE',
    npy(dict("'<f4'", '(2,)'), 7),
    /is truncated: shape \(2\) of F32 takes 8 bytes, found 7/,
  ],
  ['too many data', 'INVALID_FILE', npy(dict("'<f4'", '(2,)'), 9), /has 1 trailing bytes/],
  [
    'Fortran order',
    'UNSUPPORTED',
    npy(dict("'<f4'", '(2,)', 'True'), 8),
    /Fortran order; save it with numpy.ascontiguousarray/,
  ],
  ['Python objects', 'UNSUPPORTED', npy(dict("'|O'", '(2,)'), 8), /is Python objects; allowed/],
  ['big-endian', 'UNSUPPORTED', npy(dict("'>f4'", '(2,)'), 8), /is big-endian; allowed/],
  ['records', 'UNSUPPORTED', npy(dict("[('a', '<f4')]", '(2,)'), 8), /is a record; allowed/],
  ['text', 'UNSUPPORTED', npy(dict("'<U3'", '(2,)'), 24), /is not read; allowed/],
  ['an inherited name', 'UNSUPPORTED', npy(dict("'toString'", '(2,)'), 8), /is not read; allowed/],
  ['code', 'INVALID_FILE', npy("{'descr': __import__('os').system('x')}"), /where 'key': value is allowed/],
  ['no dict', 'INVALID_FILE', npy('[1, 2]'), /is not a Python dict/],
  ['a key twice', 'INVALID_FILE', npy(`{'shape': (), ${dict("'<f4'", '()').slice(1)}`, 4), /has "shape" twice/],
  ['a missing key', 'INVALID_FILE', npy("{'descr': '<f4', 'shape': ()}", 4), /lacks "fortran_order"/],
  ['another key', 'INVALID_FILE', npy(`{'x': True, ${dict("'<f4'", '()').slice(1)}`, 4), /the keys x, descr/],
  ['a shape without its comma', 'INVALID_FILE', npy(dict("'<f4'", '(2)'), 8), /shape is "\(2\)"; allowed: a tuple/],
  ['a negative shape', 'INVALID_FILE', npy(dict("'<f4'", '(-2,)'), 8), /where 'key': value is allowed/],
  ['a shape that overflows', 'INVALID_FILE', npy(dict("'<f4'", '(4294967296, 4294967296)'), 8), /overflows/],
  ['a shape beyond 2^53', 'INVALID_FILE', npy(dict("'<f4'", '(9007199254740993,)'), 8), /integers below 2\^53/],
  ['a quoted order', 'INVALID_FILE', npy(dict("'<f4'", '()', "'x'"), 4), /fortran_order is/],
  [
    'bytes that are not UTF-8',
    'INVALID_FILE',
    Buffer.from(npy(dict("'<f4'", '()'), 4, 3).fill(0xff, 14, 15)),
    /not UTF-8/,
  ],
])('refuses %s', async (_, code, bytes, message) => {
  await writeFile(path, bytes);
  const error = await readNpyHeader(path).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code, details: { file: path } });
  expect((error as Error).message).toMatch(message);
});

test('any mutation of a good file gives a FinetableError or a header that fits the file', async () => {
  const good = Buffer.from(saved, 'hex');
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 }), fc.nat(20), async (at, byte, cut) => {
      const bytes = Buffer.from(good.subarray(0, good.length - (cut > 15 ? cut : 0)));
      if (at < bytes.length) bytes[at] = byte;
      await writeFile(path, bytes);
      try {
        const { byteOffset, byteLength } = await readNpyHeader(path);
        expect(byteOffset + byteLength).toBe(bytes.length);
      } catch (error) {
        if (!(error instanceof FinetableError)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
});

test('refuses to write what NumPy or we cannot read, and leaves no file', async () => {
  const data = new Uint16Array(1);
  await expect(writeNpy(path, { dtype: 'BF16', shape: [1], data })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  await expect(writeNpy(path, { dtype: 'F16', shape: [2], data })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(writeNpy(path, { dtype: 'F16', shape: new Array<number>(65).fill(1), data })).rejects.toThrow(
    /65 dimensions; NumPy allows 64/,
  );
  expect(await readdir(folder)).toEqual([]);
  await writeNpy(path, { dtype: 'I8', shape: [1], data: new Int8Array(1) });
  await expect(readNpyF32(path)).rejects.toThrow(/is I8, which is not read as f32/);
});
