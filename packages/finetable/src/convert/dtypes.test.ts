/** Tables between dtypes, and what is said of the error. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16, RandomStream } from '@finetable/core';
import { openSafetensors, readNpy, readTensor, readTensorF32, writeNpy, writeSafetensors } from '@finetable/formats';
import { findRows, openTable } from '@finetable/placement';
import { expect, onTestFinished, test } from 'vitest';
import { runHere } from '../testing/capture.ts';
import { listTree, temporaryFolder } from '../testing/tiny-job.ts';

interface Told {
  readonly path: string;
  readonly what: string;
  readonly sizeBytes: number;
  readonly error?: { maxAbsolute: number; rms: number; meanCosine: number | null } | null;
}

async function convert(...argv: string[]): Promise<Told> {
  const { status, stdout, stderr } = await runHere(['convert', ...argv, '--overwrite', '--json']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return (JSON.parse(stdout) as { written: Told[] }).written[0]!;
}

async function rowsOf(path: string): Promise<Float32Array> {
  const table = await openTable(path);
  onTestFinished(() => table.close());
  return table.gather(Int32Array.from({ length: table.rows }, (_, i) => i)).data;
}

function randomValues(count: number): Float32Array {
  const values = new Float32Array(count);
  new RandomStream(3, 'dtypes').fillUniform(values, -1, 1);
  return values;
}

/** By the definition: scale = largest / top, element = value / scale rounded to the nearest even. */
function quantized(values: Float32Array, dim: number, groupDims: number, top: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let begin = 0; begin < values.length; begin += dim) {
    for (let first = begin; first < begin + dim; first += groupDims) {
      const end = Math.min(begin + dim, first + groupDims);
      let largest = 0;
      for (let i = first; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
      const scale = Math.fround(largest / top);
      for (let i = first; i < end; i++) {
        const x = scale === 0 ? 0 : Math.fround(values[i]! / scale);
        const down = Math.floor(x);
        const nearest = x - down === 0.5 ? down + (down % 2 === 0 ? 0 : 1) : Math.round(x);
        out[i] = (nearest + 0) * scale; // whole numbers have no -0
      }
    }
  }
  return out;
}

function errorBetween(before: Float32Array, after: Float32Array, dim: number): Required<Told>['error'] {
  let [maxAbsolute, squares, cosines, directions] = [0, 0, 0, 0];
  before.forEach((x, i) => {
    maxAbsolute = Math.max(maxAbsolute, Math.abs(x - after[i]!));
    squares += (x - after[i]!) ** 2;
  });
  for (let begin = 0; begin < before.length; begin += dim) {
    const [a, b] = [before.subarray(begin, begin + dim), after.subarray(begin, begin + dim)];
    const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
    if (dot(a, a) === 0) continue;
    cosines += dot(b, b) === 0 ? 0 : dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    directions++;
  }
  return {
    maxAbsolute,
    rms: Math.sqrt(squares / before.length),
    meanCosine: directions === 0 ? null : cosines / directions,
  };
}

function expectError(found: Told['error'], before: Float32Array, after: Float32Array, dim: number): void {
  const naive = errorBetween(before, after, dim)!;
  expect(found!.maxAbsolute).toBe(naive.maxAbsolute);
  expect(found!.rms).toBeCloseTo(naive.rms, 12);
  expect(found!.meanCosine).toBeCloseTo(naive.meanCosine!, 12);
}

const variants = [
  ['f32'],
  ['f16'],
  ['bf16'],
  ['int8'],
  ['int4'],
  ['int4', '--group', '32'],
  ['int4', '--group', '128'],
  ['int4', '--group', 'row'],
] as const;

// 70 dims: two groups of 64, the last one short; 71: half a byte more, too.
test.each([70, 71])('every dtype from every other, %i dims: values, error, and f32 back', async (dim) => {
  const folder = await temporaryFolder();
  const path = (name: string): string => join(folder, name);
  const values = randomValues(5 * dim);
  values.fill(0, dim, 2 * dim);
  await writeSafetensors(path('source'), [{ name: 't', dtype: 'F32', shape: [5, dim], data: values }]);
  const rounded: Record<string, (x: Float32Array) => Float32Array> = {
    f32: (x) => x,
    f16: (x) => x.map((value) => f16ToF32(f32ToF16(value))),
    bf16: (x) => x.map((value) => bf16ToF32(f32ToBf16(value))),
    int8: (x) => quantized(x, dim, dim, 127),
    int4: (x) => quantized(x, dim, 64, 7),
    'int4 --group 32': (x) => quantized(x, dim, 32, 7),
    'int4 --group 128': (x) => quantized(x, dim, 128, 7),
    'int4 --group row': (x) => quantized(x, dim, dim, 7),
  };
  await writeFile(path('source.safetensors'), await readFile(path('source')));
  for (const from of variants) {
    const middle = path('middle.safetensors');
    await convert(path('source.safetensors'), middle, '--dtype', ...from);
    const before = await rowsOf(middle);
    expect(before, from.join(' ')).toEqual(rounded[from.join(' ')]!(values));
    for (const to of variants) {
      const told = await convert(middle, path('end.safetensors'), '--dtype', ...to);
      // int4 without --group keeps the groups it has; a row of 70 is one group of 128 or of the row.
      const kept = from[0] === to[0] && (from[0] !== 'int4' || to.length === 1);
      const after = await rowsOf(path('end.safetensors'));
      expect(after, `${from.join(' ')} to ${to.join(' ')}`).toEqual(kept ? before : rounded[to.join(' ')]!(before));
      if (kept || to[0] === 'f32') expect(told.error ?? null).toBeNull();
      else if (told.error) expectError(told.error, before, after, dim);
      else expect(after).toEqual(before); // the same groups by another name
    }
  }
});

