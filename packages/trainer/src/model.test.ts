import { jagged, makePlan, makeSharedPlan, matrix, type Matrix } from '@finetable/core';
import { adamw, createAdapter } from '@finetable/lora';
import { createTable, type ShardedTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { exampleBatch } from './check-gradients.ts';
import { Model } from './model.ts';
import type { Objective } from './objective.ts';

/** Row v holds first + v in both dims. */
function table(name: string, rows: number, first: number): ShardedTable {
  return createTable(
    name,
    matrix(
      rows,
      2,
      Float32Array.from({ length: rows * 2 }, (_, i) => first + Math.floor(i / 2)),
    ),
  );
}

/** Keeps what it is given; ∂L/∂E of feature f is `slopes[f]` everywhere. */
function recorder(
  slopes: Readonly<Record<string, number>>,
  loss = 1,
): { objective: Objective; seen: Record<string, number[]> } {
  const seen: Record<string, number[]> = {};
  const see = (inputs: Readonly<Record<string, Matrix>>): void => {
    for (const [feature, { data, cols }] of Object.entries(inputs))
      seen[feature] = [...data].filter((_, i) => i % cols === 0);
  };
  const objective: Objective = {
    inputs: Object.keys(slopes),
    labels: [],
    initialize: () => [],
    train: (inputs, _, gradients) => {
      see(inputs);
      for (const [feature, gradient] of Object.entries(gradients)) gradient.data.fill(slopes[feature]!);
      return { loss };
    },
    evaluate: (inputs) => {
      see(inputs);
      return { sums: { loss } };
    },
    metrics: (sums, examples) => ({ loss: sums.loss! / examples }),
  };
  return { objective, seen };
}

const features = {
  recent: { table: 'items', column: 'recent' },
  liked: { table: 'items', column: 'liked' },
  user: { table: 'users', column: 'user' },
  shop: { table: 'shops', column: 'shop' },
};

/** Two examples; `recent` and `liked` share a table. */
const batch = exampleBatch(2, {
  plans: {
    items: makeSharedPlan(
      [
        { ids: jagged([[1, 2], [2]]), pooling: 'sum' },
        { ids: jagged([[4], [1, 4]]), pooling: 'sum' },
      ],
      5,
      'items',
    ),
    users: makePlan(jagged([[3], [0]]), 4),
    shops: makePlan(jagged([[0], [1]]), 2),
  },
  features: {
    recent: { table: 'items', firstBag: 0, bags: 2 },
    liked: { table: 'items', firstBag: 2, bags: 2 },
    user: { table: 'users', firstBag: 0, bags: 2 },
    shop: { table: 'shops', firstBag: 0, bags: 2 },
  },
  files: ['f'],
  unit: 'line',
});

function build(loss?: number) {
  const { objective, seen } = recorder({ recent: 1, liked: 10, user: 100, shop: 1000 }, loss);
  const adapters = {
    items: createAdapter(table('items', 5, 10), { kind: 'dense' }),
    users: createAdapter(table('users', 4, 20), { kind: 'dense' }),
  };
  for (const adapter of Object.values(adapters)) adapter.startTraining(adamw({ learningRate: 0.1 }));
  const model = new Model({ tables: { shops: table('shops', 2, 30) }, adapters, objective }, { features }, {});
  return { model, seen };
}

const pooled = { recent: [11 + 12, 12], liked: [14, 11 + 14], user: [23, 20], shop: [30, 31] };

test('features over several tables, shared, adapted and frozen, get their own rows', async () => {
  const { model, seen } = build();
  await model.evaluate(batch);
  expect(seen).toEqual(pooled);
});

test('gradients go to the rows of the feature they came from', async () => {
  const { model, seen } = build();
  const { gradients } = await model.train(batch);
  expect(seen).toEqual(pooled);
  const rows = (name: string): number[] =>
    [...gradients.get(name)!.groups[0]!.rows!.data].filter((_, i) => i % 2 === 0);
  expect([...gradients.keys()]).toEqual(['items', 'users']);
  expect(rows('items')).toEqual([1 + 10, 1 + 1, 10 + 10]); // rows 1, 2 and 4
  expect(rows('users')).toEqual([100, 100]);
});

test('a loss that is no number is named, in an evaluation too', async () => {
  const { model } = build(Number.NaN);
  await expect(model.train(batch)).rejects.toThrow(/^the loss is not finite in epoch 0, batch 0 \(lines 1, 2\)/);
  await expect(model.evaluate(batch)).rejects.toThrow(/^the loss of an evaluation is not finite/);
});
