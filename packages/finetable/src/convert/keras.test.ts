import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadAdapter, readNpyF32, readSafetensorsHeader, readTensorF32 } from '@finetable/formats';
import { openTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { runHere } from '../testing/capture.ts';
import { listTree, temporaryFolder } from '../testing/tiny-job.ts';

const models = fileURLToPath(new URL('../../../formats/test/keras/', import.meta.url));
const model = (name: string): string => join(models, name);
const expected = JSON.parse(await readFile(model('expected.json'), 'utf8')) as Record<
  string,
  Record<string, { values: number[][]; output: number[][] }>
>;

async function convert(...argv: string[]): Promise<string> {
  const { status, stdout, stderr } = await runHere(['convert', ...argv]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

/** Within Keras' own rounding. */
function expectClose(found: Float32Array, wanted: readonly number[][], tolerance = 1e-6): void {
  expect(found).toHaveLength(wanted.flat().length);
  wanted.flat().forEach((value, i) => expect(Math.abs(found[i]! - value)).toBeLessThan(tolerance));
}

test('a layer becomes a table of its name and dtype', async () => {
  const folder = await temporaryFolder();
  for (const [layer, dtype] of [
    ['words', 'F32'],
    ['tags', 'BF16'],
    ['half', 'F16'],
  ] as const) {
    const out = join(folder, `${layer}.safetensors`);
    const { values } = expected['functional.keras']![layer]!;
    const shape = [values.length, values[0]!.length];
    expect(await convert(model('functional.keras'), out, '--tensor', layer)).toContain(
      `${dtype} [${shape.join(', ')}]`,
    );
    const header = await readSafetensorsHeader(out);
    expect(header.tensors.get(layer)).toMatchObject({ dtype, shape });
    expectClose(await readTensorF32(out, header, layer), values);
  }
});

test('quantised ones stay int8 where the file can hold it, and are decoded elsewhere', async () => {
  const folder = await temporaryFolder();
  const { values } = expected['int8.keras']!.words!;
  const [out, npy, four] = ['o.safetensors', 'o.npy', 'four.safetensors'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  expect(await convert(model('int8.keras'), out)).toContain('int8 [6, 9]');
  const table = await openTable(out);
  expect(table.dtype).toBe('int8');
  expectClose(table.gather(Int32Array.from(values, (_, i) => i)).data, values);
  table.close();
  await convert(model('int8.h5'), npy);
  expectClose(await readNpyF32(npy), values);
  expect(await convert(model('int4.keras'), four)).toContain('F32 [6, 9]');
  const header = await readSafetensorsHeader(four);
  expectClose(await readTensorF32(four, header, 'words'), expected['int4.keras']!.words!.values);
});

test('factors become an adapter that, merged, gives what the layer computes', async () => {
  const folder = await temporaryFolder();
  const [base, adapter, merged] = ['w.safetensors', 'adapter', 'm.safetensors'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const from = ['--tensor', 'words'];
  expect(await convert(model('functional.h5'), base, ...from)).toContain(
    'without the LoRA factors of rank 2 (--to sparse writes those)',
  );
  await convert(model('functional.h5'), adapter, '--to', 'sparse', '--base', base, ...from);
  const [{ base: facts, groups }] = (await loadAdapter(adapter)) as [Awaited<ReturnType<typeof loadAdapter>>[0]];
  expect(facts).toMatchObject({
    rows: 7,
    dim: 4,
    dtype: 'f32',
    fingerprint: expect.stringContaining('sha256') as string,
  });
  expect(groups).toMatchObject([{ rank: 2, alpha: 3, rows: Int32Array.of(0, 1, 2, 3, 4, 5, 6) }]);
  expect((await runHere(['merge', adapter, '--base', base, '--output', merged])).status).toBe(0);
  const header = await readSafetensorsHeader(merged);
  expectClose(await readTensorF32(merged, header, 'words'), expected['functional.h5']!.words!.output);
  await convert(model('functional.h5'), join(folder, 'peft'), '--to', 'peft', ...from);
  expect(await loadAdapter(join(folder, 'peft'))).toMatchObject([{ table: 'words', groups: [{ rank: 2, alpha: 3 }] }]);
});

test.each([
  ['several layers and none named', ['functional.keras', 'o.npy'], 'choose one; allowed: words, tags, half'],
  ['a layer that is not there', ['functional.keras', 'o.npy', '--tensor', 'x'], 'no embedding layers named "x"'],
  ['factors that Keras has merged', ['int8.keras', 'o', '--to', 'sparse'], 'has no LoRA factors: Keras merges them'],
  ['--dtype for factors', ['int8.keras', 'o', '--to', 'sparse', '--dtype', 'f16'], 'adapters are always f32'],
  ['--base for a matrix', ['int8.keras', 'o.npy', '--base', 'b.npy'], '--base goes with adapters'],
  ['--duplicates', ['int8.keras', 'o.npy', '--duplicates', 'skip'], '--duplicates goes with word vectors'],
  ['no format', ['int8.keras', 'o'], 'allowed for a Keras model: --to safetensors or --to npy'],
  ['a file that is no model', ['versions.json.keras', 'o.npy'], 'no such file'],
])('%s is refused, and nothing is written', async (_, [input, output, ...options], message) => {
  const folder = await temporaryFolder();
  const { status, stdout, stderr } = await runHere(['convert', model(input!), join(folder, output!), ...options]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain(message);
  expect(await listTree(folder)).toEqual([]);
});

test('inspect lists the layers with their first rows', async () => {
  const { stdout, status } = await runHere(['inspect', model('functional.h5')]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/functional\.h5: Keras model or weights \(HDF5\), .*, 3 embedding layers\n/);
  expect(stdout).toContain('words (model_weights/words/words): f32 [7, 4], LoRA of rank 2, alpha 3\n  row 0  min ');
  const { stdout: json } = await runHere(['inspect', model('tfkeras.keras'), '--json']);
  expect(JSON.parse(json)).toMatchObject({
    kind: 'keras',
    format: 'keras',
    embeddings: [
      { name: 'words', path: 'layers/embedding', rows: 7, dim: 4, dtype: 'f32', lora: null },
      { name: 'tags' },
      { name: 'deep', firstRows: [{ row: 0 }, { row: 1 }, { row: 2 }] },
    ],
  });
});
