import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { f16ToF32, f32ToF16, jagged, makePlan, matrix, range, type Matrix } from '@finetable/core';
import { openSafetensors, readNpyF32, readTensor, writeSafetensors } from '@finetable/formats';
import { adamw, createAdapter, type Adapter } from '@finetable/lora';
import { openTable } from '@finetable/placement';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openStaticModel, type StaticModel } from './model.ts';

/** Made by tools/fixtures/static_models.py with the versions in versions.json. */
const fixtures = fileURLToPath(new URL('../../test/static', import.meta.url));
const models = ['st-wordpiece', 'st-unigram', 'm2v-wordpiece', 'm2v-bpe', 'm2v-words'];
const D = 16;

let texts: string[];
let folder: string;
beforeAll(async () => {
  texts = JSON.parse(await readFile(join(fixtures, 'texts.json'), 'utf8')) as string[];
  folder = await mkdtemp(join(tmpdir(), 'static-'));
});
afterAll(() => rm(folder, { recursive: true }));

function maxDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, x, i) => (Math.abs(x - b[i]!) <= most ? most : Math.abs(x - b[i]!)), 0);
}

/** Trained until every row it touches has moved. */
function trained(model: StaticModel, ids: readonly number[]): Adapter {
  const adapter = createAdapter(model.table, { rank: 2, alpha: 4, seed: 3 });
  adapter.startTraining(adamw({ learningRate: 0.2 }));
  const plan = makePlan(jagged(ids.map((id) => [id])), model.table.rows);
  const out = matrix(ids.length, D);
  for (let step = 0; step < 3; step++) {
    adapter.lookup(plan, out, true);
    adapter.update(plan, adapter.gradients(plan, out));
  }
  return adapter;
}

test.for(models)('%s gives the vectors of its Python library', async (name) => {
  const model = await openStaticModel(join(fixtures, name));
  const { data, rows, cols } = model.encode(texts);
  expect([rows, cols]).toEqual([texts.length, D]);
  const expected = await readNpyF32(join(fixtures, `${name}.npy`));
  if (model.table.dtype === 'f16') {
    // Python rounds the vectors of an f16 model to f16, by up to half of the last place; ours may round to its neighbour.
    data.forEach((value, i) => {
      const [x, y] = [f32ToF16(value), f32ToF16(expected[i]!)];
      expect(f16ToF32(y)).toBe(expected[i]);
      if (Math.abs(value) > 2 ** -14) expect(Math.abs(x - y)).toBeLessThanOrEqual(1);
      else expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(2 ** -24);
    });
  } else {
    expect(maxDifference(data, expected)).toBeLessThanOrEqual(1e-5);
  }
  expect(expected.some((value) => Math.abs(value) > 0.1)).toBe(true);
  model.close();
});

test('what a model says of itself, and its ids as plans take them', async () => {
  const sentences = await openStaticModel(join(fixtures, 'st-wordpiece'), { name: 'words', placement: 'ram' });
  expect(sentences).toMatchObject({ library: 'sentence-transformers', pooling: 'mean', normalize: true });
  expect(sentences.table).toMatchObject({ name: 'words', dim: D, inMemory: true });
  const { values, offsets, weights } = sentences.ids(['the fox', '', 'qqqq']);
  expect([...offsets]).toEqual([0, 3, 3, 4]);
  expect(weights).toBeUndefined();
  // Unknown tokens are kept.
  expect(values[3]).toBe(sentences.tokenizer.unknownId);
  expect(sentences.encode([])).toEqual(matrix(0, D));
  sentences.close();
  expect(() => sentences.encode(['the'])).toThrow('the table is closed');

  const mapped = await openStaticModel(join(fixtures, 'm2v-wordpiece'));
  expect(mapped).toMatchObject({ library: 'model2vec', pooling: 'sum', normalize: true });
  const file = await openSafetensors(join(mapped.folder, 'model.safetensors'));
  const mapping = Array.from((await readTensor(file.path, file, 'mapping')).data as BigInt64Array, Number);
  const tokenWeights = (await readTensor(file.path, file, 'weights')).data as Float32Array;
  const tokens = mapped.tokenizer.encode('the lazy qqqq dog').filter((id) => id !== mapped.tokenizer.unknownId);
  expect(mapped.ids(['', 'the lazy qqqq dog'])).toEqual({
    values: Int32Array.from(tokens, (id) => mapping[id]!),
    offsets: Int32Array.of(0, 0, tokens.length),
    weights: Float32Array.from(tokens, (id) => tokenWeights[id]! / tokens.length),
  });
  mapped.close();
});

test('many texts are pooled in parts', async () => {
  const model = await openStaticModel(join(fixtures, 'm2v-words'));
  const many = Array.from({ length: 2500 }, (_, i) => (i % 5 === 0 ? 'the fox' : 'a dog'));
  const { data } = model.encode(many);
  const two = model.encode(['the fox', 'a dog']).data;
  many.forEach((text, i) => {
    const expected = text === 'the fox' ? two.subarray(0, D) : two.subarray(D);
    expect(data.subarray(i * D, (i + 1) * D)).toEqual(expected);
  });
  model.close();
});

