/** Serving is training: what `openEmbedder` gives is what the objective of the run read. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { createAdapter, loadAdapters, saveAdapters } from '@finetable/lora';
import { openTable } from '@finetable/placement';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJob } from '../job/read.ts';
import type { JobInput } from '../job/schema.ts';
import { runJob } from '../run/run.ts';
import { openEmbedder, type EmbedInput, type EmbedOptions } from './embed.ts';

const [V, D, examples] = [60, 6, 90];
let folder: string;
const words = Array.from({ length: V }, (_, v) => `w${v}`);
const sentence = (i: number): string => words.filter((_, v) => v % 7 === i % 7 || v === (i * 11) % V).join(' ');

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'embed-'));
  for (const name of ['words', 'others']) {
    const data = new Float32Array(V * D);
    new RandomStream(1, name).fillNormal(data);
    for (let i = 0; i < data.length; i += D) data[i]! += 3;
    await writeSafetensors(join(folder, `${name}.safetensors`), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  }
  const lines = Array.from({ length: examples }, (_, i) =>
    JSON.stringify({ key: `k${i}`, left: sentence(i), right: sentence(3 * i + 1), score: (i * 7) % 5 }),
  );
  await writeFile(join(folder, 'pairs.jsonl'), lines.join('\n'));
});
afterEach(() => rm(folder, { recursive: true }));

async function train(name: string, changes: Partial<JobInput> = {}) {
  const feature = (column: string) => ({
    table: 'words',
    column,
    tokens: { vocabulary: {} },
    weighting: { type: 'sif', a: 0.01 } as const,
    removeCommon: 1,
  });
  const input: JobInput = {
    name,
    tables: { words: { file: 'words.safetensors' } },
    data: { train: { file: 'pairs.jsonl' }, validation: { file: 'pairs.jsonl' }, batchSize: 16, workers: 0 },
    features: { left: feature('left'), right: feature('right') },
    objective: { type: 'similarity', first: 'left', second: 'right', label: 'score', range: [0, 4] },
    adapters: { words: { rank: 2 } },
    optimizer: { type: 'adamw', learningRate: 0.02 },
    train: { epochs: 3, threads: 1 },
    ...changes,
  };
  const run = join(folder, 'runs', name);
  return { run, result: await runJob({ job: checkJob(input), folder }, { folder: run }) };
}

async function embed(path: string, input: EmbedInput, options: EmbedOptions = {}) {
  const embedder = await openEmbedder(path, options);
  const [vectors, keys]: [number[], unknown[]] = [[], []];
  try {
    for await (const part of embedder.parts(input)) {
      expect(part.vectors.cols).toBe(embedder.dim);
      expect(part.vectors.rows).toBe(part.keys.length);
      vectors.push(...part.vectors.data);
      keys.push(...part.keys);
    }
  } finally {
    await embedder.close();
  }
  return { vectors, keys };
}

test.each<[string, Partial<JobInput>]>([
  ['an adapter', {}],
  ['a map', { baseline: 'map' }],
  ['nothing trained', { baseline: 'frozen' }],
])('vectors of a run with %s give the loss of its evaluation', async (name, changes) => {
  const { run, result } = await train('run', changes);
  const file = join(folder, 'pairs.jsonl');
  const [left, right] = [
    await embed(run, { file }, { feature: 'left' }),
    await embed(run, { file }, { feature: 'right', normalize: true }),
  ];
  let loss = 0;
  for (let i = 0; i < examples; i++) {
    const [a, b] = [left, right].map(({ vectors }) => vectors.slice(i * D, (i + 1) * D)) as [number[], number[]];
    const dot = a.reduce((sum, x, d) => sum + x * b[d]!, 0);
    loss += (dot / Math.hypot(...a) / Math.hypot(...b) - ((i * 7) % 5) / 4) ** 2 / examples;
  }
  expect(loss, name).toBeCloseTo(result.validation!.loss!, 5);
  for (let i = 0; i < examples; i++) expect(Math.hypot(...right.vectors.slice(i * D, (i + 1) * D))).toBeCloseTo(1, 5);
});

test('values are as those of a file, in order, whatever number of threads', async () => {
  const { run } = await train('run');
  const texts = Array.from({ length: 5000 }, (_, i) => sentence(i % examples));
  const options = { feature: 'left' } as const;
  const one = await embed(run, { values: texts }, { ...options, workers: 0 });
  expect(one.keys).toEqual(texts);
  const three = await embed(run, { values: texts }, { ...options, workers: 3 });
  expect(three).toEqual(one);
  const file = { file: join(folder, 'pairs.jsonl') };
  const read = await embed(run, file, { ...options, id: 'key' });
  expect(read.vectors).toEqual(one.vectors.slice(0, examples * D));
  expect(read.keys).toEqual(Array.from({ length: examples }, (_, i) => `k${i}`));
  expect((await embed(run, { ...file, column: 'right' }, options)).keys.slice(0, 3)).toEqual([1, 2, 3]);
  expect((await embed(run, { values: [] }, options)).keys).toEqual([]);
});

test('of a run with two tables, one feature and its adapter alone are opened', async () => {
  const { run } = await train('run', {
    tables: { words: { file: 'words.safetensors' }, others: { file: 'others.safetensors' } },
    features: {
      left: { table: 'words', column: 'left', tokens: { vocabulary: {} } },
      right: { table: 'others', column: 'right', tokens: { vocabulary: {} } },
    },
    objective: { type: 'classification', input: ['left', 'right'], label: 'score', normalize: true },
    adapters: { words: { rank: 2 }, others: { kind: 'dense' } },
  });
  const values = [sentence(1), sentence(2)];
  await rm(join(folder, 'words.safetensors'));
  const { vectors } = await embed(run, { values }, { feature: 'right' });
  expect(Math.hypot(...vectors.slice(0, D))).toBeCloseTo(1, 5);
  await expect(openEmbedder(run, { feature: 'left' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('rows of a table, with an adapter or without; a list of ids is their mean', async () => {
  const path = join(folder, 'words.safetensors');
  const table = await openTable(path);
  const adapter = createAdapter(table, { kind: 'dense' });
  adapter.startTraining({ type: 'sgd', learningRate: 1 });
  adapter.groups[0]!.reset(Int32Array.of(2));
  table.kernels.scatterRows(adapter.groups[0]!.factors, Int32Array.of(0), { data: new Float32Array(D).fill(5), rows: 1, cols: D }); // prettier-ignore
  await saveAdapters(join(folder, 'adapter'), [adapter]);
  const rows = Array.from(table.gather(Int32Array.of(2, 4)).data);
  adapter.close();
  const values = [2, [2, 4], []];
  const plain = await embed(path, { values });
  expect(plain.vectors.slice(0, D)).toEqual(rows.slice(0, D));
  for (let d = 0; d < D; d++) expect(plain.vectors[D + d]).toBeCloseTo((rows[d]! + rows[D + d]!) / 2, 5);
  expect(plain.vectors.slice(2 * D)).toEqual(Array<number>(D).fill(0));
  expect(plain.keys).toEqual(values);
  const adapted = await embed(path, { values }, { adapter: join(folder, 'adapter') });
  const [again] = await loadAdapters(join(folder, 'adapter'), [table]);
  expect(adapted.vectors.slice(0, D)).toEqual(Array.from(again!.vectors(Int32Array.of(2)).data));
  again!.close();
  table.close();
  expect(adapted.vectors[0]! - plain.vectors[0]!).toBeCloseTo(5, 5);
});

test('what cannot be is refused', async () => {
  const { run } = await train('run');
  const path = join(folder, 'words.safetensors');
  const refused: [() => Promise<unknown>, RegExp][] = [
    [() => openEmbedder(join(folder, 'absent')), /absent: no such file or folder/],
    [() => openEmbedder(run), /run has several features; name one; allowed: left, right/],
    [() => openEmbedder(run, { feature: 'middle' }), /no feature "middle"; allowed: left, right/],
    [() => openEmbedder(run, { feature: 'left', adapter: 'x' }), /is a run; adapter does not go with it/],
    [() => openEmbedder(path, { feature: 'left' }), /is a table; feature does not go with it/],
    [() => embed(path, { values: [V] }), /rows, row 1, column "id": id 60/],
    [() => embed(path, { values: [1] }, { signal: AbortSignal.abort() }), /interrupted|aborted|stopped/i],
  ];
  for (const [attempt, message] of refused) await expect(attempt()).rejects.toThrow(message);
  await rm(join(run, 'result.json'));
  await expect(openEmbedder(run, { feature: 'left' })).rejects.toThrow(/is not a finished run/);
});
