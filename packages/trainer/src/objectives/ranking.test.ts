/** Ranking with loaders, adapters and metrics of retrieval. */
import { matrix, RandomStream } from '@finetable/core';
import { openLoader, type DataSpec, type Loader, type Row } from '@finetable/data';
import { adam, createAdapter } from '@finetable/lora';
import { createTable } from '@finetable/placement';
import { afterEach, expect, test } from 'vitest';
import { Trainer } from '../trainer.ts';
import { ranking, type RankingOptions } from './ranking.ts';

const V = 12;
const D = 6;
const loaders: Loader[] = [];
afterEach(async () => {
  await Promise.all(loaders.splice(0).map((loader) => loader.close()));
});

/** After item v comes v + 1. */
const rows: Row[] = Array.from({ length: 96 }, (_, i) => ({ history: [i % V], next: (i + 1) % V }));

async function loaderOf(extra: Partial<DataSpec> = {}, batchSize = 8): Promise<Loader> {
  const made = await openLoader(
    {
      source: { rows },
      features: { history: { table: 'items', column: 'history' }, next: { table: 'items', column: 'next' } },
      labels: {},
      tables: { items: { rows: V } },
      ...extra,
    },
    { batchSize, workers: 0, shuffle: true },
  );
  loaders.push(made);
  return made;
}

function trainerOf(options: Partial<RankingOptions> = {}): Trainer {
  const values = matrix(V, D);
  new RandomStream(1, 'items').fillNormal(values.data, 0.3);
  return new Trainer({
    adapters: { items: createAdapter(createTable('items', values), { kind: 'dense' }) },
    objective: ranking({ query: 'history', target: 'next', ...options }),
    optimizer: adam({ learningRate: 0.1 }),
  });
}

const metrics = ['recall@1', 'recall@3', 'ndcg@3', 'mrr@3', 'hit-rate@3', 'coverage@3', 'popularity-bias@3'];

test('history and target share a table, and the next item is found', async () => {
  const frequencies = new Float64Array(V).fill(8);
  const trainer = trainerOf({ seen: 'history', frequencies });
  const loader = await loaderOf();
  const before = await trainer.evaluate(loader, { metrics });
  await trainer.fit(loader, { epochs: 30 });
  const after = await trainer.evaluate(loader, { metrics });
  expect(after['recall@3']).toBeGreaterThan(0.9);
  expect(after['recall@3']).toBeGreaterThan(before['recall@3']!);
  expect(after['hit-rate@3']).toBe(after['recall@3']);
  expect(after['accuracy']).toBeGreaterThan(before['accuracy']!);
  expect(after['loss']).toBeLessThan(before['loss']!);
  // All are equally popular.
  expect(after['popularity-bias@3']).toBe(1);
});

test.each(['softmax', 'bpr'] as const)('sampled negatives: %s', async (loss) => {
  const trainer = trainerOf({ negatives: 'others', loss });
  const loader = await loaderOf({
    features: { history: { table: 'items', column: 'history' }, next: { table: 'items', column: 'next' } },
    negatives: { others: { of: 'next', count: 4 } },
  });
  const before = await trainer.evaluate(loader, { metrics: ['ndcg@3'] });
  await trainer.fit(loader, { epochs: 30 });
  const after = await trainer.evaluate(loader, { metrics: ['ndcg@3'] });
  expect(after['loss']).toBeLessThan(before['loss']! / 2);
  expect(after['ndcg@3']).toBeGreaterThan(before['ndcg@3']!);
});

test('popular rows that are found more often than they are asked for', async () => {
  // Item 0 is longest: every query finds it first.
  const values = matrix(3, 1, Float32Array.of(3, 2, 1));
  const loader = await loaderOf(
    {
      source: { rows: [{ history: [1], next: 1 }, { history: [2], next: 2 }] }, // prettier-ignore
      tables: { items: { rows: 3 } },
    },
    2,
  );
  const trainer = new Trainer({
    tables: { items: createTable('items', values) },
    objective: ranking({ query: 'history', target: 'next', frequencies: [10, 4, 1] }),
    optimizer: adam({ learningRate: 1 }),
  });
  const found = await trainer.evaluate(loader, { metrics: ['popularity-bias@1', 'popularity-bias@2'] });
  expect(found['popularity-bias@1']).toBeCloseTo(10 / 2.5, 12);
  expect(found['popularity-bias@2']).toBeCloseTo(7 / 2.5, 12);
});

test('what is wrong is named', async () => {
  const refused = (options: object, message: RegExp): void =>
    expect(() => ranking({ query: 'history', target: 'next', ...options })).toThrow(message);
  refused({ target: 'history' }, /query and target are one feature/);
  refused({ inBatch: false }, /inBatch: found false; without negatives/);
  refused({ scale: 0 }, /scale: found 0; allowed: a number above 0/);
  refused({ seen: 'other' }, /seen: found "other"/);
  refused({ queri: 1 }, /queri/);
  await expect(trainerOf({ frequencies: [1, 2] }).fit(await loaderOf())).rejects.toThrow(
    /frequencies: found 2 numbers; allowed: 12, one for each row of table "items"/,
  );
  const bad = await loaderOf({ source: { rows: [{ history: [1], next: [1, 2] }] } });
  await expect(trainerOf().fit(bad)).rejects.toThrow(/row 1: feature "next" has 2 ids; allowed: one/);
});
