import { jagged, makePlan, matrix, RandomStream, range, type Matrix } from '@finetable/core';
import { createTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { createAdapter, type Adapter } from './adapter.ts';
import { adamw } from './optimizer.ts';
import type { AdapterOptions } from './options.ts';

const V = 300;
const D = 10;

function normals(rows: number, cols: number, stream: string): Matrix {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data);
  return m;
}

/** Trained for some steps on a few rows each, so that rows are behind the current step. */
function trained(options: AdapterOptions): Adapter {
  const adapter = createAdapter(createTable('words', normals(V, D, 'table')), options);
  adapter.startTraining(adamw({ learningRate: 0.3 }));
  for (const ids of [[250, 3, 9], [17, 3], [8, 299, 250], [0]]) {
    const plan = makePlan(jagged([ids]), V);
    const out = matrix(1, D);
    adapter.lookup(plan, out, true);
    adapter.update(plan, adapter.gradients(plan, normals(1, D, `gradient ${ids}`)));
  }
  return adapter;
}

test.each<AdapterOptions>([{ rank: 3, alpha: 6 }, { rank: 10, rsLora: true }, { kind: 'dense' }])(
  'the nearest rows of an adapted table are those of the table merged: %o',
  async (options) => {
    const adapter = trained(options);
    const queries = normals(5, D, 'queries');
    for (const metric of ['dot', 'cosine'] as const) {
      const found = await adapter.nearest(queries, V, { metric });
      // Rows are brought to the current step by either.
      const merged = createTable('merged', trained(options).vectors(range(V)));
      expect(found).toEqual(await merged.nearest(queries, V, { metric }));
      expect(found.rows).not.toEqual((await adapter.table.nearest(queries, V, { metric })).rows);
    }
  },
);

test.each<[AdapterOptions, 'dot' | 'cosine']>([
  [{ rank: 3, groups: [{ name: 'new', rows: { from: 240 }, kind: 'dense' }] }, 'cosine'],
  [{ rank: 2, alpha: 40, init: 'keras' }, 'cosine'],
  [{ rank: 3, dora: true }, 'dot'],
])('and so with groups, DoRA or Keras rows: %o', async (options, metric) => {
  const adapter = trained(options);
  const queries = normals(5, D, 'queries');
  const found = await adapter.nearest(queries, 20, { metric });
  const merged = await createTable('merged', trained(options).vectors(range(V))).nearest(queries, 20, { metric });
  expect(found.rows).toEqual(merged.rows);
  found.scores.data.forEach((score, i) => expect(score).toBeCloseTo(merged.scores.data[i]!, 4));
  expect(found.rows).not.toEqual((await adapter.table.nearest(queries, 20, { metric })).rows);
});

test('nearest rows with maxNorm, or by cosine with dora, are refused', async () => {
  await expect(trained({ rank: 2, maxNorm: 1 }).nearest(normals(1, D, 'q'), 1)).rejects.toThrow(
    /nearest rows of an adapter with maxNorm are not searched/,
  );
  await expect(trained({ rank: 2, dora: true }).nearest(normals(1, D, 'q'), 1, { metric: 'cosine' })).rejects.toThrow(
    /nearest rows by cosine with dora; allowed: dot, or merge the adapter/,
  );
});

test('vectors are the adapted rows, and each is its own nearest', async () => {
  const adapter = trained({ rank: 4 });
  const ids = Int32Array.of(250, 100, 3, 250);
  const vectors = adapter.vectors(ids);
  const base = adapter.table.gather(ids);
  expect(vectors.data.subarray(D, 2 * D)).toEqual(base.data.subarray(D, 2 * D));
  expect(vectors.data.subarray(0, D)).not.toEqual(base.data.subarray(0, D));
  expect([...(await adapter.nearest(vectors, 1)).rows]).toEqual([...ids]);
  expect([...(await adapter.nearest(vectors, 1, { exclude: ids })).rows]).not.toEqual([...ids]);
  expect(() => adapter.vectors(Int32Array.of(V))).toThrow(/300/);
});

test('an adapter that touched nothing changes nothing', async () => {
  const adapter = createAdapter(createTable('words', normals(V, D, 'table')), { rank: 2 });
  const queries = normals(2, D, 'queries');
  expect(await adapter.nearest(queries, 7)).toEqual(await adapter.table.nearest(queries, 7));
});
