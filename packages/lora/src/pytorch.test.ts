/** Adapters in exact mode against PyTorch's dense optimisers; the fixture and its versions come from tools/fixtures/optimizers.py. */
import { readFileSync } from 'node:fs';
import { jagged, makePlan, matrix, range } from '@finetable/core';
import { createTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { createAdapter } from './adapter.ts';
import { adagrad, adam, adamw, sgd, type OptimizerSpec } from './optimizer.ts';
import type { Schedule } from './schedule.ts';

interface Fixture {
  readonly rows: number;
  readonly dim: number;
  readonly steps: readonly { readonly ids: readonly number[]; readonly c: readonly number[] }[];
  readonly results: Readonly<Record<string, readonly number[]>>;
}

const file = new URL('./testing/pytorch-optimizers.json', import.meta.url);
const { rows, dim, steps, results } = JSON.parse(readFileSync(file, 'utf8')) as Fixture;

const schedule: Schedule = { type: 'cosine', warmupSteps: 20, totalSteps: 220, finalFactor: 0.1 };
const weightDecay = 0.1;
const cases: Readonly<Record<string, OptimizerSpec>> = {
  sgd: sgd({ learningRate: 0.01, momentum: 0.9 }),
  'sgd, L2': sgd({ learningRate: 0.01, momentum: 0.9, weightDecay, schedule }),
  adagrad: adagrad({ learningRate: 0.02 }),
  'adagrad, L2': adagrad({ learningRate: 0.02, weightDecay, schedule }),
  adam: adam({ learningRate: 0.01 }),
  'adam, L2': adam({ learningRate: 0.01, weightDecay, schedule }),
  adamw: adamw({ learningRate: 0.01, weightDecay }),
  'adamw, schedule': adamw({ learningRate: 0.01, weightDecay, schedule }),
};

test('every case of the fixture is tested', () => {
  expect(Object.keys(results)).toEqual(Object.keys(cases));
});

test.each(Object.keys(cases))('%s', (name) => {
  // A dense adapter over a table of zeros: its rows are the embedding's.
  const adapter = createAdapter(createTable('embedding', matrix(rows, dim)), { kind: 'dense' });
  adapter.startTraining(cases[name]!);
  for (const { ids, c } of steps) {
    const plan = makePlan(jagged(ids.map((id) => [id])), rows);
    adapter.lookup(plan, matrix(ids.length, dim), true);
    adapter.update(plan, adapter.gradients(plan, matrix(ids.length, dim, Float32Array.from(c))));
  }
  const found = adapter.vectors(range(rows)).data;
  const expected = results[name]!;
  const off = expected.map((x, i) => Math.abs(x - found[i]!));
  expect(Math.max(...off)).toBeLessThan(1e-5);
  expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(0.05);
  // Rows of few gradients moved too, and the one of none did not.
  expect(expected.slice(7 * dim, 9 * dim).every((x) => x !== 0)).toBe(true);
  expect([...found.subarray(9 * dim)]).toEqual(new Array<number>(dim).fill(0));
});
