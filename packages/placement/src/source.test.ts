import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { f32ToBf16 } from '@finetable/core';
import { writeNpy, writeQuantizedTable, writeSafetensors, type TensorSource } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findRows } from './source.ts';
import { openTable } from './table.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'source-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function* once(data: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(data);
}
const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer);

const int8: TensorSource = { name: 't', dtype: 'I8', shape: [2, 3], data: Int8Array.of(1, -2, 127, 0, 5, -127) };
const scales: TensorSource = { name: 't.scale', dtype: 'F32', shape: [2, 1], data: Float32Array.of(0.5, 2) };
const int8Values = [0.5, -1, 63.5, 0, 10, -254];

test('a bf16 tensor', async () => {
  const path = join(folder, 'a.safetensors');
  const data = Uint16Array.of(...[1, -2, 0.5, 256].map(f32ToBf16));
  await writeSafetensors(path, [{ name: 't', dtype: 'BF16', shape: [2, 2], data }]);
  expect(await findRows(path)).toMatchObject({ path, rows: 2, dim: 2, dtype: 'bf16' });
  const table = await openTable(path);
  expect([...table.gather(Int32Array.of(1, 0)).data]).toEqual([0.5, 256, 1, -2]);
  table.close();
});

test('int8 is element times scale, and its scales are no table of their own', async () => {
  const path = join(folder, 'a.safetensors');
  await writeSafetensors(path, [int8, scales]);
  expect(await findRows(path)).toMatchObject({ dtype: 'int8', rows: 2, dim: 3, scales: { path, groupDims: 3 } });
  for (const placement of ['mapped', 'ram', [{ home: 'ram', rows: 1 }, { home: 'mapped' }]] as const) {
    const table = await openTable(path, { placement });
    expect([...table.gather(Int32Array.of(0, 1)).data]).toEqual(int8Values);
    table.close();
  }
});

test('int4 of odd dims: column 2j in the low half of byte j', async () => {
  const path = join(folder, 'a.safetensors');
  const format = { dtype: 'int4', dim: 35, groupDims: 32 } as const;
  const elements = new Uint8Array(2 * 18).fill(0x0f); // -1, 0, -1, 0, …
  elements[17] = 0x09; // row 0, column 34: -7
  elements[18] = 0x70; // row 1, columns 0 and 1: 0, 7
  await writeQuantizedTable(
    path,
    { name: 't', rows: 2, format },
    { elements: once(elements), scales: once(bytesOf(Float32Array.of(1, 10, 3, 4))) },
  );
  expect(await findRows(path)).toMatchObject({ dtype: 'int4', rows: 2, dim: 35, scales: { groupDims: 32 } });
  const table = await openTable(path);
  const { data } = table.gather(Int32Array.of(0, 1));
  expect([...data.subarray(0, 3), ...data.subarray(30, 38)]).toEqual([-1, 0, -1, -1, 0, -10, 0, -70, 0, 21, -3]);
  table.close();
});

test('a sharded model: several tables, scales in another file than their elements', async () => {
  const [a, b] = [join(folder, 'a.safetensors'), join(folder, 'b.safetensors')];
  await writeSafetensors(a, [int8, { name: 'bias', dtype: 'F32', shape: [3], data: new Float32Array(3) }]);
  await writeSafetensors(b, [scales]);
  const index = join(folder, 'model.safetensors.index.json');
  const map = { t: 'a.safetensors', bias: 'a.safetensors', 't.scale': 'b.safetensors' };
  await writeFile(index, JSON.stringify({ weight_map: map }));
  expect(await findRows(index)).toMatchObject({ path: a, dtype: 'int8', scales: { path: b } });
  const table = await openTable(index, { tensor: 't' });
  expect([...table.gather(Int32Array.of(0, 1)).data]).toEqual(int8Values);
  table.close();
});

test.each<[string, TensorSource[], string]>([
  ['int8 without scales', [int8], 'none with scales'],
  ['scales of other rows', [int8, { ...scales, shape: [1, 2] }], 'F32 [2, 1]'],
  [
    'several tables',
    [int8, scales, { ...int8, name: 'u' }, { ...scales, name: 'u.scale' }],
    'several 2-d tensors (t, u)',
  ],
])('%s is refused', async (_, tensors, message) => {
  const path = join(folder, 'a.safetensors');
  await writeSafetensors(path, tensors);
  await expect(findRows(path)).rejects.toThrow(message);
});

test('int8 named, and without scales', async () => {
  const path = join(folder, 'a.safetensors');
  await writeSafetensors(path, [int8]);
  await expect(findRows(path, 't')).rejects.toThrow(
    /"t" is I8; a base table is F32, F16, BF16, or I8 or U8 with scales/,
  );
  const npy = join(folder, 'a.npy');
  await writeNpy(npy, { dtype: 'I8', shape: [2, 3], data: Int8Array.of(1, 2, 3, 4, 5, 6) });
  await expect(findRows(npy)).rejects.toThrow(/is I8; a base table is F32/);
});
