import { makePlan, matrix, RandomStream, range, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { createAdapter } from '@finetable/lora';
import { createTable } from '@finetable/placement';
import { expect, test } from 'vitest';
import { nearestTransformed } from './transformed-nearest.ts';

const [V, D, q, k] = [500, 6, 9, 12];
const normals = (stream: string, rows: number, cols: number): Matrix => {
  const m = matrix(rows, cols);
  new RandomStream(5, stream).fillNormal(m.data);
  return m;
};
const kernels = loadKernels();

test.each(['dot', 'cosine'] as const)('%s: the rows that a transformed table would give', async (metric) => {
  const table = createTable('items', normals('rows', V, D), { kernels });
  const adapter = createAdapter(table, { kind: 'dense' });
  adapter.startTraining({ type: 'sgd', learningRate: 1 });
  const plan = makePlan({ values: range(V), offsets: range(V + 1) }, V);
  const out = matrix(V, D);
  adapter.lookup(plan, out, true);
  adapter.update(plan, adapter.gradients(plan, normals('moved', V, D)));
  const vectors = normals('queries', q, D);
  const transforms = [normals('first', D, D), normals('second', D, D)];
  for (const adapted of [undefined, adapter]) {
    let rows = adapted ? adapted.vectors(range(V)) : table.gather(range(V));
    for (const transform of transforms) {
      const next = matrix(V, D);
      kernels.matmul({ a: rows, b: transform, out: next });
      rows = next;
    }
    const whole = createTable('whole', rows, { kernels });
    const expected = (await whole.nearest(vectors, k, { metric })).rows;
    whole.close();
    const found = await nearestTransformed(table, adapted, { vectors, metric, transforms }, k);
    expect([...found]).toEqual([...expected]);
  }
  adapter.close();
  table.close();
});
