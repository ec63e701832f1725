import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, planBags, RandomStream, range, type LookupPlan } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { createTable } from '@finetable/placement';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createAdapter, type Adapter } from './adapter.ts';
import { adamw, sgd, type OptimizerSpec } from './optimizer.ts';
import type { AdapterOptions } from './options.ts';
import { RowsSnapshot } from './snapshot.ts';
import { AdapterSnapshot, saveAdapterState } from './state.ts';

const V = 20_000;
const D = 6;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'snapshot-'));
});
afterEach(() => rm(folder, { recursive: true }));

const random = new RandomStream(1, 'ids');
/** Enough touched rows for several blocks of copies. */
const batch = (step: number): LookupPlan =>
  makePlan(jagged(range(40).reduce<number[][]>((bags, bag) => [...bags, [...range(60)].map((i) => random.below((step * 40 + bag) * 60 + i, V))], [])), V); // prettier-ignore

function step(adapter: Adapter, index: number): void {
  const plan = batch(index);
  const out = matrix(planBags(plan), D);
  adapter.lookup(plan, out, true);
  adapter.update(plan, adapter.gradients(plan, out));
}

function trained(options: AdapterOptions, optimizer: OptimizerSpec, steps: number): Adapter {
  const values = matrix(V, D);
  new RandomStream(1, 'table').fillNormal(values.data);
  const adapter = createAdapter(createTable('words', values), options);
  adapter.startTraining(optimizer);
  for (let i = 0; i < steps; i++) step(adapter, i);
  return adapter;
}

const cases: [string, AdapterOptions, OptimizerSpec][] = [
  ['exact adamw with bf16 state', { rank: 3 }, adamw({ learningRate: 0.05, stateDtype: 'bf16' })],
  ['adamw, dora of groups', { rank: 2, dora: true, groups: [{ name: 'new', kind: 'dense', rows: { from: 0, to: 500 } }] }, adamw({ learningRate: 0.05 })],
  ['sgd, keras', { rank: 2, init: 'keras' }, sgd({ learningRate: 0.05, momentum: 0.9 })],
]; // prettier-ignore

test.each(cases)(
  '%s: a snapshot has the bytes of its step, whatever is trained while it is written',
  async (_, options, optimizer) => {
    const adapter = trained(options, optimizer, 12);
    const [there, later] = [join(folder, 'there'), join(folder, 'later')];
    const expected = trained(options, optimizer, 12);
    await saveAdapterState(there, expected);
    const snapshot = new AdapterSnapshot(adapter);
    step(adapter, 12); // before anything was read
    const saving = snapshot.save(later);
    let saved = false;
    void saving.then(() => (saved = true));
    let steps = 13;
    while (!saved) {
      step(adapter, steps++);
      if (steps === 16) adapter.settle();
      await new Promise(setImmediate);
    }
    await saving;
    expect(steps).toBeGreaterThan(14);
    expect((await readFile(later)).equals(await readFile(there))).toBe(true);
    expect(
      adapter.groups.every(({ snapshots }) => snapshots.size === 0),
      'nothing is copied any more',
    ).toBe(true);
    // The training was not touched by it.
    for (let i = 12; i < steps; i++) {
      step(expected, i);
      if (i === 15) expected.settle();
    }
    await Promise.all([saveAdapterState(there, expected), saveAdapterState(later, adapter)]);
    expect((await readFile(later)).equals(await readFile(there))).toBe(true);
  },
);

test('a snapshot that cannot be written lets its rows go and says why', async () => {
  const adapter = trained({ rank: 2 }, adamw({ learningRate: 0.05 }), 1);
  const saving = new AdapterSnapshot(adapter).save(join(folder, 'none', 'x'));
  await expect(saving).rejects.toMatchObject({ code: 'IO' });
  expect(adapter.groups[0]!.snapshots.size).toBe(0);
});

test('rows are read as they were between changes that come while a store is half read', async () => {
  const kernels = loadKernels();
  const rows = 300_000;
  const store = kernels.createRows(rows, 2, 'i32');
  const values = Int32Array.from({ length: 2 * rows }, (_, i) => i);
  kernels.writeBytes(store, 0, new Uint8Array(values.buffer));
  const snapshot = new RowsSnapshot(kernels, [store], rows);
  const change = (row: number): void => {
    snapshot.keep(Int32Array.of(-1, row));
    kernels.writeBytes(store, 8 * row, new Uint8Array(8));
  };
  for (let row = 0; row < rows; row += 30) change(row);
  const read = new Uint8Array(8 * rows);
  let done = 0;
  for await (const chunk of snapshot.read(store)) {
    read.set(chunk, done);
    done += chunk.length;
    for (const row of [0, 1, 150_000, 299_999]) change(row);
  }
  expect(done).toBe(8 * rows);
  expect(Buffer.from(read).equals(Buffer.from(values.buffer))).toBe(true);
  store.close();
});
