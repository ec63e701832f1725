import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { f16ToF32, type TensorDtype } from '@finetable/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openSafetensors, readTensor, readTensorF32 } from './model.ts';
import { writeSafetensors, type TensorSource } from './write.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  path = join(folder, 'model.safetensors');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test('every dtype comes out as its typed array', async () => {
  const data = {
    F64: new Float64Array([1.5]), F32: new Float32Array([2.5]), F16: new Uint16Array([0x3c00]), BF16: new Uint16Array([0x3f80]),
    F8_E4M3: new Uint8Array([0x38]), F8_E5M2: new Uint8Array([0x3c]), I64: new BigInt64Array([-(2n ** 62n)]), I32: new Int32Array([-7]),
    I16: new Int16Array([-300]), I8: new Int8Array([-8]), U64: new BigUint64Array([2n ** 63n]), U32: new Uint32Array([2 ** 31]),
    U16: new Uint16Array([65535]), U8: new Uint8Array([255]), BOOL: new Uint8Array([1]),
  } satisfies Record<TensorDtype, TensorSource['data']>; // prettier-ignore
  await writeSafetensors(path, Object.entries(data).map(([name, values]) => ({ name, dtype: name as TensorDtype, shape: [1], data: values }))); // prettier-ignore
  const model = await openSafetensors(path);
  for (const [name, values] of Object.entries(data)) {
    expect(await readTensor(path, model, name)).toEqual({ dtype: name, shape: [1], data: values });
  }
});

test('f16, bf16 and f64 become f32, also in several reads', async () => {
  // Every bit pattern 35 times: more than is decoded at a time.
  const bits = new Uint16Array(35 * 65536).map((_, i) => i);
  const doubles = new Float64Array([1 / 3, 1e300, -0, 2 ** -149]);
  await writeSafetensors(path, [
    { name: 'half', dtype: 'F16', shape: [bits.length], data: bits },
    { name: 'brain', dtype: 'BF16', shape: [bits.length], data: bits },
    { name: 'double', dtype: 'F64', shape: [4], data: doubles },
  ]);
  const model = await openSafetensors(path);
  const half = await readTensorF32(path, model, 'half');
  const brain = await readTensorF32(path, model, 'brain');
  const brainBits = Uint32Array.from({ length: 65536 }, (_, i) => i << 16);
  const brainValues = new Float32Array(brainBits.buffer);
  const halfValues = Float32Array.from({ length: 65536 }, (_, i) => f16ToF32(i));
  let wrong = 0;
  for (let i = 0; i < bits.length; i++) {
    if (!Object.is(half[i], halfValues[bits[i]!]) || !Object.is(brain[i], brainValues[bits[i]!])) wrong++;
  }
  expect(wrong).toBe(0);
  expect(await readTensorF32(path, model, 'double')).toEqual(Float32Array.from(doubles));
});

test('8-bit floats: the values of the OCP specification', async () => {
  const e4m3 = new Uint8Array([0x00, 0x01, 0x07, 0x08, 0x38, 0x7e, 0x7f, 0xb8, 0xfe, 0x80]);
  const e5m2 = new Uint8Array([0x00, 0x01, 0x03, 0x04, 0x3c, 0x7b, 0x7c, 0x7d, 0xbc, 0xfc]);
  await writeSafetensors(path, [
    { name: 'e4m3', dtype: 'F8_E4M3', shape: [10], data: e4m3 },
    { name: 'e5m2', dtype: 'F8_E5M2', shape: [10], data: e5m2 },
  ]);
  const model = await openSafetensors(path);
  // OFP8, table 2: smallest subnormal 2^-9, largest subnormal 0.875 * 2^-6, smallest normal 2^-6, largest 448.
  expect([...(await readTensorF32(path, model, 'e4m3'))]).toEqual([
    0,
    2 ** -9,
    0.875 * 2 ** -6,
    2 ** -6,
    1,
    448,
    NaN,
    -1,
    -448,
    -0,
  ]);
  // Smallest subnormal 2^-16, largest subnormal 0.75 * 2^-14, smallest normal 2^-14, largest 57344.
  expect([...(await readTensorF32(path, model, 'e5m2'))]).toEqual([
    0,
    2 ** -16,
    0.75 * 2 ** -14,
    2 ** -14,
    1,
    57344,
    Infinity,
    NaN,
    -1,
    -Infinity,
  ]);
});

