import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, range, rowsOf, type RowFormat } from '@finetable/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { growTable, type GrowSpec } from './grow.ts';
import { createTable, openTable, type OpenTableOptions } from './open.ts';
import type { ShardedTable } from './table.ts';
import { FakeDevice } from './testing/fake-device.ts';
import { normals, writeTable } from './testing/table-file.ts';

const V = 300;
const K = 25;
const D = 72;
const all = normals(V + K, D);
const added = rowsOf(all, V, K);
const formats: RowFormat[] = [
  { dtype: 'f32', dim: D, groupDims: 0 },
  { dtype: 'f16', dim: D, groupDims: 0 },
  { dtype: 'int8', dim: D, groupDims: D },
  { dtype: 'int4', dim: D, groupDims: 32 },
];
let folder: string;
const fileOf = (rows: number, { dtype }: RowFormat): string => join(folder, `${dtype}-${rows}.safetensors`);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'grow-'));
  for (const format of formats) {
    await writeTable(fileOf(V, format), rowsOf(all, 0, V), format);
    await writeTable(fileOf(V + K, format), all, format);
  }
});
afterAll(() => rm(folder, { recursive: true }));

const placements: Record<string, (device: FakeDevice) => OpenTableOptions> = {
  ram: () => ({ placement: 'ram' }),
  mapped: () => ({ placement: 'mapped' }),
  'rows and a cache': () => ({
    placement: [{ home: 'ram', rows: 40 }, { home: 'mapped' }],
    cache: { bytes: 6000, counts: range(V) },
  }),
  'a grid': () => ({
    placement: [
      { home: 'ram', columns: 32, rows: 10 },
      { home: 'mapped' },
      { home: 'mapped', columns: 34 },
      { home: 'ram' },
    ],
  }),
  'columns, one on a device': (device) => ({ placement: [{ home: 'mapped', columns: 32 }, { home: device }] }),
  'a device and a cache': (device) => ({ placement: device, cache: { bytes: 6000, warmUpBatches: 1 } }),
};

/** Bags that read old rows, new ones, and both. */
const bags = jagged([
  [0, V - 1, V],
  [V + K - 1],
  [],
  [V, V, 7],
  ...Array.from({ length: 40 }, (_, i) => [i * 8, V + (i % K)]),
]);

async function pooled(table: ShardedTable): Promise<number[]> {
  const plan = makePlan(bags, table.rows);
  const out = matrix(bags.offsets.length - 1, D);
  for (let i = 0; i < 3; i++) await table.pool(plan, out);
  await table.cache?.settled();
  await table.pool(plan, out);
  return [...out.data, ...(await table.gatherAsync(Int32Array.of(V, 3, V + K - 1))).data];
}

describe.each(Object.entries(placements))('%s', (_, options) => {
  test.each(formats)('a grown $dtype table is the table of all these rows', async (format) => {
    const whole = await openTable(fileOf(V + K, format), { placement: 'ram' });
    const base = await openTable(fileOf(V, format), options(new FakeDevice()));
    const before = base.fingerprint;
    const grown = await growTable(base, { vectors: added });
    expect(grown).toMatchObject({ rows: V + K, dim: D, dtype: format.dtype, grownFrom: V, name: base.name });
    expect(base.grownFrom).toBeNull();
    expect(grown.fingerprint).toBe(whole.fingerprint);
    expect(grown.fingerprintOf(V)).toBe(before);
    expect(whole.fingerprintOf(V)).toBe(before);
    expect(await pooled(grown)).toEqual(await pooled(whole));
    if (!grown.needsFetch) {
      const [found, right] = await Promise.all([grown, whole].map((t) => t.nearest(added, 3)));
      expect(found!.rows).toEqual(right!.rows);
      expect([...found!.rows].filter((_, i) => i % 3 === 0)).toEqual([...range(K)].map((i) => V + i));
    }
    for (const table of [grown, base, whole]) table.close();
  });
});

test('tables are closed in any order, and each only once', async () => {
  const open = (): Promise<ShardedTable> =>
    openTable(fileOf(V, formats[0]!), { cache: { bytes: 6000, counts: range(V) } });
  const base = await open();
  const grown = await growTable(base, { count: 1 });
  base.close();
  base.close();
  expect(() => base.gather(Int32Array.of(0))).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  await expect(growTable(base, { vectors: added })).rejects.toMatchObject({ code: 'CLOSED' });
  const out = matrix(1, D);
  grown.lookup(makePlan(jagged([[5]]), grown.rows), out);
  expect(out.data).toEqual(rowsOf(all, 5, 1).data);
  grown.close();
  expect([...base.shards, ...grown.shards].map(({ store }) => store.closed)).toEqual([true, true, true]);

  const other = await open();
  const more = await growTable(other, { count: 1 });
  more.close();
  expect(more.shards.map(({ store }) => store.closed)).toEqual([false, true]);
  expect(other.gather(Int32Array.of(5)).data).toEqual(out.data);
  other.close();
  expect(more.shards.map(({ store }) => store.closed)).toEqual([true, true]);
});

