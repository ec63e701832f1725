import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TensorDtype } from '@finetable/core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openSafetensors } from './model.ts';
import { isScales, quantizedTable, writeQuantizedTable } from './quantized.ts';
import { writeSafetensors } from './write.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quantized-'));
  path = join(folder, 't.safetensors');
});
afterEach(() => rm(folder, { recursive: true }));

/** A file of zeros: `name: [dtype, shape]`. */
async function write(
  tensors: Record<string, [TensorDtype, number[]]>,
  metadata: Record<string, string> = {},
  file = path,
): Promise<void> {
  const sizes: Partial<Record<TensorDtype, number>> = { F32: 4, F16: 2 };
  await writeSafetensors(
    file,
    Object.entries(tensors).map(([name, [dtype, shape]]) => {
      const count = shape.reduce((product, n) => product * n, 1);
      return { name, dtype, shape, data: new Uint8Array(count * (sizes[dtype] ?? 1)) };
    }),
    metadata,
  );
}

const int4 = (dim: unknown, groupDims: unknown, dtype: unknown = 'int4'): Record<string, string> => ({
  'finetable.t': JSON.stringify({ dtype, dim, groupDims }),
});

async function* chunks(...parts: number[][]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield await Promise.resolve(Uint8Array.from(part));
}

test('what is written, byte for byte, with rows counted or known', async () => {
  const scales = new Uint8Array(Float32Array.of(0.5, 2, 3).buffer);
  for (const rows of [3, null]) {
    await writeQuantizedTable(
      path,
      { name: 't', rows, format: { dtype: 'int4', dim: 3, groupDims: 3 } },
      {
        elements: chunks([0x21, 0x0f], [1, 2, 3, 4]),
        scales: chunks([...scales.subarray(0, 4)], [...scales.subarray(4)]),
      },
    );
    const model = await openSafetensors(path);
    expect(model.metadata).toEqual({ 'finetable.t': '{"dtype":"int4","dim":3,"groupDims":3}' });
    const table = quantizedTable(model, 't')!;
    expect(table).toMatchObject({ rows: 3, format: { dtype: 'int4', dim: 3, groupDims: 3 } });
    expect(table.scales).toMatchObject({ dtype: 'F32', shape: [3, 1], file: path });
    const elements = model.tensors.get('t')!;
    expect(elements).toMatchObject({ dtype: 'U8', shape: [3, 2] });
    const bytes = await readFile(path);
    expect([...bytes.subarray(elements.byteOffset)]).toEqual([0x21, 0x0f, 1, 2, 3, 4]);
    expect(new Uint8Array(bytes.subarray(table.scales.byteOffset, elements.byteOffset))).toEqual(scales);
    expect(table.scales.byteOffset % 8).toBe(0);
  }
});

test.each<[string, Parameters<typeof write>, object | null]>([
  [
    'int8 by its scales alone',
    [{ t: ['I8', [5, 7]], 't.scale': ['F32', [5, 1]] }],
    { dtype: 'int8', dim: 7, groupDims: 7 },
  ],
  ['int8 with flat scales', [{ t: ['I8', [5, 7]], 't.scale': ['F32', [5]] }], { dtype: 'int8', dim: 7, groupDims: 7 }],
  [
    'int4 of odd dims',
    [{ t: ['U8', [5, 33]], 't.scale': ['F32', [5, 3]] }, int4(65, 32)],
    { dtype: 'int4', dim: 65, groupDims: 32 },
  ],
  [
    'int4 of even dims',
    [{ t: ['U8', [5, 33]], 't.scale': ['F32', [5, 2]] }, int4(66, 64)],
    { dtype: 'int4', dim: 66, groupDims: 64 },
  ],
  [
    'groups wider than the row',
    [{ t: ['U8', [5, 4]], 't.scale': ['F32', [5]] }, int4(7, 128)],
    { dtype: 'int4', dim: 7, groupDims: 7 },
  ],
  ['whole numbers of no scale', [{ t: ['I8', [5, 7]], u: ['F32', [5, 1]] }], null],
  ['bytes with what may be scales of anything', [{ t: ['U8', [5, 7]], 't.scale': ['F32', [5, 1]] }], null],
  ['floats with scales of their own', [{ t: ['F32', [5, 7]], 't.scale': ['F32', [5, 1]] }], null],
])('%s', async (_, contents, format) => {
  await write(...contents);
  const model = await openSafetensors(path);
  expect(quantizedTable(model, 't')?.format ?? null).toEqual(format);
  expect(isScales(model.tensors, 't.scale')).toBe(format !== null);
  expect(isScales(model.tensors, 't')).toBe(false);
  expect(quantizedTable(model, 'nothing')).toBeNull();
});

