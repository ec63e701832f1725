/** Whatever is read of an adapter while it is trained, by whichever way: the training goes as it would have gone without. */
import { jagged, makePlan, matrix, RandomStream, range } from '@finetable/core';
import { createTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { createAdapter } from './adapter.ts';
import { adapterTensors } from './files.ts';
import { adam, adamw, sgd, type OptimizerSpec } from './optimizer.ts';
import type { AdapterOptions, GroupOptions } from './options.ts';
import { AdapterSet } from './set.ts';

const V = 40;
const D = 6;
const groups: GroupOptions[] = [
  { name: 'a/b', rows: { from: 20, to: 30 }, rank: 3, alpha: 2 },
  { name: 'dense', rows: [1, 5, 33], kind: 'dense' },
];
const optimizers: OptimizerSpec[] = [
  adamw({ learningRate: 0.02 }),
  adam({ learningRate: 0.02, mode: 'lazy' }),
  sgd({ learningRate: 0.01, momentum: 0.9 }),
];

/** Every adapted row after 40 steps. @param readings seeds what is read between the parts of a step; 0: nothing */
function trained(options: AdapterOptions, optimizer: OptimizerSpec, readings: number): Float32Array {
  const values = matrix(V, D);
  new RandomStream(1, 'table').fillNormal(values.data);
  const table = createTable('words', values);
  const adapter = createAdapter(table, options);
  const set = new AdapterSet(table);
  if (adapter.addsApart) set.add('it', adapter);
  adapter.startTraining(optimizer);
  const numbers = (stream: string, seed: number): ((below: number) => number) => {
    const random = new RandomStream(seed, stream);
    let at = 0;
    return (below) => random.uint32(at++) % below;
  };
  const [ofTraining, ofReading] = [numbers('training', 1), numbers('reading', readings)];
  const ids = (next: (below: number) => number, count: number): number[] =>
    Array.from({ length: count }, () => next(V));
  const read = (): void => {
    if (readings === 0) return;
    const plan = makePlan(jagged([ids(ofReading, ofReading(7)), [3, 21]]), V);
    const out = matrix(2, D);
    const ways = [
      () => adapter.lookup(plan, out),
      () => adapter.vectors(range(ofReading(V))),
      () => adapterTensors(adapter),
      () => adapter.settle(),
      () => set.lookupMixed(plan, ['it', 'base'], out),
      () => adapter.addDelta(plan, out),
    ];
    ways[ofReading(adapter.addsApart ? 6 : 4)]!();
  };
  const again = makePlan(
    jagged([
      [1, 2, 20, 30],
      [5, 5, 3],
    ]),
    V,
  );
  for (let step = 0; step < 40; step++) {
    const plan = step % 4 === 3 ? again : makePlan(jagged([ids(ofTraining, 4), [step % V]]), V, { pooling: 'mean' });
    const out = matrix(2, D);
    read();
    adapter.lookup(plan, out, true);
    read();
    const gradients = adapter.gradients(plan, matrix(2, D, out.data.map((x) => x - 1))); // prettier-ignore
    read();
    adapter.update(plan, gradients);
  }
  return adapter.vectors(range(V)).data;
}

test.each<[string, AdapterOptions]>([
  ['plain', { rank: 2 }],
  ['groups', { rank: 2, groups, paddingRow: 3, dropout: 0.2 }],
  ['few rows', { rank: 2, groups, rows: { from: 4, to: 25 } }],
  [
    'keras',
    {
      rank: 2,
      init: 'keras',
      groups: [{ name: 'a/b', rows: { from: 20, to: 30 }, rank: 3, init: 'keras' }, groups[1]!],
      paddingRow: 21,
    },
  ],
  ['maxNorm', { rank: 2, groups, maxNorm: 2 }],
  ['dora', { rank: 2, groups, dora: true }],
])('%s: reading changes no training', (_, options) => {
  for (const optimizer of optimizers) {
    const quiet = trained(options, optimizer, 0);
    expect(trained({ ...options, seed: 1 }, optimizer, 0)).not.toEqual(quiet);
    for (const readings of [1, 2, 3]) {
      const found = trained(options, optimizer, readings);
      // Skipped steps at once or in parts are rounded differently.
      found.forEach((x, i) => expect(Math.abs(x - quiet[i]!)).toBeLessThan(2e-5));
    }
  }
});