test('growing twice', async () => {
  const base = createTable('rows', rowsOf(all, 0, V));
  const once = await growTable(base, { vectors: rowsOf(all, V, 5) });
  const twice = await growTable(once, { vectors: rowsOf(all, V + 5, K - 5) });
  const whole = createTable('rows', all);
  expect(twice).toMatchObject({ rows: V + K, grownFrom: V });
  expect(twice.fingerprint).toBe(whole.fingerprint);
  expect(twice.fingerprintOf(V + 5)).toBe(once.fingerprint);
  base.close();
  once.close();
  expect(await pooled(twice)).toEqual(await pooled(whole));
  twice.close();
  expect(twice.shards.every(({ store }) => store.closed)).toBe(true);
});

describe('new rows', () => {
  const grow = async (spec: GrowSpec, values = rowsOf(all, 0, V)): Promise<Float32Array> => {
    const base = createTable('rows', values);
    const grown = await growTable(base, spec);
    base.close();
    const rows = grown.gather(range(grown.rows - V).map((i) => V + i)).data;
    grown.close();
    return rows;
  };

  test('the mean of others', async () => {
    const rows = await grow({ meanOf: [[3], [4, 5, 5]] });
    expect(rows.slice(0, D)).toEqual(rowsOf(all, 3, 1).data);
    for (let j = 0; j < D; j++)
      expect(rows[D + j]).toBeCloseTo((all.data[4 * D + j]! + 2 * all.data[5 * D + j]!) / 3, 6);
  });

  test('the mean of all, or of a sample', async () => {
    const mean = (ids: number[]): number[] =>
      Array.from({ length: D }, (_, j) => ids.reduce((sum, id) => sum + all.data[id * D + j]!, 0) / ids.length);
    const rows = await grow({ count: 2 });
    mean([...range(V)]).forEach((value, j) =>
      expect([rows[j], rows[D + j]]).toEqual([expect.closeTo(value, 5), rows[j]]),
    );
    const sampled = await grow({ count: 1, sampleRows: 3 });
    mean([0, 100, 200]).forEach((value, j) => expect(sampled[j]).toBeCloseTo(value, 5));
  });

  test('random with the mean and deviation of every dim, by seed', async () => {
    // Dim j has mean 10 j and deviation 1 + j.
    const values = matrix(
      V,
      D,
      rowsOf(all, 0, V).data.map((x, at) => 10 * (at % D) + (1 + (at % D)) * x),
    );
    const k = 4000;
    const rows = await grow({ count: k, init: 'random' }, values);
    for (const j of [0, 5, D - 1]) {
      const column = range(k).map((i) => i * D + j);
      const mean = [...column].reduce((sum, at) => sum + rows[at]!, 0) / k;
      const variance = [...column].reduce((sum, at) => sum + (rows[at]! - mean) ** 2, 0) / k;
      expect(Math.abs(mean - 10 * j)).toBeLessThan((1 + j) * 0.25);
      expect(Math.sqrt(variance) / (1 + j)).toBeCloseTo(1, 0.6);
    }
    expect(await grow({ count: 3, init: 'random' }, values)).toEqual(rows.slice(0, 3 * D));
    expect(await grow({ count: 3, init: 'random', seed: 1 }, values)).not.toEqual(rows.slice(0, 3 * D));
  });

  test.each<[GrowSpec, string, RegExp]>([
    [{ vectors: matrix(2, 3) }, 'MISMATCH', /rows: new rows of 3 dims; the table has 72/],
    [{ vectors: matrix(0, D) }, 'INVALID_ARGUMENT', /0 new rows; allowed: 1 to/],
    [{ vectors: matrix(1, D, new Float32Array(D).fill(NaN)) }, 'NON_FINITE', /hold NaN at \[0, 0\]/],
    [{ meanOf: [[1], []] }, 'INVALID_ARGUMENT', /new row 1 is the mean of no rows/],
    [{ meanOf: [[V]] }, 'ID_OUT_OF_RANGE', /300/],
    [{ count: 0 }, 'INVALID_ARGUMENT', /count 0; allowed: an integer of 1 or more/],
    [{ count: 2 ** 31 }, 'INVALID_ARGUMENT', /2147483648 new rows; allowed: 1 to 2147483347/],
    [{ count: 2 ** 31 - 1 - V }, 'OUT_OF_MEMORY', /no memory for 2147483347 new rows/],
    [{ count: 1, sampleRows: 0.5 }, 'INVALID_ARGUMENT', /sampleRows 0.5/],
    [
      { meanOf: [[5]], count: 3 } as GrowSpec,
      'INVALID_ARGUMENT',
      /new rows: there is no option "count"; allowed: meanOf/,
    ],
    [{ cuont: 3 } as unknown as GrowSpec, 'INVALID_ARGUMENT', /new rows: there is no option "cuont"; allowed: count, /],
    [{ count: 1, init: 'zeros' as 'mean' }, 'INVALID_ARGUMENT', /init "zeros"; allowed: mean, random/],
  ])('refused: %j', async (spec, code, message) => {
    await expect(grow(spec)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('values that the dtype cannot hold are refused', async () => {
    const base = createTable('rows', rowsOf(all, 0, V), { dtype: 'f16' });
    const vectors = matrix(1, D, new Float32Array(D).fill(1e6));
    await expect(growTable(base, { vectors })).rejects.toMatchObject({
      code: 'NON_FINITE',
      message: expect.stringMatching(/Infinity .* f16/),
    });
    expect(() => base.fingerprintOf(V + 1)).toThrow(/a fingerprint of 301 rows; allowed: 1 to 300/);
  });
});
