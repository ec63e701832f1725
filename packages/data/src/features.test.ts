/** Everything that a batch may hold, from files and arrays, whatever the number of workers. */
import { describe, expect, test } from 'vitest';
import type { Batch } from './batch.ts';
import { openLoader } from './loader.ts';
import type { DataSpec, LoaderOptions, Row } from './spec.ts';
import { bagsOf, collect, using } from './testing/batches.ts';
import { testFolder } from './testing/folder.ts';

const { write } = testFolder();

const tables = { words: { rows: 40 }, items: { rows: 1000 } };

async function load(spec: Partial<DataSpec>, options: Partial<LoaderOptions> = {}) {
  const data: DataSpec = { source: { rows: [] }, features: {}, labels: {}, tables, ...spec };
  return using(data, { batchSize: 16, workers: 0, ...options }, async (loader) => {
    const batches = await collect(loader.batches(0));
    return { batches, data: loader.data, classes: loader.classes, statistics: loader.statistics };
  });
}

/** Rows v with everything in them that there can be. */
const words = ['the', 'cat', 'sat', 'on', 'a', 'mat'];
const rowsOf = (count: number): Row[] =>
  Array.from({ length: count }, (_, v) => ({
    text: `the ${words[v % 6]!} ${words[(v * v) % 6]!}`,
    city: ['Oslo', 'Rome', 'Bonn'][v % 3]!,
    device: v % 2 === 0 ? 'phone' : ['phone', 'tablet'],
    price: v,
    age: v % 5 === 0 ? null : v % 7,
    score: v / 8,
    tags: ['x', 'y', 'z'].slice(0, v % 4),
    weight: v % 3,
    key: `row-${v}`,
    class: v % 2 === 0,
  }));

const everything: Partial<DataSpec> = {
  features: {
    text: {
      table: 'words',
      column: 'text',
      tokens: { vocabulary: { minCount: 2 }, outOfVocabulary: { rows: 2 }, split: 'whitespace' },
      weighting: { type: 'sif', a: 0.1 },
    },
    city: { table: 'words', column: 'city', lookup: { vocabulary: {}, outOfVocabulary: { rows: 1, at: 'end' } } },
    cross: { table: 'items', column: 'city', hash: { crossWith: ['device'], seed: 3 } },
    grams: { table: 'items', column: 'city', ngrams: {}, weighting: { type: 'sif' } },
    price: { table: 'items', column: 'price', weighting: { type: 'position', decay: 0.5 } },
  },
  labels: {
    class: { column: 'class' },
    score: { column: 'score', type: 'number' },
    tags: { column: 'tags', type: 'classes' },
  },
  numbers: {
    both: { column: ['price', 'age'], normalize: 'measured', default: 'mean' },
    log: { column: 'price', log1p: true },
  },
  weight: { column: 'weight' },
  id: { column: 'key' },
};