test('known answers, in the file and in words', async () => {
  const folder = await temporaryFolder();
  const [npy, out] = [join(folder, 'a.npy'), join(folder, 'a.safetensors')];
  // Scales 2 and 1 (int8: 127 / 127); ties go to the even neighbour.
  const data = Float32Array.of(254, -3, 5, 0, 127, 0.5, -1.5, 126.4);
  await writeNpy(npy, { dtype: 'F32', shape: [2, 4], data });
  const { status, stdout } = await runHere(['convert', npy, out, '--dtype', 'int8']);
  expect(status).toBe(0);
  const model = await openSafetensors(out);
  const read = async (name: string) => (await readTensor(out, model, name)).data;
  expect(await read('embeddings')).toEqual(Int8Array.of(127, -2, 2, 0, 127, 0, -2, 126));
  expect(await read('embeddings.scale')).toEqual(Float32Array.of(2, 1));
  expect(stdout).toBe(
    `${out}: int8 [2, 4], ${(await stat(out)).size} B\n  rounding error: at most 1, RMS 0.577, mean cosine of rows 0.99998771\n`,
  );
  const told = await runHere(['convert', npy, out, '--dtype', 'int4', '--group', '32', '--overwrite']);
  expect(told.stdout).toContain('int4 [2, 4], one group a row, ');
  expect(await readTensor(out, await openSafetensors(out), 'embeddings')).toMatchObject({ shape: [2, 2] });
});

test('scales in another file of a sharded model, to another dtype, to its own and to npy', async () => {
  const folder = await temporaryFolder();
  const path = (name: string): string => join(folder, name);
  await writeSafetensors(path('a.safetensors'), [
    { name: 't', dtype: 'I8', shape: [2, 2], data: Int8Array.of(1, 2, 3, -4) },
  ]);
  await writeSafetensors(path('b.safetensors'), [
    { name: 't.scale', dtype: 'F32', shape: [2], data: Float32Array.of(2, 0.5) },
  ]);
  const index = path('model.safetensors.index.json');
  await writeFile(index, JSON.stringify({ weight_map: { t: 'a.safetensors', 't.scale': 'b.safetensors' } }));
  const values = Float32Array.of(2, 4, 1.5, -2);
  expect(await convert(index, path('o.npy'), '--dtype', 'f16')).toMatchObject({
    what: 'F16 [2, 2]',
    error: { maxAbsolute: 0 },
  });
  expect((await readNpy(path('o.npy'))).data).toEqual(Uint16Array.from(values, f32ToF16));
  expect(await convert(index, path('o.safetensors'))).toMatchObject({ what: 'int8 [2, 2]' });
  expect(await rowsOf(path('o.safetensors'))).toEqual(values);
  expect(await findRows(path('o.safetensors'))).toMatchObject({ dtype: 'int8', dim: 2 });
});

test('word vectors to int4, rows counted; the words beside it', async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, 'v.txt'), 'a 7 -3\nb 0 0\nc 0.7 0.1\n');
  const out = join(folder, 'v.safetensors');
  const told = await convert(join(folder, 'v.txt'), out, '--dtype', 'int4');
  expect(await rowsOf(out)).toEqual(Float32Array.of(7, -3, 0, 0, ...[7, 1].map((q) => q * Math.fround(0.1))));
  expect(told).toMatchObject({ what: 'int4 [3, 2], one group a row' });
  expect(await readFile(join(folder, 'words.txt'), 'utf8')).toBe('a\nb\nc\n');
});

test('a table of many chunks, its last one short', async () => {
  const folder = await temporaryFolder();
  const [rows, dim] = [70_001, 33];
  const values = randomValues(rows * dim);
  const source = join(folder, 'a.safetensors');
  await writeSafetensors(source, [{ name: 't', dtype: 'F32', shape: [rows, dim], data: values }]);
  for (const [dtype, groupDims, top] of [
    ['int8', dim, 127],
    ['int4', 32, 7],
  ] as const) {
    const out = join(folder, `${dtype}.safetensors`);
    const told = await convert(source, out, '--dtype', dtype, ...(dtype === 'int4' ? ['--group', '32'] : []));
    const expected = quantized(values, dim, groupDims, top);
    expectError(told.error, values, expected, dim);
    await convert(out, join(folder, 'back.npy'), '--dtype', 'f32');
    const back = (await readNpy(join(folder, 'back.npy'))).data as Float32Array;
    expect(Buffer.compare(Buffer.from(back.buffer), Buffer.from(expected.buffer))).toBe(0);
  }
});

