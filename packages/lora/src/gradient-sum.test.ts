import { jagged, makePlan, matrix, planBags, RandomStream, type LookupPlan, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { createTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { createAdapter, gradientArrays, type Adapter } from './adapter.ts';
import { adapterTensors } from './files.ts';
import { GradientSum } from './gradient-sum.ts';
import { adamw } from './optimizer.ts';
import type { AdapterOptions } from './options.ts';

const V = 50;
const D = 6;

function adapterOf(options: AdapterOptions, threads = 1): Adapter {
  const values = matrix(V, D);
  new RandomStream(1, 'table').fillNormal(values.data);
  const adapter = createAdapter(createTable('words', values, { kernels: loadKernels({ threads }) }), options);
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  return adapter;
}

const random = new RandomStream(2, 'ids');
/** Bags of three ids, each bag its own. */
const bagsOf = (first: number, count: number): number[][] =>
  Array.from({ length: count }, (_, i) => [0, 1, 2].map((j) => random.below((first + i) * 3 + j, V)));

/** ∂L/∂E of L = mean over bags of |E|² / 2. */
function gradients(adapter: Adapter, plan: LookupPlan): ReturnType<Adapter['gradients']> {
  const out: Matrix = matrix(planBags(plan), D);
  adapter.lookup(plan, out, true);
  return adapter.gradients(plan, { ...out, data: out.data.map((x) => x / out.rows) });
}

/** A step on bags `first` to `first + sizes`, taken together or as batches. */
function step(adapter: Adapter, first: number, sizes: readonly number[]): void {
  const sum = new GradientSum(adapter);
  for (const size of sizes) {
    const plan = makePlan(jagged(bagsOf(first, size)), V);
    sum.add(plan, gradients(adapter, plan), size);
    first += size;
  }
  const { plan, gradients: mean } = sum.mean();
  adapter.update(plan, mean);
}

function whole(adapter: Adapter, first: number, size: number): void {
  const plan = makePlan(jagged(bagsOf(first, size)), V);
  adapter.update(plan, gradients(adapter, plan));
}

const cases: [string, AdapterOptions][] = [
  ['lora', { rank: 3 }],
  ['dense', { kind: 'dense' }],
  ['keras', { rank: 2, init: 'keras', }],
  ['frozen A', { rank: 2, init: 'keras', freeze: 'A' }],
  ['groups with dora', { rank: 2, dora: true, groups: [{ name: 'new', kind: 'dense', rows: { from: 0, to: 10 } }, { name: 'some', rank: 3, rows: { from: 20, to: 30 } }] }],
]; // prettier-ignore

test.each(cases)('%s: batches together move the adapter as one batch of all their examples does', (_, options) => {
  const [together, alone] = [adapterOf(options), adapterOf(options)];
  for (let i = 0; i < 5; i++) {
    step(together, i * 24, [8, 8, 5, 3]);
    whole(alone, i * 24, 24);
  }
  expect(together.step).toBe(5);
  expect(together.groups.map(({ slots }) => [...slots.rows])).toEqual(alone.groups.map(({ slots }) => [...slots.rows]));
  // Sums in f32 differ in their order, and Adam's first steps are as long for any gradient.
  const apart = (x: Float32Array, y: Float32Array): number => Math.max(...x.map((value, i) => Math.abs(value - y[i]!)));
  const all = Int32Array.from({ length: V }, (_, i) => i);
  expect(apart(together.vectors(all).data, alone.vectors(all).data)).toBeLessThan(2e-4);
  expect(apart(together.vectors(all).data, together.table.gather(all).data)).toBeGreaterThan(0.01);
});

test('the mean is the weighted one, by hand', () => {
  const adapter = adapterOf({ kind: 'dense' });
  const sum = new GradientSum(adapter);
  const of = (rows: number[], values: number[][], weight: number): void =>
    sum.add(
      { uniqueRows: Int32Array.from(rows) },
      { groups: [{ members: null, rows: { rows: rows.length, cols: D, data: Float32Array.from(values.flat()) }, b: null }], magnitude: null },
      weight,
    ); // prettier-ignore
  const row = (x: number): number[] => new Array<number>(D).fill(x);
  of([7, 30], [row(1), row(4)], 3);
  of([2, 7], [row(8), row(5)], 1);
  const { plan, gradients: mean } = sum.mean();
  expect([...plan.uniqueRows]).toEqual([2, 7, 30]);
  expect(mean.groups[0]!.members).toBeNull();
  expect([...mean.groups[0]!.rows!.data]).toEqual([...row(2), ...row(2), ...row(3)]);
});

test('the same bytes for any number of threads', () => {
  const run = (threads: number): unknown => {
    const adapter = adapterOf({ rank: 4 }, threads);
    for (let i = 0; i < 4; i++) step(adapter, i * 600, [300, 200, 100]);
    return adapterTensors(adapter);
  };
  expect(run(4)).toEqual(run(1));
});

test('dropout draws anew for each of the batches', () => {
  const adapter = adapterOf({ rank: 2, dropout: 0.5, init: 'keras' });
  const plan = makePlan(jagged(bagsOf(0, 20)), V);
  const twice = [0, 1].map(() => gradientArrays(gradients(adapter, plan)).map((array) => array.slice()));
  expect(twice[0]).not.toEqual(twice[1]);
});