describe('all of it', () => {
  const rows = rowsOf(60);
  const file = write('all.jsonl', rows.map((row) => `${JSON.stringify(row)}\n`).join(''));

  test('is what the rows say', async () => {
    const { batches, data, classes } = await load({ ...everything, source: { file } });
    const [batch] = batches;
    const { both, log } = batch!.numbers;
    expect([both!.rows, both!.cols, log!.cols]).toEqual([16, 2, 1]);
    const prices = rows.map(({ price }) => price as number);
    const mean = prices.reduce((a, b) => a + b) / 60;
    const deviation = Math.sqrt(prices.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 60);
    const normalize = data.numbers!['both']!.normalize as { mean: number[]; deviation: number[] };
    expect(normalize.mean[0]).toBe(mean);
    expect(normalize.deviation[0]).toBeCloseTo(deviation, 12);
    const ages = rows.flatMap(({ age }) => (age === null ? [] : [age as number]));
    expect(normalize.mean[1]).toBeCloseTo(ages.reduce((a, b) => a + b) / ages.length, 12);
    for (let i = 0; i < 16; i++) {
      expect(both!.data[2 * i]).toBe(Math.fround((i - mean) / normalize.deviation[0]!));
      const age = rows[i]!['age'] as number | null;
      const expected = age === null ? 0 : (age - normalize.mean[1]!) / normalize.deviation[1]!;
      expect(both!.data[2 * i + 1]).toBe(Math.fround(expected));
      expect(log!.data[i]).toBe(Math.fround(Math.log1p(i)));
    }
    expect(classes).toEqual({ class: ['false', 'true'], tags: ['x', 'y', 'z'] });
    expect(batch!.labels).toEqual({ class: Int32Array.from({ length: 16 }, (_, i) => 1 - (i % 2)) });
    expect(batch!.targets).toEqual({ score: Float32Array.from({ length: 16 }, (_, i) => i / 8) });
    const { values, offsets } = batch!.labelSets['tags']!;
    expect([...offsets.subarray(0, 6)]).toEqual([0, 0, 1, 3, 6, 6]);
    expect([...values.subarray(0, 6)]).toEqual([0, 0, 1, 0, 1, 2]);
    expect(batch!.weights).toEqual(Float32Array.from({ length: 16 }, (_, i) => i % 3));
    expect(batch!.ids).toEqual(Array.from({ length: 16 }, (_, i) => `row-${i}`));
  });

  test('is the same for any number of workers, and as JSON, and once more from what was found', async () => {
    const expected = await load({ ...everything, source: { file } }, { shuffle: true, seed: 2 });
    for (const workers of [1, 3]) {
      const { batches, data } = await load({ ...everything, source: { file } }, { shuffle: true, seed: 2, workers });
      expect(batches).toEqual(expected.batches);
      expect(data).toEqual(expected.data);
    }
    expect((await load(expected.data, { shuffle: true, seed: 2 })).batches).toEqual(expected.batches);
    const given = await load({ ...everything, source: { rows } }, { shuffle: true, seed: 2, workers: 2 });
    expect(given.batches.map(({ plans, numbers }) => ({ plans, numbers }))).toEqual(
      expected.batches.map(({ plans, numbers }) => ({ plans, numbers })),
    );
  });

  test('a vocabulary has the words by count, then the last by code point first; weights follow from the counts', async () => {
    const { batches, data } = await load({ ...everything, source: { file } });
    const { tokens, weighting } = data.features['text']!;
    const counts = new Map<string, number>();
    for (const { text } of rows)
      for (const word of (text as string).split(' ')) counts.set(word, (counts.get(word) ?? 0) + 1);
    const expected = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? 1 : -1));
    expect(tokens!.vocabulary).toEqual({ words: expected.map(([w]) => w), counts: expected.map(([, n]) => n) });
    expect(data.features['city']!.lookup!.vocabulary).toEqual({
      words: ['Rome', 'Oslo', 'Bonn'],
      counts: [20, 20, 20],
    });
    const rowOf = (word: string) => 2 + expected.findIndex(([w]) => w === word);
    const byRow = (weighting as { counts: Float64Array }).counts;
    expect([...byRow.subarray(0, 2 + expected.length)]).toEqual([0, 0, ...expected.map(([, n]) => n)]);
    const [batch] = batches;
    const ids = bagsOf(batch!, 'words');
    const total = 180;
    for (let i = 0; i < 16; i++) {
      const texts = (rows[i]!['text'] as string).split(' ');
      expect(ids[i]).toEqual(texts.map(rowOf));
      const weights = texts.map((word) => 0.1 / (0.1 + counts.get(word)! / total));
      const sum = weights.reduce((a, b) => a + b);
      const { offsets, weights: found } = batch!.plans['words']!;
      weights.forEach((weight, j) => expect(found![offsets[i]! + j]).toBeCloseTo(weight / sum, 6));
      expect(ids[16 + i]).toEqual(
        [['Oslo', 'Rome', 'Bonn'][i % 3]].map((city) => ['Rome', 'Oslo', 'Bonn'].indexOf(city!)),
      );
    }
  });
});

