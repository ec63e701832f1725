import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Batch } from './batch.ts';
import { cacheMemory, cacheUse, ExampleCache } from './cache.ts';
import type { Extracted } from './extract.ts';
import { openLoader, type Loader } from './loader.ts';
import type { DataSpec, LoaderOptions, Row } from './spec.ts';
import { collect, using } from './testing/batches.ts';
import { jsonLines, testFolder } from './testing/folder.ts';

const { path: folder } = testFolder();

const examples = 61;
/** A name may hold what is no UTF-16, which JSON can write. */
const rows: Row[] = Array.from({ length: examples }, (_, v) => ({
  name: v % 7 === 0 ? '' : `é ${v} \ud83d`,
  id: v,
  ids: Array.from({ length: v % 4 }, (_, k) => v + k),
  shares: Array.from({ length: v % 4 }, (_, k) => k + 0.5),
  text: `some text ${v}`,
  class: `c${v % 3}`,
  tags: v % 2 === 0 ? ['a', 'b'] : [],
  score: v / 3,
  price: v + 1,
  width: -v,
}));
const files = [0, 1, 2].map((i) => {
  const file = join(folder, `${i}.jsonl`);
  writeFileSync(file, jsonLines(rows.slice(20 * i, i === 2 ? examples : 20 * i + 20)));
  return file;
});

/** Everything that a batch can have. */
const data: DataSpec = {
  source: { file: files },
  features: {
    id: { table: 'items', column: 'id', pooling: 'sum' },
    ids: { table: 'items', column: 'ids', weights: 'shares' },
    words: { table: 'words', column: 'text', tokens: { vocabulary: {} }, weighting: { type: 'sif' } },
    each: { table: 'grams', column: 'text', ngrams: {}, pooling: 'none' },
  },
  negatives: { others: { of: 'id', count: 3, exclude: ['id', 'ids'] } },
  labels: {
    class: { column: 'class' },
    tags: { column: 'tags', type: 'classes' },
    score: { column: 'score', type: 'number' },
  },
  numbers: { sizes: { column: ['price', 'width'], normalize: 'measured' } },
  weight: { column: 'price' },
  id: { column: 'name' },
  tables: { items: { rows: 100 }, words: { rows: 100 }, grams: { rows: 1000 } },
};

function epochsOf(
  spec: DataSpec,
  options: Partial<LoaderOptions>,
  each: (loader: Loader) => void = () => undefined,
): Promise<Batch[][]> {
  return using(spec, { batchSize: 8, shuffle: true, seed: 3, ...options }, async (loader) => {
    const epochs: Batch[][] = [];
    for (let epoch = 0; epoch < 3; epoch++) {
      epochs.push(await collect(loader.batches(epoch)));
      each(loader);
    }
    return epochs;
  });
}

const large = 1 << 20;

