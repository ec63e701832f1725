import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, RandomStream } from '@finetable/core';
import { writeSafetensors, type TensorSource } from '@finetable/formats';
import type { RowStore } from '@finetable/kernels';
import { createTable, type ShardedTable } from '@finetable/placement';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createAdapter, type Adapter } from './adapter.ts';
import type { RowGroup } from './group.ts';
import type { AdapterOptions } from './options.ts';
import { adapterOf, adapterTensors, loadAdapters, saveAdapters } from './files.ts';
import { adagrad, adam, adamw, sgd, type OptimizerSpec } from './optimizer.ts';
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

const rest = (adapter: Adapter): RowGroup => adapter.groups[0]!;

function steps(adapter: Adapter, from: number, to: number): void {
  for (let step = from; step < to; step++) {
    const plan = makePlan(jagged([[(step * 7) % V, (step * 3) % V, (step * 7) % V], [step % 4]]), V, {
      pooling: 'mean',
    });
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

const grouped: AdapterOptions = {
  rank: 2,
  paddingRow: 3,
  groups: [
    { name: 'new', rows: { from: 30 }, kind: 'dense' },
    { name: 'hot', rows: [0, 7, 14], rank: 4, alpha: 2 },
  ],
};

const cases: [string, AdapterOptions, OptimizerSpec][] = [
  ['adamw', { rank: 3, alpha: 6 }, adamw({ learningRate: 0.05, weightDecay: 0.01 })],
  ['lazy adamw', { rank: 3, rsLora: true }, adamw({ learningRate: 0.05, mode: 'lazy' })],
  ['adagrad, dense', { kind: 'dense' }, adagrad({ learningRate: 0.05 })],
  ['adamw, frozen B', { rank: 2, learningRateB: 0 }, adamw({ learningRate: 0.05 })],
  ['adamw, groups', grouped, adamw({ learningRate: 0.05 })],
  ['adamw, dora of groups', { ...grouped, dora: true }, adamw({ learningRate: 0.05 })],
  ['adamw, keras and dropout', { rank: 2, init: 'keras', dropout: 0.3 }, adamw({ learningRate: 0.05 })],
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
  expect(rest(second).b?.data).toEqual(rest(whole).b?.data);
  expect(adapterTensors(second)).toEqual(adapterTensors(whole));
});

test('a plan looked up before a state is loaded finds its rows after it', async () => {
  const plan = makePlan(jagged([[3, 7]]), V);
  const seen = matrix(1, D);
  const train = (adapter: Adapter, rows: number[]): Adapter => {
    adapter.startTraining(adamw({ learningRate: 0.1 }));
    const used = makePlan(jagged([rows]), V);
    const out = matrix(1, D);
    adapter.lookup(used, out, true);
    adapter.update(used, adapter.gradients(used, out));
    return adapter;
  };
  const saved = train(createAdapter(table(), { rank: 2 }), [3, 7]);
  const path = join(folder, 'state.safetensors');
  await saveAdapterState(path, saved);
  saved.lookup(plan, seen);
  const adapter = train(createAdapter(table(), { rank: 2 }), [1, 2]);
  const found = matrix(1, D);
  adapter.lookup(plan, found);
  expect(found.data).not.toEqual(seen.data);
  await loadAdapterState(path, adapter);
  adapter.lookup(plan, found);
  expect(found.data).toEqual(seen.data);
});

test('state of another table or another optimiser is refused, and nothing changes', async () => {
  const adapter = createAdapter(table(), { rank: 3 });
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  steps(adapter, 0, 5);
  const path = join(folder, 'state.safetensors');
  await saveAdapterState(path, adapter);

  const elsewhere = createAdapter(table(2), { rank: 3 });
  elsewhere.startTraining(adamw({ learningRate: 0.1 }));
  await expect(loadAdapterState(path, elsewhere)).rejects.toMatchObject({
    code: 'MISMATCH',
    message: expect.stringContaining('another table'),
  });

  const ranked = createAdapter(table(), { rank: 2 });
  ranked.startTraining(adamw({ learningRate: 0.1 }));
  steps(ranked, 0, 3);
  const before = everyRow(ranked);
  await expect(loadAdapterState(path, ranked)).rejects.toThrow(
    /tensor "A" must have shape \[\d+, 2\], found \[\d+, 3\]/,
  );
  expect(everyRow(ranked)).toEqual(before);

  const ruled = createAdapter(table(), { rank: 3 });
  ruled.startTraining(adagrad({ learningRate: 0.1 }));
  await expect(loadAdapterState(path, ruled)).rejects.toMatchObject({ code: 'MISMATCH' });
});

test.each<[string, AdapterOptions, OptimizerSpec, RegExp]>([
  ['another alpha', { rank: 3, alpha: 30 }, adamw({ learningRate: 0.1 }), /made with scale of rest 1, now it is 10/],
  ['another optimiser', { rank: 3 }, adam({ learningRate: 0.1 }), /optimizer of rest .*decoupled.* now it is .*"l2"/],
  ['another start', { rank: 3, init: 'keras' }, adamw({ learningRate: 0.1 }), /start of rest null, now it is \[0,/],
])('state of %s is refused, and nothing changes', async (_, options, optimizer, message) => {
  const path = join(folder, 'state.safetensors');
  const saved = createAdapter(table(), { rank: 3 });
  saved.startTraining(adamw({ learningRate: 0.1 }));
  steps(saved, 0, 5);
  await saveAdapterState(path, saved);
  const adapter = createAdapter(table(), options);
  adapter.startTraining(optimizer);
  steps(adapter, 0, 3);
  const before = everyRow(adapter);
  await expect(loadAdapterState(path, adapter)).rejects.toMatchObject({ code: 'MISMATCH', message: expect.stringMatching(message) }); // prettier-ignore
  expect(everyRow(adapter)).toEqual(before);
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

test.each<[string, AdapterOptions, number]>([
  ['groups', grouped, 0],
  ['dora of groups', { ...grouped, dora: true }, 5],
  ['keras', { rank: 2, alpha: 20, init: 'keras', seed: 4 }, 0],
  ['rows only', { rank: 2, rows: { from: 5, to: 20 } }, 0],
])('%s come back from a folder, under another name too, and train on', async (_, options, digits) => {
  const adapter = createAdapter(table(), options);
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  steps(adapter, 0, 12);
  await saveAdapters(join(folder, 'adapter'), [adapter]);
  const [loaded] = await loadAdapters(join(folder, 'adapter'), [table(1, 'other')], { learningRate: 0.01 });
  // Column norms are summed anew.
  everyRow(loaded!).forEach((x, i) =>
    digits > 0 ? expect(x).toBeCloseTo(everyRow(adapter)[i]!, digits) : expect(x).toBe(everyRow(adapter)[i]),
  );
  expect(adapterTensors(loaded!)).toEqual({ ...adapterTensors(adapter), table: 'other' });
  loaded!.startTraining(adamw({ learningRate: 0.05 }));
  expect(loaded!.groups.map(({ training }) => training!.rowRule.learningRate)).toEqual(loaded!.groups.map(() => 0.01));
  const before = everyRow(loaded!);
  steps(loaded!, 12, 14);
  expect(everyRow(loaded!)).not.toEqual(before);
});

test('an adapter is not laid on the wrong table', async () => {
  const adapter = createAdapter(table(), { rank: 3 });
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  steps(adapter, 0, 3);
  await saveAdapters(join(folder, 'adapter'), [adapter]);
  await expect(loadAdapters(join(folder, 'adapter'), [table(2)])).rejects.toMatchObject({
    code: 'MISMATCH',
    message: expect.stringContaining('fingerprint'),
  });
  await expect(loadAdapters(join(folder, 'adapter'), [createTable('words', matrix(V + 1, D))])).rejects.toThrow(
    /fingerprint of its first 40 rows/,
  );
  const two = [table(1, 'a'), table(1, 'b')];
  await expect(loadAdapters(join(folder, 'adapter'), two)).rejects.toThrow(
    /it adapts a table "words"; the tables given are a, b/,
  );
});

test('where the second of two adapters does not fit, the first is freed', async () => {
  const adapters = ['a', 'b'].map((name) => createAdapter(table(1, name), { rank: 2 }));
  await saveAdapters(join(folder, 'adapter'), adapters);
  const good = table(1, 'a');
  const wrong = table(2, 'b');
  const made = vi.spyOn(good.kernels, 'createRows');
  await expect(loadAdapters(join(folder, 'adapter'), [good, wrong])).rejects.toMatchObject({ code: 'MISMATCH' });
  const stores = made.mock.results.map(({ value }) => value as RowStore);
  made.mockRestore();
  expect(stores.length).toBeGreaterThan(0);
  expect(stores.filter(({ closed }) => !closed)).toEqual([]);
});

test.each<[string, Partial<Record<string, TensorSource['data']>>, string, RegExp]>([
  ['a row outside the table', { rows: Int32Array.of(3, V) }, '1', /row 40 is not in the table's 0 to 39/],
  ['a negative row', { rows: Int32Array.of(-1, 3) }, '1', /row -1 is not in the table/],
  ['a row twice', { rows: Int32Array.of(3, 3) }, '1', /row 3 is there twice/],
  ['a step that is no number', {}, 'many', /step many; allowed: an integer of 0 or more/],
  ['rows of another dtype', { rows: Float32Array.of(1, 2) }, '1', /tensor "rows" must be I32, found F32/],
  [
    'step counts of another dtype',
    { 'A.lastSteps': Float32Array.of(1, 1) },
    '1',
    /tensor "A.lastSteps" must be I32, found F32/,
  ],
])('a state with %s is refused, and nothing changes', async (_, changes, step, message) => {
  const adapter = createAdapter(table(), { rank: 2 });
  adapter.startTraining(sgd({ learningRate: 0.1, weightDecay: 0.1 }));
  steps(adapter, 0, 3);
  const before = everyRow(adapter);
  const tensors: [string, number[], TensorSource['data']][] = [
    ['rows', [2], Int32Array.of(5, 3)],
    ['A', [2, 2], new Float32Array(4)],
    ['A.lastSteps', [2, 1], Int32Array.of(1, 1)],
    ['B', [2 * D], new Float32Array(2 * D)],
  ];
  const path = join(folder, 'state.safetensors');
  await writeSafetensors(
    path,
    tensors.map(([name, shape, given]) => {
      const data = changes[name] ?? given;
      return { name, shape, data, dtype: data instanceof Int32Array ? 'I32' : 'F32' };
    }),
    { step, fingerprint: adapter.table.fingerprint },
  );
  await expect(loadAdapterState(path, adapter)).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: expect.stringMatching(message),
  });
  expect(everyRow(adapter)).toEqual(before);
  expect(adapter.step).toBe(3);
});

test.each<[string, AdapterOptions]>([
  ['touched', { rank: 2 }],
  ['moved by B', { rank: 2, init: 'keras' }],
])('a padding row that is %s in the file is refused, another one stays its base row', (_, options) => {
  const adapter = createAdapter(table(), { ...options, rows: { from: 1 } });
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  steps(adapter, 1, 12);
  const tensors = adapterTensors(adapter);
  expect(() => adapterOf(adapter.table, tensors, { paddingRow: 7 })).toThrow(
    'words: paddingRow 7 is a row that group "rest" of the adapter changes',
  );
  const padded = adapterOf(adapter.table, tensors, { paddingRow: 0 });
  padded.startTraining(adamw({ learningRate: 0.05 }));
  steps(padded, 0, 3);
  const base = adapter.table.gather(Int32Array.of(0, 7)).data;
  const found = padded.vectors(Int32Array.of(0, 7)).data;
  expect(found.subarray(0, D)).toEqual(base.subarray(0, D));
  expect(found.subarray(D)).not.toEqual(base.subarray(D));
});

test('what is about A and B is refused for an adapter without', () => {
  const tensors = adapterTensors(createAdapter(table(), { kind: 'dense' }));
  for (const options of [{ freeze: 'A' }, { learningRateB: 0.1 }] as const)
    expect(() => adapterOf(table(), tensors, options)).toThrow(
      /words: learningRateB and freeze .* this adapter is dense/,
    );
  const mixed = adapterTensors(createAdapter(table(), grouped));
  expect(adapterOf(table(), mixed, { freeze: 'B' }).groups.map(({ options }) => 'freeze' in options)).toEqual([true, false, true]); // prettier-ignore
});
