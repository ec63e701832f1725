/** Negatives: from which distribution, none that is excluded, the same for all workers; on real purchases, too. */
import { existsSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { aliasTable, drawAlias } from './alias.ts';
import type { Batch } from './batch.ts';
import { foundIn, readFound, withFound, writeFound } from './found.ts';
import { openLoader } from './loader.ts';
import type { DataSpec, LoaderOptions, NegativesSpec, Row } from './spec.ts';
import { batchesOf as anyBatchesOf } from './testing/batches.ts';
import { testFolder } from './testing/folder.ts';

const { path: folder } = testFolder();

const spec = (rows: readonly Row[], negatives: Partial<NegativesSpec>, more: Partial<DataSpec> = {}): DataSpec => ({
  source: { rows },
  features: { target: { table: 'items', column: 'item' } },
  negatives: { negatives: { of: 'target', count: 10, ...negatives } },
  labels: {},
  tables: { items: { rows: 8 } },
  ...more,
});

const batchesOf = (data: DataSpec, options: Partial<LoaderOptions> = {}, epoch = 0): Promise<Batch[]> =>
  anyBatchesOf(data, { batchSize: 100, ...options }, { epoch });

/** Of each example: ids of a feature. */
function idsOf(batch: Batch, name: string): number[][] {
  const { table, firstBag, bags, offsets } = batch.features[name]!;
  const plan = batch.plans[table]!;
  const bagOf = (i: number): number => firstBag + (offsets ? offsets[i]! : Math.min(i, bags));
  return Array.from({ length: batch.size }, (_, i) => [
    ...plan.placeRows.subarray(plan.offsets[bagOf(i)], plan.offsets[bagOf(i + 1)]),
  ]);
}

/** By example, whatever batch it is in. */
const drawnBy = (batches: readonly Batch[]): Map<number, number[]> =>
  new Map(batches.flatMap((batch) => idsOf(batch, 'negatives').map((ids, i) => [batch.lines[i]!, ids] as const)));

function chiSquare(counts: readonly number[], shares: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const sum = shares.reduce((all, share) => all + share, 0);
  return counts.reduce((all, count, i) => {
    const wanted = (total * shares[i]!) / sum;
    if (wanted === 0) return all + (count === 0 ? 0 : Infinity);
    return all + (count - wanted) ** 2 / wanted;
  }, 0);
}

function tally(ids: Iterable<number>, rows: number): number[] {
  const counts = new Array<number>(rows).fill(0);
  for (const id of ids) counts[id]!++;
  return counts;
}

// The 99.9th percentiles of chi-square; seeds are fixed, so a test never fails by chance.
const bound = { 6: 22.46, 7: 24.32 } as const;

describe('the alias method', () => {
  test('has the shares of any weights', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.constant(0), fc.double({ min: 1e-9, max: 1e9, noNaN: true })), {
          minLength: 1,
          maxLength: 40,
        }),
        (weights) => {
          const total = weights.reduce((sum, weight) => sum + weight, 0);
          fc.pre(total > 0);
          const { thresholds, aliases } = aliasTable(Float64Array.from(weights));
          const shares = new Float64Array(weights.length);
          thresholds.forEach((threshold, i) => {
            shares[i]! += threshold / 2 ** 32 / weights.length;
            shares[aliases[i]!]! += (1 - threshold / 2 ** 32) / weights.length;
          });
          weights.forEach((weight, i) => {
            if (weight === 0) expect(shares[i]).toBe(0);
            expect(Math.abs(shares[i]! - weight / total)).toBeLessThan(1e-9);
          });
          // No threshold is above the largest fraction.
          expect(drawAlias({ thresholds, aliases }, 0, 2 ** 32 - 1)).toBe(aliases[0]);
        },
      ),
      { examples: [[[1e-9, 1.0000000000000003e-9]]] },
    );
  });
});