describe('with a cache', () => {
  test('batches are the same for any number of workers, and nothing is read after the first epoch', async () => {
    const plain = await epochsOf(data, { workers: 0 });
    for (const workers of [0, 2]) {
      const read: number[] = [];
      const kept: number[] = [];
      const batches = await epochsOf(data, { workers, cacheBytes: large }, ({ statistics: { sizeBytes, cache } }) => {
        read.push(sizeBytes);
        kept.push(cache.examples);
        expect(cache.sizeBytes).toBeLessThan(large);
      });
      expect(batches).toEqual(plain);
      expect(kept).toEqual([examples, examples, examples]);
      expect(read).toEqual([read[0], read[0], read[0]]);
      expect(read[0]).toBeGreaterThan(0);
    }
  });

  test.each([244, 600, 2000, 6000])(
    'of %i bytes some examples are kept, and the others read again',
    async (cacheBytes) => {
      const plain = await epochsOf(data, { workers: 0 });
      const kept: number[] = [];
      const batches = await epochsOf(data, { workers: 0, cacheBytes }, ({ statistics: { cache } }) => {
        kept.push(cache.examples);
        expect(cache.sizeBytes).toBeLessThanOrEqual(cacheBytes);
      });
      expect(batches).toEqual(plain);
      expect(kept[0]).toBeLessThan(examples);
      if (cacheBytes >= 2000) expect(kept[0]).toBeGreaterThan(0);
    },
  );

  test('in file order, in a split, in shards', async () => {
    const spec: DataSpec = { ...data, split: { part: 0, parts: [1, 1], key: 'text' } };
    const all: Partial<LoaderOptions>[] = [{ shuffle: false }, { shard: { index: 1, count: 3 } }, { batchSize: 7 }];
    for (const options of all) {
      const plain = await epochsOf(spec, { ...options, workers: 0 });
      expect(await epochsOf(spec, { ...options, workers: 0, cacheBytes: large })).toEqual(plain);
    }
  });

  test('rows of an array are not sent again', async () => {
    let sent = 0;
    const counted = rows.map((row) => ({
      ...row,
      // Read as a row is copied for a worker.
      get class() {
        sent++;
        return row['class'];
      },
    }));
    const spec: DataSpec = { ...data, source: { rows: counted } };
    const plain = await epochsOf({ ...spec, source: { rows } }, { workers: 0 });
    const counts: number[] = [];
    const batches = await epochsOf(spec, { workers: 1, cacheBytes: large }, () => counts.push(sent));
    expect(batches).toEqual(plain);
    expect(counts[0]).toBeGreaterThan(0);
    expect(counts).toEqual([counts[0], counts[0], counts[0]]);
  });

  test('histories are kept as they are', async () => {
    const interactions = Array.from({ length: 90 }, (_, i) => ({ user: i % 7, item: (i * 5) % 31, at: i }));
    const spec: DataSpec = {
      source: { rows: interactions },
      features: {
        past: { table: 'items', column: 'history' },
        next: { table: 'items', column: 'target', pooling: 'sum' },
      },
      negatives: { others: { of: 'next', count: 2, exclude: ['seen'] } },
      labels: {},
      histories: { user: 'user', item: 'item', time: 'at', window: 4 },
      tables: { items: { rows: 31 } },
    };
    const plain = await epochsOf(spec, { workers: 0 });
    expect(await epochsOf(spec, { workers: 0, cacheBytes: large })).toEqual(plain);
  });

  test('a bad row is the same error in every epoch, and the good ones of its batch are not kept twice', async () => {
    const file = join(folder, 'bad.jsonl');
    writeFileSync(file, jsonLines([{ id: 1 }, { id: 2 }, { id: 'x' }, { id: 3 }]));
    const spec: DataSpec = {
      source: { file },
      features: { id: { table: 'items', column: 'id' } },
      labels: {},
      tables: { items: { rows: 9 } },
    };
    const loader = await openLoader(spec, { batchSize: 2, workers: 0, cacheBytes: large });
    for (const epoch of [0, 1]) {
      const sizes: number[] = [];
      const iterate = async (): Promise<void> => {
        for await (const { size } of loader.batches(epoch)) sizes.push(size);
      };
      await expect(iterate()).rejects.toThrow(`${file}, line 3, column "id": found "x"`);
      expect(sizes).toEqual([2]);
      expect(loader.statistics.cache.examples).toBe(2);
    }
    await loader.close();
  });

  test('is refused for what is iterated', async () => {
    const spec = { ...data, source: { rows: () => rows.values() }, negatives: {}, numbers: {}, labels: {} };
    const given = { ...spec, features: { id: data.features['id']! }, weight: undefined, id: undefined };
    await expect(openLoader(given, { batchSize: 8, cacheBytes: 1 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      details: { path: 'cacheBytes' },
    });
  });
});

test('an example that two threads read for two epochs at a time counts once', async () => {
  const memory = cacheMemory(4, 4, ['a.jsonl'], 1 << 12)!;
  const shapes = new Map([['x', { kind: 'cells', dtype: 'i32', width: 1 } as const]]);
  const [one, other] = [new ExampleCache(memory, shapes), new ExampleCache(memory, shapes)];
  const numbers = Uint32Array.of(2, 0, 3, 1);
  const found: Extracted = {
    places: { files: ['a.jsonl'], fileOf: null, unit: 'line', lines: Float64Array.of(3, 1, 4, 2) },
    columns: new Map([['x', { kind: 'cells', cells: Int32Array.of(30, 10, 40, 20), width: 1 }]]),
  };
  await one.read(numbers, async () => {
    await other.read(numbers.subarray(0, 3), async () => ({
      places: { ...found.places, lines: Float64Array.of(3, 1, 4) },
      columns: new Map([['x', { kind: 'cells', cells: Int32Array.of(30, 10, 40), width: 1 }]]),
    }));
    expect([cacheUse(memory).examples, one.complete]).toEqual([3, false]);
    return found;
  });
  expect([cacheUse(memory).examples, one.complete]).toEqual([4, true]);
  expect(await other.read(numbers, () => Promise.reject(new Error('read again')))).toEqual(found);
});