describe('bad rows', () => {
  const good = rowsOf(200);
  const lines = good.map((row) => JSON.stringify(row));
  const bad: Readonly<Record<number, string>> = {
    3: '{"text": 1',
    40: JSON.stringify({ ...good[40], city: null }),
    41: JSON.stringify({ ...good[41], price: 1000 }),
    42: JSON.stringify({ ...good[42], weight: -1 }),
    133: JSON.stringify({ ...good[133], score: 'high' }),
    199: '[]',
  };
  const isGood = (_: unknown, i: number): boolean => bad[i] === undefined;
  const file = write('bad.jsonl', lines.map((line, i) => bad[i] ?? line).join('\n'));
  const clean = write('clean.jsonl', lines.filter(isGood).join('\n'));
  const skip = { ...everything, badRows: { skip: 6 } };
  const withoutPlace = (batches: readonly Batch[]) =>
    batches.map((batch) => ({ ...batch, files: null, lines: null, unit: null }));

  test('are left out: every batch is full, the same for any number of workers, and nothing of them is in what is found', async () => {
    const expected = await load({ ...everything, source: { file: clean } }, { shuffle: true });
    for (const workers of [0, 2]) {
      const found = await load({ ...skip, source: { file } }, { shuffle: true, workers });
      expect(withoutPlace(found.batches)).toEqual(withoutPlace(expected.batches));
      expect(found.statistics.skipped.count).toBe(6);
      expect(found.data.numbers).toEqual(expected.data.numbers);
    }
  });

  test('are counted and named, up to the limit', async () => {
    const { statistics } = await load({ ...skip, source: { file } });
    expect(statistics.skipped.problems).toEqual([
      expect.stringMatching(/bad\.jsonl, line 4: not JSON: /),
      `${file}, line 41, column "city": found null; allowed: a text, a number, true or false, one or a list`,
      `${file}, line 42, column "price": id 1000; allowed: 0 to 999, as table "items" has 1000 rows`,
      `${file}, line 43, column "weight": found -1; allowed: numbers of 0 or more, within the range of f32`,
      `${file}, line 134, column "score": found "high"; allowed: numbers within the range of f32`,
      `${file}, line 200: found []; allowed: a JSON object, such as {"text": "..."}`,
    ]);
    await expect(load({ ...skip, badRows: { skip: 5 }, source: { file } })).rejects.toMatchObject({
      code: 'INVALID_DATA',
      message: expect.stringContaining(
        'more than 5 bad rows, which is what badRows.skip allows; the first:\n  ',
      ) as string,
    });
    await expect(load({ ...everything, source: { file } })).rejects.toThrow('bad.jsonl, line 4: not JSON');
    const all = { ...skip, badRows: { skip: Infinity }, source: { rows: [{ a: 1 }, 7 as unknown as Row] } };
    await expect(load(all)).rejects.toThrow(
      'rows: every row is bad; the first: rows, row 1, column "text": no such column',
    );
  });

  test('of a split, too', async () => {
    const split = { part: 0, parts: [1, 1], key: 'key' };
    const expected = await load({ ...everything, split, source: { file: clean } });
    const found = await load({
      ...skip,
      split,
      badRows: { skip: 200 },
      source: {
        file: write(
          'bad-keys.jsonl',
          lines
            .map((line, i) => (i === 41 ? bad[41]! : line))
            .filter((_, i) => i === 41 || isGood(_, i))
            .join('\n'),
        ),
      },
    });
    expect(withoutPlace(found.batches)).toEqual(withoutPlace(expected.batches));
  });

  test('of what is iterated, in order, also where it goes on in the middle', async () => {
    const iterated = good.map(
      (row, i) => (bad[i]?.startsWith('{"text": 1') ? 1 : bad[i] ? JSON.parse(bad[i]) : row) as Row,
    );
    const given = (await load({ ...everything, source: { rows: iterated.filter(isGood) } })).data;
    const known = { features: given.features, labels: given.labels, numbers: given.numbers };
    for (const options of [{ workers: 0 }, { workers: 2 }, { shuffle: true, shuffleWindow: 48, workers: 1 }]) {
      const clean = { ...everything, ...known, tables, source: { rows: () => iterated.filter(isGood) } } as DataSpec;
      const expected = await load(clean, options);
      const loader = await openLoader(
        { ...clean, ...skip, ...known, source: { rows: () => iterated } },
        { batchSize: 16, ...options },
      );
      for (const [from, skipped] of [
        [0, 6],
        [3, 12],
      ] as const) {
        const batches: Batch[] = [];
        for await (const batch of loader.batches(0, from)) batches.push(batch);
        expect(withoutPlace(batches)).toEqual(withoutPlace(expected.batches.slice(from)));
        expect(loader.statistics.skipped.count).toBe(skipped);
      }
      await loader.close();
    }
    const few = { ...skip, ...known, badRows: { skip: 3 }, source: { rows: () => iterated } };
    await expect(load(few)).rejects.toThrow('rows: more than 3 bad rows');
  });

  test('or a default stands for what is missing or wrong', async () => {
    const rows = [
      { city: 'Oslo', text: 'the cat', age: 3, y: 1, c: 'b', w: 2 },
      {},
      { city: null, text: 7, age: 'x', y: 'x', c: {}, w: -1 },
    ];
    const { batches } = await load({
      source: { rows },
      features: {
        city: { table: 'items', column: 'city', hash: {}, default: 'Rome' },
        text: {
          table: 'words',
          column: 'text',
          tokens: { vocabulary: { words: ['the', 'cat', 'none'] } },
          default: 'none',
        },
      },
      labels: {
        y: { column: 'y', type: 'number', default: -1 },
        c: { column: 'c', classes: ['a', 'b'], default: 'a' },
        s: { column: 's', type: 'classes', default: ['q'] },
      },
      numbers: { age: { column: 'age', default: 9 } },
      weight: { column: 'w', default: 0.5 },
    });
    const [batch] = batches;
    const [oslo, rome] = [bagsOf(batch!, 'items')[0], bagsOf(batch!, 'items')[1]];
    expect(oslo).not.toEqual(rome);
    expect(bagsOf(batch!, 'items')[2]).toEqual(rome);
    expect(bagsOf(batch!, 'words')).toEqual([[0, 1], [2], [2]]);
    expect(batch!.targets['y']).toEqual(Float32Array.of(1, -1, -1));
    expect(batch!.labels['c']).toEqual(Int32Array.of(1, 0, 0));
    expect(batch!.labelSets['s']).toEqual({ values: Int32Array.of(0, 0, 0), offsets: Int32Array.of(0, 1, 2, 3) });
    expect(batch!.numbers['age']!.data).toEqual(Float32Array.of(3, 9, 9));
    expect(batch!.weights).toEqual(Float32Array.of(2, 0.5, 0.5));
    const wrong = { features: { text: { table: 'items', column: 'text', default: 5000 } }, source: { rows } };
    await expect(load(wrong)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'features.text.default: id 5000; allowed: 0 to 999, as table "items" has 1000 rows',
    });
  });

  test('a missing column is told as the loader opens', async () => {
    const rows = [{ a: 1 }, { b: 2 }];
    const spec = { source: { rows }, features: { a: { table: 'items', column: 'a' } }, labels: { b: { column: 'a' } } };
    await expect(load(spec)).rejects.toThrow('rows, row 2, column "a": no such column; the columns there are: "b"');
  });
});

