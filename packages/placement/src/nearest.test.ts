import { FinetableError, matrix, RandomStream, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { expect, test } from 'vitest';
import type { DeviceSearch } from './device.ts';
import { nearestRows } from './nearest.ts';
import { createTable } from './open.ts';
import { ShardedTable } from './table.ts';

const V = 500;
const D = 9;

function normals(rows: number, stream: string): Matrix {
  const m = matrix(rows, D);
  new RandomStream(1, stream).fillNormal(m.data);
  return m;
}

/** Every row of a table by descending score, in f64. */
function ranked(table: Matrix, queries: Matrix, query: number, cosine: boolean): { row: number; score: number }[] {
  const q = queries.data.subarray(query * D, (query + 1) * D);
  return Array.from({ length: table.rows }, (_, row) => {
    const e = table.data.subarray(row * D, (row + 1) * D);
    const dot = q.reduce((sum, x, d) => sum + x * e[d]!, 0);
    return { row, score: cosine ? dot / (Math.hypot(...q) * Math.hypot(...e)) : dot };
  }).sort((a, b) => b.score - a.score);
}

test.each(['cosine', 'dot'] as const)('%s: rows and scores, best first', async (metric) => {
  const values = normals(V, 'table');
  const table = createTable('words', values);
  const queries = normals(3, 'queries');
  const { rows, scores } = await table.nearest(queries, 20, { metric });
  expect(scores).toMatchObject({ rows: 3, cols: 20 });
  for (let q = 0; q < 3; q++) {
    const best = ranked(values, queries, q, metric === 'cosine').slice(0, 20);
    expect([...rows.subarray(q * 20, (q + 1) * 20)]).toEqual(best.map(({ row }) => row));
    best.forEach(({ score }, i) => expect(scores.data[q * 20 + i]).toBeCloseTo(score, 4));
  }
  table.close();
});

test('cosine is the metric where none is given; a row is its own nearest unless excluded', async () => {
  const table = createTable('words', normals(V, 'table'));
  const ids = Int32Array.of(7, 499, 0);
  const queries = table.gather(ids);
  const all = await table.nearest(queries, 5);
  expect([0, 1, 2].map((q) => all.rows[q * 5])).toEqual([...ids]);
  expect(all.scores.data[0]).toBeCloseTo(1, 6);
  const others = await table.nearest(queries, 4, { exclude: Int32Array.of(7, -1, 0) });
  const expected = [all.rows.subarray(1, 5), all.rows.subarray(5, 9), all.rows.subarray(11, 15)];
  expect([...others.rows]).toEqual(expected.flatMap((rows) => [...rows]));
  expect([...others.scores.data.subarray(0, 4)]).toEqual([...all.scores.data.subarray(1, 5)]);
  const every = await table.nearest(queries, V - 1, { exclude: ids });
  expect(new Set(every.rows.subarray(0, V - 1)).size).toBe(V - 1);
  expect(every.rows.subarray(0, V - 1)).not.toContain(7);
  table.close();
});

test('no queries, no results', async () => {
  const table = createTable('words', normals(V, 'table'));
  expect(await table.nearest(matrix(0, D), 3)).toEqual({ rows: new Int32Array(0), scores: matrix(0, 3) });
  table.close();
});

test('what cannot be asked is refused', async () => {
  const table = createTable('words', normals(V, 'table'));
  const query = normals(2, 'queries');
  const refusal = async (...args: Parameters<typeof table.nearest>): Promise<string> =>
    table.nearest(...args).then(
      () => 'answered',
      (error: unknown) => `${(error as FinetableError).code} ${(error as Error).message}`,
    );
  expect(await refusal(query, 501)).toBe('INVALID_ARGUMENT words: k 501; allowed: 1 to 500, the rows to choose from');
  expect(await refusal(query, 500, { exclude: Int32Array.of(1, 2) })).toMatch('allowed: 1 to 499');
  expect(await refusal(query, 0)).toMatch('INVALID_ARGUMENT words: k 0');
  expect(await refusal(query, 1.5)).toMatch('INVALID_ARGUMENT words: k 1.5');
  expect(await refusal(matrix(1, 4), 1)).toBe('MISMATCH words: queries of 4 dims; the table has 9');
  expect(await refusal(query, 1, { exclude: Int32Array.of(1) })).toMatch('one for each of 2 queries');
  expect(await refusal(query, 1, { metric: 'euclid' as 'dot' })).toMatch('metric must be dot or cosine, found euclid');
  query.data[D + 3] = NaN;
  expect(await refusal(query, 1)).toBe('NON_FINITE words: query 1 holds NaN at dim 3');
  table.close();
  expect(await refusal(normals(1, 'queries'), 1)).toMatch(/^CLOSED/);
});

test('rows on devices are searched there, where one has all and can', async () => {
  const kernels = loadKernels();
  const device = {
    ...{ rows: V, dim: D, dtype: 'f32' as const, groupDims: 0, sizeBytes: V * D * 4 },
    fetch: () => Promise.reject(new Error('not read')),
    close: () => undefined,
  };
  const table = new ShardedTable('away', [], kernels, {
    format: { dtype: 'f32', dim: D, groupDims: 0 },
    devices: [{ name: 'far', device, firstRow: 0, rows: V, firstColumn: 0, columns: D }],
  });
  await expect(table.nearest(normals(1, 'queries'), 1)).rejects.toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED' }) as Error,
  );
  table.close();
  const nearest = ({ queries, metric, rows, scores }: DeviceSearch): Promise<void> => {
    rows.set([5, 9, 2]);
    scores.data.set([0.5, 0.25, queries.cols + (metric === 'dot' ? 0.5 : 0)]);
    return Promise.resolve();
  };
  const searching = new ShardedTable('away', [], kernels, {
    format: { dtype: 'f32', dim: D, groupDims: 0 },
    devices: [{ name: 'far', device: { ...device, nearest }, firstRow: 0, rows: V, firstColumn: 0, columns: D }],
  });
  const query = normals(1, 'queries');
  expect(await searching.nearest(query, 3, { metric: 'dot' })).toEqual({
    rows: Int32Array.of(5, 9, 2),
    scores: matrix(1, 3, Float32Array.of(0.5, 0.25, 9.5)),
  });
  const others = await searching.nearest(query, 2, { exclude: Int32Array.of(9) });
  expect([...others.rows]).toEqual([5, 2]);
  await expect(searching.nearest(query, 2, { metric: 'euclid' as 'dot' })).rejects.toThrow(
    /metric must be dot or cosine/,
  );
  const factors = kernels.createRows(1, D, 'f32');
  const delta = { rows: Int32Array.of(0), slots: Int32Array.of(0), factors, b: null, scale: 1 };
  await expect(nearestRows(searching, query, 2, {}, delta)).rejects.toThrow(/cannot be searched with an adapter/);
  factors.close();
  searching.close();
});
