import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { tensorDtypeBytes, type TensorDtype } from '@finetable/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readSafetensorsHeader } from './header.ts';
import { readTensor } from './model.ts';
import { writeSafetensors, type TensorSource } from './write.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  path = join(folder, 'x.safetensors');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function* stream(...chunks: (Uint8Array | Error)[]) {
  for (const chunk of chunks) {
    if (chunk instanceof Error) throw chunk;
    yield chunk;
  }
}

test('the same bytes as the reference implementation', async () => {
  await writeSafetensors(
    path,
    [
      { name: 'a', dtype: 'I8', shape: [2], data: new Int8Array([7, 8]) },
      { name: 'b', dtype: 'F32', shape: [2, 3], data: new Float32Array([1, 2, 3, 4, 5, 6]) },
    ],
    { k: 'v' },
  );
  // safetensors 0.x for Python: save_file({'b': float32 [[1,2,3],[4,5,6]], 'a': int8 [7,8]}, …, metadata={'k': 'v'})
  expect((await readFile(path)).toString('hex')).toBe(
    '88000000000000007b225f5f6d657461646174615f5f223a7b226b223a2276227d2c2262223a7b226474797065223a22463332222c227368617065223a5b322c335d2c22646174615f6f666673657473223a5b302c32345d7d2c2261223a7b226474797065223a224938222c227368617065223a5b325d2c22646174615f6f666673657473223a5b32342c32365d7d7d0000803f0000004000004040000080400000a0400000c0400708',
  );
});

test('what is written is read back: random names, dtypes, shapes, streams cut anywhere, rows counted or not', async () => {
  const dtypes = Object.keys(tensorDtypeBytes) as TensorDtype[];
  const source = fc.record({
    name: fc.string({ unit: 'binary', minLength: 1 }).filter((name) => !/[\0\p{Surrogate}]/u.test(name)),
    dtype: fc.constantFrom(...dtypes),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
    seed: fc.integer({ min: 0, max: 255 }),
    cuts: fc.array(fc.nat(20), { maxLength: 3 }),
    how: fc.constantFrom('bytes', 'stream', 'counted'),
  });
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(source, { selector: ({ name }) => name, maxLength: 6 }), async (specs) => {
      const bytesOf = new Map<string, Uint8Array>();
      const shapeOf = new Map<string, number[]>();
      const sources = specs.map(({ name, dtype, shape, seed, cuts, how }): TensorSource => {
        const bytes = Uint8Array.from(
          { length: shape.reduce((n, d) => n * d, 1) * tensorDtypeBytes[dtype] },
          (_, i) => seed + i,
        );
        bytesOf.set(name, bytes);
        shapeOf.set(name, shape);
        if (how === 'bytes') return { name, dtype, shape, data: bytes };
        const ends = [...cuts.map((cut) => Math.min(cut, bytes.length)).sort((x, y) => x - y), bytes.length];
        const data = stream(...ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end)));
        const counted = how === 'counted' && shape.length > 0 && !shape.slice(1).includes(0);
        return { name, dtype, shape: counted ? [null, ...shape.slice(1)] : shape, data };
      });
      await writeSafetensors(path, sources);
      const header = await readSafetensorsHeader(path);
      expect([...header.tensors.keys()].sort()).toEqual([...bytesOf.keys()].sort());
      let dataOffset = Infinity;
      let size = 8;
      for (const [name, { dtype, byteOffset }] of header.tensors) {
        const tensor = await readTensor(path, header, name);
        expect(tensor.shape).toEqual(shapeOf.get(name));
        expect(new Uint8Array(tensor.data.buffer)).toEqual(bytesOf.get(name));
        expect(tensorDtypeBytes[dtype]).toBeLessThanOrEqual(size);
        size = tensorDtypeBytes[dtype];
        dataOffset = Math.min(dataOffset, byteOffset);
      }
      if (header.tensors.size > 0) expect(dataOffset % 8).toBe(0);
    }),
    { numRuns: 100 },
  );
});