test('text of a CSV file means numbers, lists and names', async () => {
  const file = write('all.csv', 'id,city,tags,n,empty\n3 4,Oslo,x|y,1.5,\n5,"Rome",,-2e1,\n');
  const { batches, classes, data } = await load({
    source: { file },
    features: {
      id: { table: 'items', column: 'id' },
      tags: { table: 'words', column: 'tags', lookup: { vocabulary: {}, separator: '|' } },
    },
    labels: { city: { column: 'city' }, tags: { column: 'tags', type: 'classes', separator: '|' } },
    numbers: { n: { column: ['n', 'empty'], default: 7 } },
  });
  expect(bagsOf(batches[0]!, 'items')).toEqual([[3, 4], [5]]);
  expect(data.features['tags']!.lookup!.vocabulary).toEqual({ words: ['y', 'x'], counts: [1, 1] });
  expect(bagsOf(batches[0]!, 'words')).toEqual([[1, 0], []]);
  expect(classes).toEqual({ city: ['Oslo', 'Rome'], tags: ['x', 'y'] });
  expect(batches[0]!.labelSets['tags']).toEqual({ values: Int32Array.of(0, 1), offsets: Int32Array.of(0, 2, 2) });
  expect(batches[0]!.numbers['n']!.data).toEqual(Float32Array.of(1.5, 7, -20, 7));
});
