import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, RandomStream } from '@finetable/core';
import { createTable, type ShardedTable } from '@finetable/placement';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Adapter, createAdapter, type AdapterOptions } from './adapter.ts';
import { adapterTensors, loadAdapters, saveAdapters } from './files.ts';
import { adagrad, adamw, type OptimizerSpec } from './optimizer.ts';
import { loadAdapterState, saveAdapterState } from './state.ts';

const V = 40;
const D = 6;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lora-'));
});
afterEach(() => rm(folder, { recursive: true }));

function table(seed = 1, name = 'words'): ShardedTable {
  const values = matrix(V, D);
  new RandomStream(seed, 'table').fillNormal(values.data);
  return createTable(name, values);
}

function steps(adapter: Adapter, from: number, to: number): void {
  for (let step = from; step < to; step++) {
    const plan = makePlan(jagged([[(step * 7) % V, (step * 3) % V, (step * 7) % V], [step % 4]]), V, { pooling: 'mean' });
    const out = matrix(2, D);
    adapter.lookup(plan, out, true);
    adapter.update(plan, adapter.gradients(plan, out));
  }
}

function everyRow(adapter: Adapter): Float32Array {
  const out = matrix(V, D);
  adapter.lookup(makePlan(jagged(Array.from({ length: V }, (_, i) => [i])), V), out);
  return out.data;
}

const cases: [string, AdapterOptions, OptimizerSpec][] = [
  ['adamw', { rank: 3, alpha: 6 }, adamw({ learningRate: 0.05, weightDecay: 0.01 })],
  ['lazy adamw', { rank: 3, rsLora: true }, adamw({ learningRate: 0.05, mode: 'lazy' })],
  ['adagrad, dense', { kind: 'dense' }, adagrad({ learningRate: 0.05 })],
  ['adamw, frozen B', { rank: 2, learningRateB: 0 }, adamw({ learningRate: 0.05 })],
];

test.each(cases)('%s: state saved, loaded and trained on gives the same bytes', async (_, options, optimizer) => {
  const whole = createAdapter(table(), options);
  whole.startTraining(optimizer);
  steps(whole, 0, 20);

  const first = createAdapter(table(), options);
  first.startTraining(optimizer);
  steps(first, 0, 11);
  const path = join(folder, 'state.safetensors');
  await saveAdapterState(path, first);
  const second = createAdapter(table(), { ...options });
  second.startTraining(optimizer);
  steps(second, 30, 33); // whatever it held before is forgotten
  await loadAdapterState(path, second);
  expect(second.step).toBe(11);
  steps(second, 11, 20);
  expect(everyRow(second)).toEqual(everyRow(whole));
  expect(second.b?.data).toEqual(whole.b?.data);
  expect(adapterTensors(second)).toEqual(adapterTensors(whole));
});

test('state of another table or another optimiser is refused, and nothing changes', async () => {
  const adapter = createAdapter(table(), { rank: 3 });
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  steps(adapter, 0, 5);
  const path = join(folder, 'state.safetensors');
  await saveAdapterState(path, adapter);

  const elsewhere = createAdapter(table(2), { rank: 3 });
  elsewhere.startTraining(adamw({ learningRate: 0.1 }));
  await expect(loadAdapterState(path, elsewhere)).rejects.toMatchObject({ code: 'MISMATCH', message: expect.stringContaining('another table') });

  const ranked = createAdapter(table(), { rank: 2 });
  ranked.startTraining(adamw({ learningRate: 0.1 }));
  steps(ranked, 0, 3);
  const before = everyRow(ranked);
  await expect(loadAdapterState(path, ranked)).rejects.toThrow(/tensor "A" must have shape \[\d+, 2\], found \[\d+, 3\]/);
  expect(everyRow(ranked)).toEqual(before);

  const ruled = createAdapter(table(), { rank: 3 });
  ruled.startTraining(adagrad({ learningRate: 0.1 }));
  await expect(loadAdapterState(path, ruled)).rejects.toMatchObject({ code: 'MISMATCH' });
});

test.each(['sparse', 'peft'] as const)('%s adapters give the same vectors after saving and loading', async (format) => {
  const adapter = createAdapter(table(), { rank: 3, alpha: 6, rsLora: true });
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  steps(adapter, 0, 12);
  await saveAdapters(join(folder, 'adapter'), [adapter], { format });
  const [loaded] = await loadAdapters(join(folder, 'adapter'), [table()]);
  expect(everyRow(loaded!)).toEqual(everyRow(adapter));
  expect(loaded!.touchedRows).toBe(adapter.touchedRows);
});

test('an adapter is not laid on the wrong table', async () => {
  const adapter = createAdapter(table(), { rank: 3 });
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  steps(adapter, 0, 3);
  await saveAdapters(join(folder, 'adapter'), [adapter]);
  await expect(loadAdapters(join(folder, 'adapter'), [table(2)])).rejects.toMatchObject({ code: 'MISMATCH', message: expect.stringContaining('fingerprint') });
  await expect(loadAdapters(join(folder, 'adapter'), [createTable('words', matrix(V + 1, D))])).rejects.toThrow(/rows 40; "words" has 41/);
  const two = [table(1, 'a'), table(1, 'b')];
  await expect(loadAdapters(join(folder, 'adapter'), two)).rejects.toThrow(/it adapts a table "words"; the tables given are a, b/);
});
