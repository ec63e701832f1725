import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, RandomStream, type LookupPlan } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { openTable, type OpenTableOptions } from './open.ts';
import type { ShardedTable } from './table.ts';
import { FakeDevice } from './testing/fake-device.ts';
import { normals, writeTable } from './testing/table-file.ts';

const V = 100;
const D = 4;
const rowBytes = 16;
let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cache-'));
  path = join(folder, 'rows.safetensors');
  await writeTable(path, normals(V, D), { dtype: 'f32', dim: D, groupDims: 0 });
});
afterAll(() => rm(folder, { recursive: true }));

const open = (options: OpenTableOptions): Promise<ShardedTable> => openTable(path, options);
const plan = (...ids: number[]): LookupPlan => makePlan(jagged([ids]), V);
const look = (table: ShardedTable, ...ids: number[]): void => table.lookup(plan(...ids), matrix(1, D));
/** Which rows are in the cache, by asking for each. */
function cached(table: ShardedTable): number[] {
  return Array.from({ length: V }, (_, row) => row).filter((row) => {
    const { hits } = table.cache!.stats;
    look(table, row);
    return table.cache!.stats.hits > hits;
  });
}

test('given counts, it holds the most counted rows that are not in RAM, and hits and misses are exact', async () => {
  const counts = new Float64Array(V);
  for (const [row, count] of [
    [3, 9],
    [50, 4],
    [60, 4],
    [70, 4],
    [80, 1],
    [10, 100],
    [99, 7],
  ] as const)
    counts[row] = count;
  // 4 rows and a slot table of 8 entries.
  const cache = { bytes: 4 * rowBytes + 64, counts };
  const table = await open({
    cache,
    placement: [{ home: 'mapped', rows: 5 }, { home: 'ram', rows: 20 }, { home: 'mapped' }],
  });
  expect(table.cache!.stats).toEqual({ hits: 0, misses: 0, rows: 4, bytes: 4 * rowBytes + 64 });
  look(table, 3, 3, 99, 10, 70, 4, 20, 80);
  expect(table.cache!.stats).toMatchObject({ hits: 2, misses: 3 }); // 3, 99; 4, 70, 80
  await table.pool(plan(50, 51), matrix(1, D));
  expect(table.cache!.stats).toMatchObject({ hits: 3, misses: 4 });
  expect(() => look(table, 3, V)).toThrow();
  expect(() => table.lookup(plan(3), matrix(2, D))).toThrow();
  expect(table.cache!.stats).toMatchObject({ hits: 3, misses: 4 });
  expect(cached(table)).toEqual([3, 50, 60, 99]);
  table.close();
  expect(() => look(table, 3)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
});

test('without counts, it counts the places of the first lookups and then holds their top rows', async () => {
  const table = await open({ cache: { bytes: 2 * rowBytes + 32, warmUpBatches: 3 } });
  look(table, 1, 2, 3, 3);
  await table.pool(plan(3, 40, 40, 2), matrix(1, D));
  await table.cache!.settled();
  expect(table.cache!.stats).toEqual({ hits: 0, misses: 6, rows: 0, bytes: 0 });
  look(table, 5, 40, 40);
  await table.cache!.settled();
  expect(table.cache!.stats).toEqual({ hits: 0, misses: 8, rows: 2, bytes: 2 * rowBytes + 32 });
  look(table, 5, 5, 5, 5, 5, 5);
  expect(cached(table)).toEqual([3, 40]); // filled once
  table.close();
});

test('any counts: the highest, whatever they are', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.integer({ min: 0, max: 3 }), fc.double({ min: 0, max: 1e300, noNaN: true })), {
        minLength: V,
        maxLength: V,
      }),
      fc.integer({ min: 0, max: 120 }),
      async (counts, room) => {
        const table = await open({ cache: { bytes: room * (rowBytes + 12), counts } });
        const rows = cached(table);
        const kept = table.cache!.stats.rows;
        table.close();
        const order = counts.map((count, row) => ({ count, row })).filter(({ count }) => count > 0);
        order.sort((a, b) => b.count - a.count || a.row - b.row);
        const expected = order.slice(0, kept).map(({ row }) => row);
        expect(rows).toEqual(expected.sort((a, b) => a - b));
        expect(kept).toBeGreaterThanOrEqual(Math.min(order.length, Math.floor(room / 2)));
      },
    ),
    { numRuns: 40 },
  );
});