test('by dtype size descending, then by name; metadata sorted', async () => {
  const one = (name: string, dtype: TensorDtype): TensorSource => ({
    name,
    dtype,
    shape: [1],
    data: new Uint8Array(tensorDtypeBytes[dtype]),
  });
  await writeSafetensors(path, [one('a', 'U8'), one('d', 'F32'), one('c', 'I32'), one('b', 'F64')], { z: '1', a: '2' });
  const header = await readSafetensorsHeader(path);
  expect([...header.tensors.keys()]).toEqual(['b', 'c', 'd', 'a']);
  expect(Object.keys(header.metadata)).toEqual(['a', 'z']);
});

test('rows counted while they stream: a tensor after them is in its place', async () => {
  await writeSafetensors(path, [
    { name: 'a', dtype: 'F32', shape: [null, 2], data: stream(new Uint8Array(3).fill(1), new Uint8Array(21).fill(2)) },
    { name: 'b', dtype: 'F32', shape: [1], data: new Float32Array([7]) },
  ]);
  const header = await readSafetensorsHeader(path);
  expect(header.tensors.get('a')?.shape).toEqual([3, 2]);
  expect((await readTensor(path, header, 'b')).data).toEqual(new Float32Array([7]));
});

const f32 = new Float32Array(6);
test.each<[name: string, tensors: TensorSource[], message: RegExp]>([
  [
    'too few bytes',
    [{ name: 'a', dtype: 'F32', shape: [2], data: stream(new Uint8Array(7)) }],
    /tensor "a": the data end after 7 bytes; shape \[2\] of F32 takes 8/,
  ],
  ['too many bytes', [{ name: 'a', dtype: 'F32', shape: [2], data: stream(new Uint8Array(9)) }], /go past 8 bytes/],
  [
    'half a row',
    [{ name: 'a', dtype: 'F32', shape: [null, 2], data: stream(new Uint8Array(12)) }],
    /12 bytes, not a multiple of 8/,
  ],
  [
    'another length',
    [{ name: 'a', dtype: 'F32', shape: [2, 2], data: f32 }],
    /data has 24 bytes; shape \[2, 2\] of F32 takes 16/,
  ],
  [
    'another typed array',
    [{ name: 'a', dtype: 'F16', shape: [12], data: f32 }],
    /data is a Float32Array; allowed for F16: Uint16Array/,
  ],
  [
    'two of one name',
    [
      { name: 'a', dtype: 'F32', shape: [6], data: f32 },
      { name: 'a', dtype: 'F32', shape: [6], data: f32 },
    ],
    /two tensors are named "a"/,
  ],
  [
    'the name of the metadata',
    [{ name: '__metadata__', dtype: 'F32', shape: [6], data: f32 }],
    /cannot be named __metadata__/,
  ],
  ['half a surrogate pair', [{ name: '\ud800', dtype: 'F32', shape: [6], data: f32 }], /half a surrogate pair/],
  ['a fractional shape', [{ name: 'a', dtype: 'F32', shape: [1.5, 4], data: f32 }], /dimension 1.5/],
  ['rows of no bytes', [{ name: 'a', dtype: 'F32', shape: [null, 0], data: stream() }], /cannot be counted/],
  [
    'an unknown dtype',
    [{ name: 'a', dtype: 'f32' as TensorDtype, shape: [6], data: f32 }],
    /dtype "f32"; allowed: F64/,
  ],
  [
    'a shape that overflows',
    [{ name: 'a', dtype: 'F32', shape: [2 ** 40, 2 ** 40], data: stream() }],
    /more than 2\^53 values/,
  ],
])('refuses %s, and leaves no file', async (_, tensors, message) => {
  const error = await writeSafetensors(path, tensors).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
  expect((error as Error).message).toMatch(message);
  expect(await readdir(folder)).toEqual([]);
});

test('a stream that fails midway leaves the old file', async () => {
  await writeSafetensors(path, [{ name: 'old', dtype: 'F32', shape: [6], data: f32 }]);
  const failing: TensorSource = {
    name: 'a',
    dtype: 'F32',
    shape: [null, 2],
    data: stream(new Uint8Array(8), new Error('midway')),
  };
  await expect(writeSafetensors(path, [failing])).rejects.toThrow(/^midway$/);
  expect([...(await readSafetensorsHeader(path)).tensors.keys()]).toEqual(['old']);
  expect(await readdir(folder)).toEqual(['x.safetensors']);
});
