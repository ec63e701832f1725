/** Examples out of interactions: which there are, what they hold, the same for all workers. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Batch } from '../batch.ts';
import { openLoader } from '../loader.ts';
import type { DataSpec, FeatureSpec, HistoriesSpec, Row, SourceSpec, SplitSpec } from '../spec.ts';
import { batchesOf } from '../testing/batches.ts';
import { testFolder } from '../testing/folder.ts';

const { path: folder } = testFolder();

const histories: HistoriesSpec = { user: 'user', item: 'item', time: 'at', window: 3 };
const feature = (column: string, more: Partial<FeatureSpec> = {}): FeatureSpec => ({
  table: 'items',
  column,
  pooling: 'sum',
  ...more,
});
const spec = (source: SourceSpec, more: Partial<DataSpec> = {}): DataSpec => ({
  source,
  histories,
  features: { history: feature('history'), target: feature('target') },
  labels: {},
  id: { column: 'user' },
  tables: { items: { rows: 1000 } },
  ...more,
});

interface Example {
  readonly user: string;
  readonly history: readonly number[];
  readonly target: readonly number[];
}

function bagsOf(batch: Batch, name: string, i: number): number[] {
  const { table, firstBag } = batch.features[name]!;
  const { offsets, placeRows } = batch.plans[table]!;
  return [...placeRows.subarray(offsets[firstBag + i], offsets[firstBag + i + 1])];
}

const examplesOf = (batches: readonly Batch[]): Example[] =>
  batches.flatMap((batch) =>
    Array.from({ length: batch.size }, (_, i) => ({
      user: batch.ids![i]!,
      history: bagsOf(batch, 'history', i),
      target: bagsOf(batch, 'target', i),
    })),
  );

interface Interaction {
  readonly user: number;
  readonly item: number;
  readonly at: number;
}

/** As they are defined, slowly. */
function expected(
  rows: readonly Interaction[],
  { window, minimum = 1 }: HistoriesSpec,
  inside: (row: Interaction, place: number, count: number) => boolean = () => true,
): Example[] {
  const users = [...new Set(rows.map(({ user }) => user))];
  return users.flatMap((user) => {
    const own = rows.filter((row) => row.user === user).sort((a, b) => a.at - b.at);
    return own.flatMap((row, i) =>
      i >= minimum && inside(row, i, own.length)
        ? [
            {
              user: String(user),
              history: own.slice(Math.max(0, i - window), i).map(({ item }) => item),
              target: [row.item],
            },
          ]
        : [],
    );
  });
}

const someRows = fc.array(
  fc.record({ user: fc.nat(5), item: fc.nat(999), at: fc.nat(20) }) as fc.Arbitrary<Interaction & Row>,
  { minLength: 1, maxLength: 60 },
);
const byText = (examples: readonly Example[]): string[] => examples.map((example) => JSON.stringify(example)).sort();