test.for(models)(
  '%s, saved with an adapter, gives the adapted vectors; other rows are the same bytes',
  async (name) => {
    const model = await openStaticModel(join(fixtures, name));
    const { table, tokenizer } = model;
    const touched = [...new Set(model.ids(['the quick fox', 'where is my card']).values), table.rows - 1];
    const adapter = trained(model, [...new Set(touched)]);
    const adapted = model.encode(texts, adapter);
    expect(maxDifference(adapted.data, model.encode(texts).data)).toBeGreaterThan(0.01);

    const target = join(folder, name);
    expect(await model.save(target, { adapter })).toEqual([]);
    const merged = await openStaticModel(target);
    expect(merged.table).toMatchObject({ rows: table.rows, dtype: table.dtype });
    // In f16, merged rows are rounded by up to 2^-11 of values below 8.
    const tolerance = table.dtype === 'f16' ? 8 * 2 ** -11 : 1e-5;
    expect(maxDifference(merged.encode(texts).data, adapted.data)).toBeLessThanOrEqual(tolerance);
    const ids = range(table.rows);
    const [before, after] = [table.gather(ids), merged.table.gather(ids)];
    const rowOf = ({ data }: Matrix, row: number): Float32Array => data.subarray(row * D, (row + 1) * D);
    for (const row of ids) {
      if (touched.includes(row)) expect(rowOf(after, row)).not.toEqual(rowOf(before, row));
      else expect(rowOf(after, row)).toEqual(rowOf(before, row));
    }
    const bytes = (of: StaticModel): Promise<Buffer> => readFile(of.tokenizer.file);
    expect(await bytes(merged)).toEqual(await bytes(model));
    expect(tokenizer.size).toBe(merged.tokenizer.size);
    merged.close();
    adapter.close();
    model.close();
  },
);

test('rows that a mapping shares are adapted together', async () => {
  const model = await openStaticModel(join(fixtures, 'm2v-wordpiece'));
  const row = model.ids(['the']).values[0]!;
  const adapter = trained(model, [row]);
  expect(adapter.touchedRows).toBe(1);
  const file = await openSafetensors(join(model.folder, 'model.safetensors'));
  const mapping = Array.from((await readTensor(file.path, file, 'mapping')).data as BigInt64Array, Number);
  const words = ['a', 'cat', 'sat', 'on', 'mat', 'and', 'dog', 'fox', 'is', 'my', 'it', 'for', 'day', 'i', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
  const single = words.filter((word) => model.ids([word]).values.length === 1);
  const [plain, adapted] = [model.encode(single), model.encode(single, adapter)];
  const moved = single.filter((_, i) =>
    adapted.data.subarray(i * D, (i + 1) * D).some((value, j) => value !== plain.data[i * D + j]),
  );
  expect(moved).toEqual(single.filter((word) => mapping[model.tokenizer.encode(word)[0]!] === row));
  expect(moved.length).toBeGreaterThan(0);
  adapter.close();
  model.close();
}); // prettier-ignore

test('what cannot be saved', async () => {
  const model = await openStaticModel(join(fixtures, 'm2v-bpe'));
  const dense = createAdapter(model.table, { kind: 'dense' });
  dense.groups[0]!.reset(Int32Array.of(5));
  model.table.kernels.scatterRows(
    dense.groups[0]!.factors,
    Int32Array.of(0),
    matrix(1, D, new Float32Array(D).fill(70000)),
  );
  await expect(model.save(join(folder, 'overflow'), { adapter: dense })).rejects.toMatchObject({
    code: 'NON_FINITE',
    message: 'model: row 5 would hold Infinity as f16; nothing was written',
  });
  await expect(readFile(join(folder, 'overflow', 'config.json'))).rejects.toMatchObject({ code: 'ENOENT' });
  const limited = createAdapter(model.table, { rank: 2, maxNorm: 1 });
  await expect(model.save(join(folder, 'limited'), { adapter: limited })).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('an adapter with maxNorm is not merged') as string,
  });
  expect(existsSync(join(folder, 'limited'))).toBe(false);
  await expect(model.save(model.folder, { overwrite: true })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });

  const other = await openTable(join(fixtures, 'm2v-words', 'model.safetensors'));
  const foreign = createAdapter(other, { rank: 1 });
  const mismatch = {
    code: 'MISMATCH',
    message: expect.stringContaining("allowed: one over this model's own") as string,
  };
  await expect(model.save(join(folder, 'foreign'), { adapter: foreign })).rejects.toMatchObject(mismatch);
  expect(() => model.encode(['the'], foreign)).toThrow(expect.objectContaining(mismatch));
  for (const open of [dense, limited, foreign, other, model]) open.close();
});

test('a table that changed under an open model is not copied', async () => {
  const copy = join(folder, 'copy');
  await cp(join(fixtures, 'm2v-words'), copy, { recursive: true });
  const model = await openStaticModel(copy);
  const data = new Float32Array(D);
  await writeSafetensors(join(copy, 'model.safetensors'), [{ name: 'embeddings', dtype: 'F32', shape: [1, D], data }]);
  await expect(model.save(join(folder, 'never'))).rejects.toMatchObject({ code: 'INVALID_FILE' });
  model.close();
});

test('a tokenizer with more tokens than the table has rows', async () => {
  const copy = join(folder, 'short');
  await cp(join(fixtures, 'm2v-words'), copy, { recursive: true });
  const data = new Float32Array(3 * D);
  await writeSafetensors(join(copy, 'model.safetensors'), [{ name: 'embeddings', dtype: 'F32', shape: [3, D], data }]);
  await expect(openStaticModel(copy)).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: expect.stringMatching(/tokenizer\.json: has ids up to \d+; the model has 3 tokens, so 0 to 2 are allowed/),
  });
  await writeFile(join(copy, 'tokenizer.json'), '{}');
  await expect(openStaticModel(copy)).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: expect.stringContaining('model is undefined'),
  });
});
