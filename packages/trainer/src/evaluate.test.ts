/** Evaluations: chosen metrics, slices, and rows looked for over a whole table. */
import { jagged, matrix, rowsOf } from '@finetable/core';
import { openLoader, type Loader, type Row } from '@finetable/data';
import { createAdapter, sgd } from '@finetable/lora';
import { createTable } from '@finetable/placement';
import { afterEach, expect, test } from 'vitest';
import { classification } from './objectives/classification.ts';
import { contrastive } from './objectives/contrastive.ts';
import type { Objective } from './objective.ts';
import { Trainer } from './trainer.ts';

const loaders: Loader[] = [];
afterEach(async () => {
  await Promise.all(loaders.splice(0).map((loader) => loader.close()));
});

async function loaderOf(rows: readonly Row[], labels: readonly string[], workers = 0): Promise<Loader> {
  const made = await openLoader(
    {
      source: { rows },
      features: { id: { table: 'items', column: 'id' } },
      labels: Object.fromEntries(labels.map((column) => [column, { column }])),
      tables: { items: { rows: 4 } },
    },
    { batchSize: 3, workers },
  );
  loaders.push(made);
  return made;
}

/** Row i is the i-th unit vector. */
const table = () =>
  createTable(
    'items',
    matrix(
      4,
      4,
      Float32Array.from({ length: 16 }, (_, i) => Number(i % 5 === 0)),
    ),
  );
const rows: Row[] = [
  { id: 0, y: 'a', language: 'en' },
  { id: 1, y: 'b', language: 'de' },
  { id: 2, y: 'a', language: 'en' },
  { id: 0, y: 'b', language: 'de' },
  { id: 3, y: 'a', language: 'fr' },
];

/** Weights of 0, so that class a, the first, is predicted always. */
const trainerOf = (objective: Objective = classification({ input: 'id', label: 'y' })) =>
  new Trainer({ tables: { items: table() }, objective, optimizer: sgd({ learningRate: 1 }) });

test("chosen metrics and slices, beside the objective's own", async () => {
  const loader = await loaderOf(rows, ['y', 'language']);
  const metrics = await trainerOf().evaluate(loader, { metrics: ['f1-macro', 'accuracy'], sliceBy: ['language'] });
  const own = (2 * 3) / (5 + 3);
  expect(metrics).toMatchObject({
    accuracy: 3 / 5,
    'f1-macro': own / 2,
    'accuracy/language=en': 1,
    'accuracy/language=de': 0,
    'f1-macro/language=fr': 1,
  });
  expect(metrics['loss/language=de']).toBeCloseTo(Math.LN2, 6);
  expect(metrics.loss).toBeCloseTo(Math.LN2, 6);
});

test('a metric of a slice chooses the best state', async () => {
  const loader = await loaderOf(rows, ['y', 'language']);
  const trainer = trainerOf();
  const { best } = await trainer.fit(loader, {
    epochs: 3,
    validation: await loaderOf(rows, ['y', 'language']),
    sliceBy: ['language'],
    metric: 'loss/language=en',
  });
  expect(best!.metrics['loss/language=en']).toBe(
    (await trainer.evaluate(loader, { sliceBy: ['language'] }))['loss/language=en'],
  );
});

test('refused: metrics that there are not, or that nothing is known for; labels that are not loaded', async () => {
  const loader = await loaderOf(rows, ['y']);
  const trainer = trainerOf();
  await expect(trainer.evaluate(loader, { metrics: ['precision'] })).rejects.toThrow(
    /there is no "precision"; allowed: loss, accuracy/,
  );
  await expect(trainer.evaluate(loader, { metrics: ['auc'] })).rejects.toThrow(/nothing to make auc of/);
  await expect(trainer.evaluate(loader, { sliceBy: ['language'] })).rejects.toThrow(
    /has no label "language"; it has "y"/,
  );
  await expect(trainer.fit(loader, { metrics: ['ndcg@'] })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

test('rows are looked for in the adapted table, without those that do not count', async () => {
  const items = table();
  // Row 3 becomes [0, 0, 2, 1]: nearer to row 2 than row 2 itself.
  const adapter = createAdapter(items, { kind: 'dense' });
  adapter.startTraining(sgd({ learningRate: 1 }));
  const batches = (await loaderOf([{ id: 3 }], [])).batches(0);
  const { value: one } = await batches.next();
  adapter.lookup(one!.plans.items!, matrix(1, 4), true);
  adapter.update(one!.plans.items!, adapter.gradients(one!.plans.items!, matrix(1, 4, Float32Array.of(0, 0, -2, 0))));
  await batches.return!();

  let seen = jagged([[], [], []]);
  const lookingFor: Objective = {
    inputs: ['id'],
    labels: [],
    initialize: () => [],
    train: () => ({ loss: 0 }),
    evaluate: ({ id }, { size }) => ({
      sums: { loss: 0 },
      outputs: {
        losses: new Float32Array(size),
        weights: null,
        queries: {
          feature: 'id',
          vectors: rowsOf(id!, 0, size),
          metric: 'dot',
          relevant: jagged([[0], [1], [2]]),
          seen,
        },
      },
    }),
    metrics: () => ({ loss: 0 }),
  };
  const trainer = new Trainer({
    adapters: { items: adapter },
    objective: lookingFor,
    optimizer: sgd({ learningRate: 1 }),
  });
  const loader = await loaderOf([{ id: 0 }, { id: 1 }, { id: 2 }], []);
  const options = { metrics: ['recall@1', 'mrr@2', 'coverage@1'] };
  expect(await trainer.evaluate(loader, options)).toEqual({
    loss: 0,
    'recall@1': 2 / 3,
    'mrr@2': 2.5 / 3,
    'coverage@1': 3 / 4,
  });
  seen = jagged([[], [], [3]]);
  expect((await trainer.evaluate(loader, options))['recall@1']).toBe(1);
});

test('every id of a feature that is not pooled is a hard negative; what is compared has one vector for each example', async () => {
  const pairs: Row[] = [
    { a: 0, p: 1, n: [2] },
    { a: 3, p: 2, n: [0] },
    { a: 1, p: 3, n: [1] },
  ];
  const open = async (pooling: Readonly<Record<string, 'mean' | 'none'>>): Promise<Loader> => {
    const features = Object.fromEntries(
      ['a', 'p', 'n'].map(
        (column) => [column, { table: 'items', column, pooling: pooling[column] ?? 'mean' }] as const,
      ),
    );
    const loader = await openLoader(
      { source: { rows: pairs }, features, labels: {}, tables: { items: { rows: 4 } } },
      { batchSize: 3, workers: 0 },
    );
    loaders.push(loader);
    return loader;
  };
  const evaluate = async (pooling: Readonly<Record<string, 'mean' | 'none'>>) =>
    trainerOf(contrastive({ anchor: 'a', positive: 'p', negatives: 'n', maskDuplicates: true })).evaluate(
      await open(pooling),
      { metrics: ['recall@1', 'hit-rate@3'] },
    );
  // Of bags of one id the mean is the id. Rows are orthogonal: the first anchor finds all candidates equal, and the first of them is its own.
  const pooled = await evaluate({});
  expect(pooled).toMatchObject({ 'recall@1': 1 / 3, 'hit-rate@3': 1 });
  expect(await evaluate({ n: 'none' })).toEqual(pooled);
  await expect(evaluate({ p: 'none' })).rejects.toThrow(
    'feature "p" has pooling "none"; allowed for the objective: one vector for each example',
  );
});