describe('interactions', () => {
  test('each with enough before it is an example: those before it by time, the newest', async () => {
    await fc.assert(
      fc.asyncProperty(someRows, fc.integer({ min: 1, max: 5 }), fc.nat(3), async (rows, window, minimum) => {
        const wanted = { ...histories, window, minimum };
        const examples = expected(rows, wanted);
        fc.pre(examples.length > 0);
        const data = spec({ rows }, { histories: wanted });
        expect(examplesOf(await batchesOf(data))).toEqual(examples);
        const shuffled = examplesOf(await batchesOf(data, { shuffle: true, seed: 5 }, { epochs: 2 }));
        expect(byText(shuffled)).toEqual(byText([...examples, ...examples]));
      }),
      { numRuns: 60 },
    );
  });

  test('the last of each user, the ones before, and the rest are all examples, each in one part', async () => {
    await fc.assert(
      fc.asyncProperty(someRows, fc.integer({ min: 1, max: 2 }), async (rows, count) => {
        const from = { test: 0, validation: count, train: 2 * count };
        for (const [leaveOut, behind] of Object.entries(from)) {
          const part = expected(rows, histories, (_, i, own) => {
            const after = own - 1 - i;
            return leaveOut === 'train' ? after >= behind : after >= behind && after < behind + count;
          });
          const split = { leaveOut, count } as SplitSpec;
          const found = batchesOf(spec({ rows }, { split }));
          if (part.length === 0) await expect(found).rejects.toMatchObject({ code: 'INVALID_DATA' });
          else expect(examplesOf(await found)).toEqual(part);
        }
      }),
      { numRuns: 40 },
    );
  });

  const random = fc.sample(someRows, { seed: 3, numRuns: 30 }).flat();

  test.each([0, 1, 2])(
    'a file is as an array, from any batch on, with columns of its rows (workers %i)',
    async (workers) => {
      const file = join(folder, `rows-${workers}.csv`);
      const place = (row: Interaction): string => `p${row.user * 7 + row.at}`;
      const lines = random.map((row) => `${row.user},${row.item},${row.at},${place(row)}`);
      writeFileSync(file, `user,item,at,place\n${lines.join('\n')}\n`);
      const labels = { place: { column: 'place' } };
      const options = { workers, shuffle: true, seed: 9, batchSize: 7 };
      const loader = await openLoader(spec({ file }, { labels }), options);
      const take = async (from: number, epochs: number): Promise<Batch[]> => {
        const batches: Batch[] = [];
        for await (const batch of loader.batches(0, from, epochs)) batches.push(batch);
        return batches;
      };
      const all = await take(0, 2);
      for (let from = 1; from < all.length / 2; from++)
        expect(await take(from, 1)).toEqual(all.slice(from, all.length / 2));
      await loader.close();
      expect(byText(examplesOf(all))).toEqual(byText([...expected(random, histories), ...expected(random, histories)]));
      const rows = random.map((row) => ({ ...row, place: place(row) }));
      const inThread = { ...options, workers: 0 };
      const given = await batchesOf(spec({ rows }, { labels }), inThread, { epochs: 2 });
      expect(all.map(({ plans, labels: found, ids }) => [plans, found, ids])).toEqual(
        given.map(({ plans, labels: found, ids }) => [plans, found, ids]),
      );
      const known = await batchesOf(spec({ file }), inThread, { epochs: 2 });
      expect(examplesOf(known)).toEqual(examplesOf(all));
      const { lines: numbers } = known[0]!;
      expect(numbers.map((row) => random[row - 1]!.item)).toEqual(
        Float64Array.from(examplesOf(known).slice(0, 7), ({ target }) => target[0]!),
      );
    },
  );

  test('several files: each example says where it is from', async () => {
    mkdirSync(join(folder, 'parts'));
    const half = random.length >> 1;
    [random.slice(0, half), random.slice(half)].forEach((part, i) =>
      writeFileSync(join(folder, 'parts', `${i}.jsonl`), part.map((row) => `${JSON.stringify(row)}\n`).join('')),
    );
    const batches = await batchesOf(spec({ file: join(folder, 'parts', '*.jsonl') }));
    expect(examplesOf(batches)).toEqual(expected(random, histories));
    for (const batch of batches) {
      batch.lines.forEach((line, i) => {
        const row = line - 1 + (batch.files[batch.fileOf![i]!]!.endsWith('1.jsonl') ? half : 0);
        expect([random[row]!.item]).toEqual(bagsOf(batch, 'target', i));
      });
    }
  });

  test('by time: targets are of the time, what came before them is not cut', async () => {
    const from = 10;
    const split = { time: { column: 'at', from } };
    const found = examplesOf(await batchesOf(spec({ rows: random as unknown as Row[] }, { split })));
    expect(found).toEqual(expected(random, histories, ({ at }) => at >= from));
    const users = { split: { part: 0, parts: [1, 1], key: 'user' } } as const;
    const half = examplesOf(await batchesOf(spec({ rows: random as unknown as Row[] }, users)));
    const chosen = new Set(half.map(({ user }) => user));
    expect(half).toEqual(expected(random, histories, ({ user }) => chosen.has(String(user))));
    expect(chosen.size).toBeLessThan(6);
  });

  test('items that are texts go through a vocabulary, dates give the order', async () => {
    const rows = [
      { user: 'b', item: 'tea', at: '2024-03-01T10:00:00Z' },
      { user: 'b', item: 'milk', at: '2024-03-01T10:30:00+01:00' },
      { user: 'a', item: 'milk', at: '2024-02-01' },
      { user: 'b', item: '5', at: '2024-02-29 23:59:59' },
    ];
    const lookup = { vocabulary: { words: ['5', 'milk', 'tea'] } };
    const features = { history: feature('history', { lookup }), target: feature('target', { lookup }) };
    expect(examplesOf(await batchesOf(spec({ rows }, { features })))).toEqual([
      { user: 'b', history: [0], target: [1] },
      { user: 'b', history: [0, 1], target: [2] },
    ]);
    const bad = [...rows, { user: 'a', item: 'tea', at: 17 }];
    await expect(batchesOf(spec({ rows: bad }, { features }))).rejects.toThrow(
      'rows, row 5, column "at": found 17; allowed: a date, as elsewhere',
    );
    const skipping = spec({ rows: bad }, { features, badRows: { skip: 1 } });
    expect(examplesOf(await batchesOf(skipping))).toHaveLength(2);
    await expect(batchesOf({ ...skipping, badRows: { skip: 0 } })).rejects.toThrow(/more than 0 bad rows/);
  });

  test('what cannot be is refused', async () => {
    const rows = [{ user: 1, item: 1, at: 1 }];
    await expect(batchesOf(spec({ rows }))).rejects.toMatchObject({ code: 'INVALID_DATA' });
    await expect(batchesOf(spec({ rows: rows[Symbol.iterator]() }))).rejects.toMatchObject({
      details: { path: 'histories' },
    });
    await expect(batchesOf(spec({ rows }, { histories: { ...histories, window: 0 } }))).rejects.toMatchObject({
      details: { path: 'histories.window' },
    });
    await expect(
      batchesOf(spec({ rows }, { histories: undefined, split: { leaveOut: 'test' } })),
    ).rejects.toMatchObject({ details: { path: 'split.leaveOut' } });
    await expect(batchesOf(spec({ rows: [{ user: 1, item: null, at: 1 }] }))).rejects.toThrow(
      /column "item": found null/,
    );
  });
});