describe('negatives', () => {
  const rows = Array.from({ length: 400 }, (_, i) => ({ item: i % 7 === 0 ? 1 : i % 8, liked: [i % 3, 5] }));

  test('each is a bag of its own, behind the features of its table', async () => {
    const [batch] = await batchesOf(spec(rows.slice(0, 3), { count: 2 }));
    expect(batch!.features['negatives']).toEqual({
      table: 'items',
      firstBag: 3,
      bags: 6,
      offsets: Int32Array.of(0, 2, 4, 6),
    });
    expect(batch!.plans['items']!.offsets).toEqual(Int32Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  });

  test('uniform: every row alike, but for those that are excluded', async () => {
    const all = (await batchesOf(spec(rows, { exclude: [] }))).flatMap((batch) => idsOf(batch, 'negatives').flat());
    expect(all).toHaveLength(4000);
    expect(chiSquare(tally(all, 8), new Array<number>(8).fill(1))).toBeLessThan(bound[7]);
    const others = rows.map(() => ({ item: 3 }));
    const found = (await batchesOf(spec(others, {}))).flatMap((batch) => idsOf(batch, 'negatives').flat());
    expect(chiSquare(tally(found, 8), [1, 1, 1, 0, 1, 1, 1, 1])).toBeLessThan(bound[6]);
  });

  test('by frequency: measured or given, to a power; what was never found is not drawn', async () => {
    const items = rows.map(({ item }) => item).filter((item) => item !== 4);
    const some = items.map((item) => ({ item }));
    const measured = tally(items, 8);
    for (const exponent of [0, 0.75, 1, 2]) {
      const drawn = spec(some, { exclude: [], distribution: { exponent } });
      const found = (await batchesOf(drawn)).flatMap((batch) => idsOf(batch, 'negatives').flat());
      const shares = measured.map((count) => (count > 0 ? count ** exponent : 0));
      expect(chiSquare(tally(found, 8), shares)).toBeLessThan(bound[6]);
    }
    const counts = Float64Array.of(5, 0, 1, 0, 0, 0, 0, 94);
    const given = spec(some, { exclude: [], distribution: { counts, exponent: 1 } });
    const found = (await batchesOf(given)).flatMap((batch) => idsOf(batch, 'negatives').flat());
    expect(chiSquare(tally(found, 8), [...counts])).toBeLessThan(bound[6]);
    const loader = await openLoader(spec(some, { distribution: {} }), { batchSize: 8, workers: 0 });
    expect(loader.data.negatives!['negatives']!.distribution).toEqual({ counts: Float64Array.from(measured) });
    await loader.close();
    await writeFound(join(folder, 'found'), foundIn(loader.data));
    const again = withFound(spec([{ item: 4 }], { distribution: {} }), await readFound(join(folder, 'found')));
    expect(again.negatives).toEqual(loader.data.negatives);
  });

  test('none that is excluded, also where only one row is left; an error where none is', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uniqueArray(fc.nat(7), { minLength: 1, maxLength: 7 }), { minLength: 1, maxLength: 20 }),
        fc.nat(1000),
        async (lists, seed) => {
          const some = lists.map((liked) => ({ item: liked[0], liked }));
          for (const distribution of ['uniform', { counts: Float64Array.of(1, 1e6, 1, 1, 1, 1e-6, 1, 1) }] as const) {
            const data = spec(some, { count: 4, exclude: ['item', 'liked'], distribution });
            for (const [line, ids] of drawnBy(await batchesOf(data, { seed })))
              for (const id of ids) expect(lists[line - 1]).not.toContain(id);
          }
        },
      ),
      { numRuns: 20 },
    );
    const everything = [{ item: 0, liked: [0, 1, 2, 3, 4, 5, 6, 7] }];
    await expect(batchesOf(spec(everything, { exclude: ['liked'] }))).rejects.toThrow(
      'rows, row 1, column "liked": negatives "negatives": all 8 rows that could be drawn are excluded',
    );
  });

  test('depend on seed, epoch and example, on nothing else', async () => {
    const file = join(folder, 'rows.jsonl');
    writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    const data = spec(rows, {});
    const one = drawnBy(await batchesOf(data, { seed: 3 }));
    const fromFile = { ...data, source: { file } };
    expect(drawnBy(await batchesOf(fromFile, { seed: 3, batchSize: 7, shuffle: true, workers: 2 }))).toEqual(
      new Map([...one]),
    );
    const shard = drawnBy(await batchesOf(data, { seed: 3, shard: { index: 1, count: 3 } }));
    for (const [line, ids] of shard) expect(ids).toEqual(one.get(line));
    const same = (other: Map<number, number[]>): number =>
      [...one].filter(([line, ids]) => ids.join() === other.get(line)!.join()).length;
    expect(same(drawnBy(await batchesOf(data, { seed: 4 })))).toBe(0);
    expect(same(drawnBy(await batchesOf(data, { seed: 3 }, 1)))).toBe(0);
  });

  test.each([
    [{ of: 'other' }, 'negatives.negatives.of'],
    [{ count: 0 }, 'negatives.negatives.count'],
    [{ distribution: 'zipf' as 'uniform' }, 'negatives.negatives.distribution'],
    [{ distribution: { exponent: -1 } }, 'negatives.negatives.distribution.exponent'],
    [{ distribution: { counts: new Float64Array(3) } }, 'negatives.negatives.distribution.counts'],
  ])('%j is refused', async (wrong, path) => {
    await expect(batchesOf(spec(rows, wrong))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { path } });
  });

  test('counts that are all 0 are refused, and a column that is missing', async () => {
    await expect(batchesOf(spec(rows, { distribution: { counts: new Float64Array(8) } }))).rejects.toMatchObject({
      code: 'INVALID_DATA',
    });
    await expect(batchesOf(spec(rows, { exclude: ['seen'] }))).rejects.toThrow(/column "seen": no such column/);
  });
});