test('a tensor that is not there, integers as f32, more than one array holds, a file cut after it was opened', async () => {
  await writeSafetensors(path, [{ name: 'a', dtype: 'I32', shape: [2], data: new Int32Array(2) }]);
  const model = await openSafetensors(path);
  await expect(readTensor(path, model, 'b')).rejects.toThrow(/has no tensor "b"; it has "a"$/);
  await expect(readTensorF32(path, model, 'a')).rejects.toThrow(/tensor "a" is I32, which is not read as f32/);
  const large = {
    tensors: new Map([['a', { dtype: 'F16', shape: [2 ** 31], byteOffset: 8, byteLength: 2 ** 32 } as const]]),
  };
  await expect(readTensorF32(path, large, 'a')).rejects.toThrow(
    /takes 8 GiB in memory; one array holds at most .*; open it as a table/,
  );
  await truncate(path, model.fileBytes - 1);
  await expect(readTensor(path, model, 'a')).rejects.toMatchObject({ code: 'INVALID_FILE' });
});

async function shards(weightMap: unknown): Promise<string> {
  const tensor = (name: string, value: number): TensorSource => ({
    name,
    dtype: 'F32',
    shape: [1],
    data: new Float32Array([value]),
  });
  await writeSafetensors(join(folder, 'one.safetensors'), [tensor('a', 1), tensor('b', 2)]);
  await writeSafetensors(join(folder, 'two.safetensors'), [tensor('c', 3)]);
  const index = join(folder, 'model.safetensors.index.json');
  await writeFile(index, JSON.stringify({ metadata: { total_size: 12 }, weight_map: weightMap }));
  return index;
}
const one = 'one.safetensors';
const two = 'two.safetensors';

test('a sharded model is one view', async () => {
  const model = await openSafetensors(await shards({ c: two, a: one, b: one }));
  expect([...model.tensors.keys()].sort()).toEqual(['a', 'b', 'c']);
  const values = new Map<string, unknown>();
  for (const [name, { file }] of model.tensors) values.set(name, (await readTensorF32(file, model, name))[0]);
  expect(Object.fromEntries(values)).toEqual({ a: 1, b: 2, c: 3 });
});

test.each<[unknown, RegExp]>([
  [
    { a: one, c: two },
    /one.safetensors: holds the tensor "b", which model.safetensors.index.json does not map to this file/,
  ],
  [{ a: one, b: one, c: two, d: two }, /two.safetensors: lacks the tensor "d"/],
  [{ a: one, b: two, c: two }, /one.safetensors: holds the tensor "b"/],
  [{ a: '../one.safetensors' }, /weight_map "a" is "..\/one.safetensors"; allowed: the plain name/],
  [{ a: '/one.safetensors' }, /allowed: the plain name/],
  [{ a: 'sub\\one.safetensors' }, /allowed: the plain name/],
  [{ a: '..' }, /allowed: the plain name/],
  [{ a: 'one.bin' }, /allowed: the plain name/],
  [{ a: 1 }, /weight_map "a" is 1/],
  [['a'], /weight_map is an array/],
  [undefined, /weight_map is null/],
  [{ a: 'none.safetensors' }, /none.safetensors: reading failed \(ENOENT\)/],
  [
    Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`t${i}`, `${i}.safetensors`])),
    /maps to 10001 files; allowed: at most 10000/,
  ],
])('refuses the index %.60j', async (weightMap, message) => {
  await expect(openSafetensors(await shards(weightMap))).rejects.toThrow(message);
});