describe('what does not fit together is refused', () => {
  const scales = (...shape: number[]): [TensorDtype, number[]] => ['F32', shape];
  test.each<[string, Parameters<typeof write>, string]>([
    [
      'int8 that lost its scales',
      [{ t: ['I8', [5, 7]] }, int4(7, 7, 'int8')],
      'has no scales; allowed: a tensor "t.scale", F32 [5, …]',
    ],
    ['int4 that lost its scales', [{ t: ['U8', [5, 4]] }, int4(7, 7)], 'has no scales'],
    ['a scale too few', [{ t: ['I8', [5, 7]], 't.scale': scales(4, 1) }], 'F32 [4, 1] in'],
    [
      'one scale for all',
      [{ t: ['I8', [5, 7]], 't.scale': scales(1) }],
      'allowed for int8 [5, 7] in groups of 7: F32 [5, 1]',
    ],
    ['scales without dimensions', [{ t: ['I8', [5, 7]], 't.scale': scales() }], 'F32 [5, 1]'],
    ['two scales a row of int8', [{ t: ['I8', [5, 7]], 't.scale': scales(5, 2) }], 'F32 [5, 1]'],
    ['scales in f16', [{ t: ['I8', [5, 7]], 't.scale': ['F16', [5, 1]] }], 'F16 [5, 1]'],
    [
      'a group too few',
      [{ t: ['U8', [5, 50]], 't.scale': scales(5, 3) }, int4(100, 32)],
      'in groups of 32: F32 [5, 4]',
    ],
    ['flat scales of several groups', [{ t: ['U8', [5, 50]], 't.scale': scales(5) }, int4(100, 64)], 'F32 [5, 2]'],
    ['a table of one dimension', [{ t: ['I8', [5]], 't.scale': scales(5) }], 'shape [5]; a table is [rows, dims]'],
    ['no rows', [{ t: ['I8', [0, 7]], 't.scale': scales(0, 1) }], 'both at least 1'],
    [
      'floats that metadata takes for int4',
      [{ t: ['F32', [5, 4]], 't.scale': scales(5, 1) }, int4(7, 7)],
      'is F32, and its metadata takes it for a quantised table',
    ],
    [
      'I8 that metadata takes for int4',
      [{ t: ['I8', [5, 4]], 't.scale': scales(5, 1) }, int4(7, 7)],
      'says dtype "int4"; allowed for I8: "int8"',
    ],
    [
      'other dims than the width',
      [{ t: ['U8', [5, 4]], 't.scale': scales(5, 1) }, int4(9, 9)],
      '4 bytes a row, and its metadata says 9 dims of int4',
    ],
    [
      'groups of 48',
      [{ t: ['U8', [5, 50]], 't.scale': scales(5, 3) }, int4(100, 48)],
      'groupDims 48; allowed: 32, 64, 128, 100',
    ],
    ['groups of nothing', [{ t: ['U8', [5, 50]], 't.scale': scales(5, 3) }, int4(100, 0)], 'groupDims 0'],
    [
      'groups of int8',
      [{ t: ['I8', [5, 64]], 't.scale': scales(5, 2) }, int4(64, 32, 'int8')],
      'groupDims 32; allowed: 64',
    ],
    ['no dim', [{ t: ['U8', [5, 4]], 't.scale': scales(5, 1) }, int4(undefined, 32)], 'dim null; allowed: from 1'],
    ['a dim that is text', [{ t: ['U8', [5, 4]], 't.scale': scales(5, 1) }, int4('7', 32)], 'dim "7"'],
    ['a broken dim', [{ t: ['U8', [5, 4]], 't.scale': scales(5, 1) }, int4(7.5, 32)], 'dim'],
    [
      'metadata that is no JSON',
      [{ t: ['U8', [5, 4]], 't.scale': scales(5, 1) }, { 'finetable.t': '{' }],
      'metadata "finetable.t"',
    ],
    [
      'metadata that is a list',
      [{ t: ['U8', [5, 4]], 't.scale': scales(5, 1) }, { 'finetable.t': '[]' }],
      'metadata is an array; allowed: an object',
    ],
  ])('%s', async (_, contents, message) => {
    await write(...contents);
    const model = await openSafetensors(path);
    const refused = (): unknown => quantizedTable(model, 't');
    expect(refused).toThrow(expect.objectContaining({ code: 'INVALID_FILE' }));
    expect(refused).toThrow(message);
    expect(refused).toThrow(path);
  });
});

test('in a sharded model, scales may lie in another file; metadata is that of the elements', async () => {
  const [a, b] = [join(folder, 'a.safetensors'), join(folder, 'b.safetensors')];
  await write({ t: ['U8', [5, 4]] }, int4(7, 7), a);
  await write({ 't.scale': ['F32', [5, 1]] }, int4(8, 8), b);
  const index = join(folder, 'model.safetensors.index.json');
  await writeFile(index, JSON.stringify({ weight_map: { t: 'a.safetensors', 't.scale': 'b.safetensors' } }));
  const table = quantizedTable(await openSafetensors(index), 't')!;
  expect(table).toMatchObject({ rows: 5, format: { dim: 7 } });
  expect(table.scales.file).toBe(b);
});