test('rows of zeros have no cosine, and rows of NaN no error', async () => {
  const folder = await temporaryFolder();
  const [npy, out] = [join(folder, 'a.npy'), join(folder, 'a.safetensors')];
  const write = (...data: number[]) =>
    writeNpy(npy, { dtype: 'F32', shape: [data.length / 2, 2], data: Float32Array.from(data) });
  await write(0, 0, 0, 0);
  expect((await convert(npy, out, '--dtype', 'int8')).error).toEqual({ maxAbsolute: 0, rms: 0, meanCosine: null });
  expect((await runHere(['convert', npy, out, '--dtype', 'int4', '--overwrite'])).stdout).toContain('of rows none');
  await write(0, 0, NaN, 1, Infinity, 2, 1 + 2 ** -9, 0, 1e-9, 0);
  // The last row becomes zero, and its direction is lost.
  const error = (await convert(npy, out, '--dtype', 'f16')).error!;
  expect(error).toEqual({
    maxAbsolute: Math.fround(1e-9),
    rms: expect.closeTo(1e-9 / Math.sqrt(6), 16) as number,
    meanCosine: 0.5,
  });
  expect(await readTensorF32(out, await openSafetensors(out), 'embeddings')).toEqual(
    Float32Array.of(0, 0, NaN, 1, Infinity, 2, 1 + 2 ** -9, 0, 0, 0),
  );
});

test.each([
  [
    'NaN to int8',
    ['n.npy', 'o.safetensors', '--dtype', 'int8'],
    'n.npy: row 1: value 0 is NaN, which int8 cannot hold',
  ],
  ['infinity to int4', ['i.npy', 'o.safetensors', '--dtype', 'int4'], 'row 1: value 1 is -Infinity, which int4'],
  ['beyond bf16', ['h.npy', 'o.safetensors', '--dtype', 'bf16'], 'row 0: 3.402820'],
  ['beyond f16', ['h.npy', 'o.safetensors', '--dtype', 'f16'], 'does not fit f16; allowed: up to 65504. Keep f32'],
  [
    'a group without int4',
    ['n.npy', 'o.safetensors', '--dtype', 'int8', '--group', '32'],
    '--group goes with --dtype int4',
  ],
  ['a group alone', ['n.npy', 'o.safetensors', '--group', '32'], '--group goes with --dtype int4'],
  [
    'a group of 48',
    ['n.npy', 'o.safetensors', '--dtype', 'int4', '--group', '48'],
    'Allowed choices are 32, 64, 128, row',
  ],
  ['int8 to npy', ['n.npy', 'o.npy', '--dtype', 'int8'], '.npy has no place for int8; write .safetensors'],
  ['bf16 to npy', ['n.npy', 'o.npy', '--dtype', 'bf16'], '.npy has no place for bf16'],
  ['int8 to npy as it is', ['q.safetensors', 'o.npy'], 'is int8, which .npy has no place for; add --dtype f32 or f16'],
  [
    'three dimensions',
    ['c.npy', 'o.safetensors', '--dtype', 'int8'],
    'shape [1, 2, 2] cannot become int8; allowed: [rows, dims]',
  ],
  [
    'scales that do not fit',
    ['short.safetensors', 'o.npy', '--dtype', 'f32'],
    'allowed for int8 [2, 2] in groups of 2: F32 [2, 1]',
  ],
  ['words that overflow', ['w.txt', 'sub.npy', '--dtype', 'f16'], 'w.txt: the vector of "b": -70000 does not fit f16'],
])('%s: refused, and nothing is written', async (_, argv, message) => {
  const folder = await temporaryFolder();
  const npy = (name: string, shape: number[], ...data: number[]) =>
    writeNpy(join(folder, name), { dtype: 'F32', shape, data: Float32Array.from(data) });
  await npy('n.npy', [2, 2], 1, 2, NaN, 4);
  await npy('i.npy', [2, 2], 1, 2, 3, -Infinity);
  await npy('h.npy', [2, 1], 3.40282e38, 1);
  await npy('c.npy', [1, 2, 2], 1, 2, 3, 4);
  const int8 = { name: 't', dtype: 'I8', shape: [2, 2], data: Int8Array.of(1, 2, 3, 4) } as const;
  const scale = (rows: number) =>
    ({ name: 't.scale', dtype: 'F32', shape: [rows, 1], data: new Float32Array(rows) }) as const;
  await writeSafetensors(join(folder, 'q.safetensors'), [int8, scale(2)]);
  await writeSafetensors(join(folder, 'short.safetensors'), [int8, scale(1)]);
  await writeFile(join(folder, 'w.txt'), 'a 1\nb -70000\n');
  const before = await listTree(folder);
  const paths = argv.map((argument) => (/^\w+\.\w+$/.test(argument) ? join(folder, argument) : argument));
  const { status, stdout, stderr } = await runHere(['convert', ...paths]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain(message);
  expect(await listTree(folder)).toEqual(before);
});