describe('lists', () => {
  test('a window slides over each', async () => {
    const wanted: HistoriesSpec = { list: 'items', window: 2 };
    const data = (source: SourceSpec): DataSpec => spec(source, { histories: wanted, id: { column: 'name' } });
    const rows = [
      { name: 'x', items: [1, 2, 3, 4] },
      { name: 'y', items: [] },
      { name: 'z', items: [5, 6] },
    ];
    const examples = [
      { user: 'x', history: [1], target: [2] },
      { user: 'x', history: [1, 2], target: [3] },
      { user: 'x', history: [2, 3], target: [4] },
      { user: 'z', history: [5], target: [6] },
    ];
    expect(examplesOf(await batchesOf(data({ rows })))).toEqual(examples);
    const file = join(folder, 'lists.csv');
    writeFileSync(file, 'name,items\nx,1 2 3 4\ny,\nz,"[5,6]"\n');
    for (const workers of [0, 2]) expect(examplesOf(await batchesOf(data({ file }), { workers }))).toEqual(examples);
  });

  test('the last of a list that is one', async () => {
    const rows = [{ items: [1, 2, 3] }, { items: [4] }];
    const data: DataSpec = {
      source: { rows },
      features: { items: feature('items', { last: 2, pooling: 'none' }), all: feature('items') },
      labels: {},
      tables: { items: { rows: 10 } },
    };
    const [batch] = await batchesOf(data);
    expect(batch!.features).toEqual({
      items: { table: 'items', firstBag: 0, bags: 3, offsets: Int32Array.of(0, 2, 3) },
      all: { table: 'items', firstBag: 3, bags: 2 },
    });
    expect(batch!.plans['items']).toMatchObject({
      placeRows: Int32Array.of(2, 3, 4, 1, 2, 3, 4),
      offsets: Int32Array.of(0, 1, 2, 3, 6, 7),
    });
  });
});
