/** No batch has two of a key; every example comes once; nothing depends on workers. */
import { permutation } from '@finetable/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkDistinct, distinctOrder, hashIds, keysOf } from './distinct.ts';
import { openLoader } from './loader.ts';
import type { DataSpec, LoaderOptions } from './spec.ts';

const batchesOf = (order: Uint32Array, batchSize: number): number[][] =>
  Array.from({ length: Math.ceil(order.length / batchSize) }, (_, i) => [
    ...order.subarray(i * batchSize, (i + 1) * batchSize),
  ]);

/** Whether batches can be made, by trying all ways to fill them, smallest last. */
function canBe(sizes: readonly number[], batchSize: number): boolean {
  const n = sizes.reduce((sum, size) => sum + size, 0);
  const batches = Math.ceil(n / batchSize);
  const room = Array.from({ length: batches }, (_, i) => Math.min(batchSize, n - i * batchSize));
  const place = (key: number, rooms: readonly number[]): boolean => {
    if (key === sizes.length) return true;
    const choose = (from: number, count: number, chosen: readonly number[]): boolean => {
      if (count === 0)
        return place(
          key + 1,
          rooms.map((size, i) => (chosen.includes(i) ? size - 1 : size)),
        );
      for (let i = from; i <= batches - count; i++)
        if (rooms[i]! > 0 && choose(i + 1, count - 1, [...chosen, i])) return true;
      return false;
    };
    return choose(0, sizes[key]!, []);
  };
  return place(0, room);
}

describe('the order', () => {
  const examples = fc.array(fc.nat(12), { minLength: 1, maxLength: 120 });

  test('is one wherever there is one, and the error says up to which batch size there is', () => {
    let [made, refused] = [0, 0];
    fc.assert(
      fc.property(examples, fc.integer({ min: 1, max: 20 }), fc.nat(100), (ids, batchSize, seed) => {
        const keys = keysOf(Float64Array.from(ids));
        const order = permutation(ids.length, seed, 'test');
        const check = (size: number): void => {
          const found = distinctOrder(order, keys, size);
          expect([...found].sort((a, b) => a - b)).toEqual(ids.map((_, i) => i));
          for (const batch of batchesOf(found, size)) {
            expect(new Set(batch.map((i) => ids[i])).size).toBe(batch.length);
          }
        };
        try {
          checkDistinct(keys, batchSize, 'f');
        } catch (error) {
          const { most } = (error as { details: { most: number } }).details;
          expect(most).toBeLessThan(batchSize);
          expect(() => checkDistinct(keys, most, 'f')).not.toThrow();
          if (most + 1 < batchSize) expect(() => checkDistinct(keys, most + 1, 'f')).toThrow();
          check(most);
          refused++;
          return;
        }
        check(batchSize);
        made++;
      }),
      { seed: 1, numRuns: 2000 },
    );
    expect(Math.min(made, refused)).toBeGreaterThan(200);
  });

  test('is refused only where there is none', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 1, max: 4 }),
        (sizes, batchSize) => {
          const ids = sizes.flatMap((size, key) => new Array<number>(size).fill(key));
          const keys = keysOf(Float64Array.from(ids));
          if (canBe(sizes, batchSize)) expect(() => checkDistinct(keys, batchSize, 'f')).not.toThrow();
          else expect(() => checkDistinct(keys, batchSize, 'f')).toThrow(/the same ids of feature "f"/);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('is as it was where nothing meets, and waits no longer than it must', () => {
    const order = permutation(1000, 1, 'test');
    const apart = keysOf(Float64Array.from(order, (_, i) => i));
    for (const batchSize of [1, 7, 999, 1000]) expect(distinctOrder(order, apart, batchSize)).toEqual(order);
    const ids = [1, 1, 2, 3, 1, 4, 5, 6, 7];
    const found = distinctOrder(
      Uint32Array.from(ids, (_, i) => i),
      keysOf(Float64Array.from(ids)),
      3,
    );
    expect(batchesOf(found, 3)).toEqual([
      [0, 2, 3],
      [1, 5, 6],
      [4, 7, 8],
    ]);
  });

  test('keys are ids, or hashes of several in order', () => {
    expect(hashIds(Int32Array.of(2 ** 31 - 1))).toBe(2 ** 31 - 1);
    const hashes = [[1, 2], [2, 1], [12], [], [1, 2, 3]].map((ids) => hashIds(Int32Array.from(ids)));
    expect(new Set(hashes).size).toBe(5);
    for (const hash of hashes) expect(Number.isSafeInteger(hash) && hash >= 0).toBe(true);
  });
});

describe('a loader', () => {
  const rows = Array.from({ length: 300 }, (_, i) => ({ id: i % 9 === 0 ? 5 : (i * 7) % 60, key: `k${i % 3}` }));
  const data: DataSpec = {
    source: { rows },
    features: { id: { table: 'items', column: 'id' } },
    labels: {},
    tables: { items: { rows: 100 } },
  };
  const run = async (options: Partial<LoaderOptions>, more: Partial<DataSpec> = {}, from = 0): Promise<number[][]> => {
    const loader = await openLoader({ ...data, ...more }, { batchSize: 7, workers: 0, distinct: 'id', ...options });
    const batches: number[][] = [];
    for await (const { lines } of loader.batches(0, from, 2)) batches.push([...lines]);
    await loader.close();
    return batches;
  };

  test('has no batch with the same id twice, every example once in an epoch', async () => {
    for (const shuffle of [false, true]) {
      const batches = await run({ shuffle, seed: 3 });
      for (const batch of batches) expect(new Set(batch.map((line) => rows[line - 1]!.id)).size).toBe(batch.length);
      const half = batches.length / 2;
      for (const epoch of [batches.slice(0, half), batches.slice(half)])
        expect(epoch.flat().sort((a, b) => a - b)).toEqual(rows.map((_, i) => i + 1));
      expect(await run({ shuffle, seed: 3, workers: 2 })).toEqual(batches);
      for (const from of [1, 20, half - 1])
        expect(await run({ shuffle, seed: 3 }, {}, from)).toEqual(batches.slice(from));
    }
  });

  test('of a split, too', async () => {
    const split = { part: 0, parts: [1, 1], key: 'id' } as const;
    const batches = await run({ shuffle: true, batchSize: 4 }, { split });
    for (const batch of batches) expect(new Set(batch.map((line) => rows[line - 1]!.id)).size).toBe(batch.length);
  });

  test('refuses what cannot be', async () => {
    await expect(run({ batchSize: 64 })).rejects.toThrow(
      'distinct: 39 of 300 examples have the same ids of feature "id", more than go into different batches of the 5 that batchSize 64 makes; the largest batchSize that can be is 7',
    );
    await expect(run({ distinct: 'other' })).rejects.toMatchObject({ details: { path: 'distinct' } });
    await expect(run({}, { source: { rows: rows[Symbol.iterator]() } })).rejects.toMatchObject({
      details: { path: 'distinct' },
    });
    await expect(run({ shuffleWindow: 299 })).rejects.toMatchObject({ details: { path: 'shuffleWindow' } });
  });
});