describe('purchases of a shop', () => {
  const path = new URL('../../../../shared/data/online-retail/events.csv.gz', import.meta.url);

  test('histories, targets and what each customer never bought', async (ctx) => {
    if (!existsSync(path)) ctx.skip(`no ${path.pathname}`);
    const file = join(folder, 'events.csv');
    const text = gunzipSync(readFileSync(path)).toString();
    writeFileSync(file, text.slice(0, text.indexOf('\n', 8_000_000) + 1));
    const item = { table: 'items', lookup: { vocabulary: {}, outOfVocabulary: { rows: 1 } } };
    const data: DataSpec = {
      source: { file },
      histories: { user: 'Customer', item: 'StockCode', time: 'InvoiceDate', window: 20, minimum: 5 },
      badRows: { skip: Infinity },
      features: {
        history: { ...item, column: 'history', pooling: 'none' },
        target: { ...item, column: 'target' },
      },
      negatives: { negatives: { of: 'target', count: 20, distribution: {}, exclude: ['seen'] } },
      labels: {},
      id: { column: 'Customer' },
      tables: { items: { rows: 10_000 } },
      split: { leaveOut: 'test' },
    };
    const loader = await openLoader(data, { batchSize: 256, workers: 1 });
    const { words } = loader.data.features['target']!.lookup!.vocabulary as { words: readonly string[] };
    expect((loader.data.features['history']!.lookup!.vocabulary as { words: readonly string[] }).words).toEqual(words);
    const bought = new Map<string, Set<string>>();
    for (const line of text.slice(0, text.indexOf('\n', 8_000_000)).split('\n').slice(1)) {
      const fields = line.split(/,(?=(?:[^"]*"[^"]*")*[^"]*$)/);
      const customer = fields[6];
      if (customer) bought.set(customer, (bought.get(customer) ?? new Set()).add(fields[1]!));
    }
    let examples = 0;
    const seen = new Set<string>();
    for await (const batch of loader.batches(0)) {
      const [histories, targets, negatives] = ['history', 'target', 'negatives'].map((name) => idsOf(batch, name));
      for (let i = 0; i < batch.size; i++) {
        const customer = batch.ids![i]!;
        const own = bought.get(customer)!;
        expect(histories![i]!.length).toBeLessThanOrEqual(20);
        expect(histories![i]!.length).toBeGreaterThanOrEqual(5);
        for (const id of [...histories![i]!, ...targets![i]!]) expect([...own]).toContain(words[id - 1]);
        for (const id of negatives![i]!) expect(own.has(words[id - 1]!)).toBe(false);
        expect(seen.has(customer)).toBe(false);
        seen.add(customer);
        examples++;
      }
    }
    expect(examples).toBe(loader.examples);
    expect(examples).toBeGreaterThan(500);
    expect(loader.statistics.skipped.count).toBeGreaterThan(0);
    await loader.close();
  });
});