test('counting grows to many rows and stops at its bound', async () => {
  const rows = 200_000;
  const many = join(folder, 'many.safetensors');
  await writeTable(many, normals(rows, 1), { dtype: 'f32', dim: 1, groupDims: 0 });
  const table = await openTable(many, { cache: { bytes: 2000, warmUpBatches: 4 } });
  const random = new RandomStream(2, 'ids');
  for (let batch = 0; batch < 4; batch++) {
    const ids = Int32Array.from({ length: 50_000 }, (_, i) => random.below(batch * 50_000 + i, rows));
    ids.fill(17, 0, 10);
    ids.fill(199_999, 10, 20);
    table.lookup(makePlan({ values: ids, offsets: Int32Array.of(0, ids.length) }, rows), matrix(1, 1));
  }
  await table.cache!.settled();
  const { hits } = table.cache!.stats;
  table.lookup(makePlan(jagged([[17, 199_999]]), rows), matrix(1, 1));
  expect(table.cache!.stats.hits - hits).toBe(2);
  expect(table.cache!.stats.bytes).toBeLessThanOrEqual(2000);
  table.close();
});

test('in front of a device, rows in it are not fetched', async () => {
  const device = new FakeDevice();
  const counts = Float64Array.from({ length: V }, (_, row) => V - row);
  const table = await open({ placement: device, cache: { bytes: 10 * rowBytes + 128, counts } });
  expect(table.cache!.stats.rows).toBe(10);
  device.fetchedRows = 0;
  await table.pool(plan(0, 9, 10, 99, 5), matrix(1, D));
  expect(device.fetchedRows).toBe(2);
  expect(table.cache!.stats).toMatchObject({ hits: 3, misses: 2 });
  await table.pool(plan(0, 1), matrix(1, D));
  expect(device.fetchedRows).toBe(2);
  table.close();
});

test('a fill that fails is told by the next lookup; one that outlives the table is forgotten', async () => {
  const kernels = loadKernels();
  const table = await open({ cache: { bytes: 1000, warmUpBatches: 1 }, kernels });
  const spy = vi.spyOn(kernels, 'readBytes').mockImplementation(() => {
    throw new Error('the disk is gone');
  });
  look(table, 1);
  await table.cache!.settled();
  spy.mockRestore();
  expect(() => look(table, 1)).toThrow('the disk is gone');
  await expect(table.pool(plan(1), matrix(1, D))).rejects.toThrow('the disk is gone');
  table.close();

  const closed = await open({ cache: { bytes: 1000, warmUpBatches: 1 } });
  look(closed, 1);
  closed.close();
  await closed.cache!.settled();
  expect(closed.cache!.stats.rows).toBe(0);
});

test.each([
  [{ bytes: 'much' }, /rows: cache.bytes: "much" is not a size/],
  [{ bytes: -1 }, /cache.bytes: -1 is not a size/],
  [{ bytes: '50%' }, /cache.bytes: "50%" is not a size/],
  [{ bytes: 100, warmUpBatches: 0 }, /cache.warmUpBatches 0; allowed: an integer of 1 or more/],
  [{ bytes: 100, counts: [1, 2] }, /cache.counts has 2 values; allowed: one for each of the 100 rows/],
  [{ bytes: 100, counts: new Float64Array(V).fill(NaN) }, /cache.counts\[0\] is NaN/],
  [{ bytes: 100, counts: new Int32Array(V).fill(-1) }, /cache.counts\[0\] is -1; allowed: numbers of 0 or more/],
])('refuses %j', async (cache, message) => {
  await expect(open({ cache })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(message),
  });
});

test('too small for a row, or with nothing to stand in for, it is empty', async () => {
  for (const options of [
    { cache: { bytes: 20, counts: new Int32Array(V).fill(1) } },
    { cache: { bytes: 0, warmUpBatches: 1 } },
    { cache: { bytes: 1000, warmUpBatches: 1 }, placement: 'ram' as const },
  ]) {
    const table = await open(options);
    look(table, 1, 2);
    await table.cache!.settled();
    expect(table.cache!.stats).toMatchObject({ hits: 0, rows: 0, bytes: 0 });
    table.close();
  }
});
