/** Several files, programs' rows, splits and shards: what comes of them, for any number of workers. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Batch } from './batch.ts';
import { openLoader } from './loader.ts';
import type { DataSpec, Row, SourceSpec } from './spec.ts';
import { jsonLines, testFolder } from './testing/folder.ts';
import { batchesOf, idsOf } from './testing/batches.ts';

const { path: folder } = testFolder();

const rows = (from: number, to: number): Row[] =>
  Array.from({ length: to - from }, (_, i) => ({ id: from + i, user: `u${(from + i) % 7}` }));
const spec = (source: SourceSpec, more: Partial<DataSpec> = {}): DataSpec => ({
  source,
  features: { id: { table: 'items', column: 'id' } },
  labels: {},
  tables: { items: { rows: 100 } },
  ...more,
});

describe('several files', () => {
  mkdirSync(join(folder, 'parts'));
  const files = [0, 1, 2].map((i) => {
    const file = join(folder, 'parts', `part-${i}.jsonl`);
    writeFileSync(file, jsonLines(rows(i * 10, i * 10 + 10)));
    return file;
  });

  test('by a list or a pattern, in order; each example says where it is from', async () => {
    for (const file of [files, [files[0]!, join(folder, 'parts', 'part-*.jsonl')], join(folder, 'parts', '*.jsonl')]) {
      const batches = await batchesOf(spec({ file }));
      expect(idsOf(batches)).toEqual(Array.from({ length: 30 }, (_, i) => i));
      expect(batches[2]).toMatchObject({ files: files.slice(0, 2), lines: Float64Array.of(9, 10, 1, 2) });
      expect(batches[2]!.fileOf).toEqual(Uint32Array.of(0, 0, 1, 1));
    }
  });

  test('shuffled as one, whatever the workers and the window', async () => {
    for (const shuffleWindow of [100, 8, 3]) {
      const one = await batchesOf(spec({ file: files }), { shuffle: true, seed: 1, shuffleWindow });
      expect(idsOf(one).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i));
      expect(await batchesOf(spec({ file: files }), { shuffle: true, seed: 1, shuffleWindow, workers: 2 })).toEqual(
        one,
      );
    }
  });

  test('a bad row names its own file', async () => {
    const bad = join(folder, 'bad.jsonl');
    writeFileSync(bad, '{"id":1}\n{"id":1000}\n');
    await expect(batchesOf(spec({ file: [files[0]!, bad] }))).rejects.toMatchObject({
      code: 'ID_OUT_OF_RANGE',
      message: expect.stringContaining(`${bad}, line 2`),
    });
    await expect(batchesOf(spec({ file: join(folder, 'none-*.jsonl') }))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(batchesOf(spec({ file: [files[0]!, 'other.csv'] }))).rejects.toThrow(/files of one format/);
  });
});

describe("a program's rows", () => {
  test.each([0, 2])('an array is as a file (workers %i)', async (workers) => {
    const labels = { user: { column: 'user' } };
    const data = spec({ rows: rows(0, 30) }, { labels });
    const file = join(folder, 'same.jsonl');
    writeFileSync(file, jsonLines(rows(0, 30)));
    const options = { workers, shuffle: true, seed: 4 };
    const [given, read] = [
      await batchesOf(data, options, { epochs: 2 }),
      await batchesOf(spec({ file }, { labels }), options, { epochs: 2 }),
    ];
    expect(given.map(({ plans, labels: found }) => [plans, found])).toEqual(
      read.map(({ plans, labels: found }) => [plans, found]),
    );
    expect(given[0]).toMatchObject({ files: ['rows'], unit: 'row' });
  });

  test.each([0, 2])(
    'what is iterated comes in batches, each epoch anew, from any batch on (workers %i)',
    async (workers) => {
      const epochs: number[] = [];
      const source: SourceSpec = {
        name: 'stream',
        rows: async function* (epoch) {
          epochs.push(epoch);
          for (const row of rows(0, 10 + epoch)) {
            await setTimeout(0);
            yield row;
          }
        },
      };
      const all = await batchesOf(spec(source), { workers }, { epochs: 2 });
      expect(all.map(({ epoch, index, size }) => [epoch, index, size])).toEqual([
        [0, 0, 4],
        [0, 1, 4],
        [0, 2, 2],
        [1, 0, 4],
        [1, 1, 4],
        [1, 2, 3],
      ]);
      expect(idsOf(all)).toEqual([
        ...Array.from({ length: 10 }, (_, i) => i),
        ...Array.from({ length: 11 }, (_, i) => i),
      ]);
      expect(epochs).toEqual([0, 1]);
      expect(await batchesOf(spec(source), { workers }, { epochs: 2, from: 2 })).toEqual(all.slice(2));
      const shuffled = await batchesOf(spec(source), { workers, shuffle: true, shuffleWindow: 8 }, { epochs: 2 });
      expect(idsOf(shuffled.slice(0, 2)).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
      expect(
        await batchesOf(spec(source), { workers, shuffle: true, shuffleWindow: 8 }, { epochs: 2, from: 1 }),
      ).toEqual(shuffled.slice(1));
    },
  );

  test.each([0, 2])(
    'one without end is left at any time; a stalled one ends by its signal (workers %i)',
    async (workers) => {
      let closed = 0;
      const endless = function* (): Generator<Row> {
        try {
          for (let i = 0; ; i++) yield { id: i % 100 };
        } finally {
          closed++;
        }
      };
      const loader = await openLoader(spec({ rows: endless }), { batchSize: 4, workers });
      expect(loader.batchesPerEpoch).toBe(Infinity);
      for await (const { index } of loader.batches(0)) if (index === 20) break;
      expect(closed).toBe(1);
      await loader.close();

      const stopping = new AbortController();
      const stalled = async function* (): AsyncGenerator<Row> {
        yield { id: 1 };
        await new Promise(() => undefined);
      };
      const waiting = batchesOf(spec({ rows: stalled }), { workers, signal: stopping.signal });
      await setTimeout(50);
      stopping.abort();
      await expect(waiting).rejects.toMatchObject({ code: 'INTERRUPTED' });
    },
  );

  test('refused: nothing, what cannot be looked through, what throws', async () => {
    await expect(batchesOf(spec({ rows: [] }))).rejects.toThrow('rows: no examples: the array is empty');
    await expect(batchesOf(spec({ rows: [{ id: 1 }, { di: 2 }] }))).rejects.toThrow(
      'rows, row 2, column "id": no such',
    );
    await expect(batchesOf(spec({ rows: [1 as unknown as Row] }))).rejects.toThrow(
      'rows, row 1: found 1; allowed: an object',
    );
    const once = rows(0, 4).values();
    await expect(batchesOf(spec({ rows: once }), {}, { epochs: 2 })).rejects.toThrow(
      /no examples in epoch 1; where an iterable/,
    );
    await expect(batchesOf(spec({ rows: once }, { labels: { y: { column: 'user' } } }))).rejects.toMatchObject({
      details: { path: 'labels.y.classes' },
    });
    const failing = function* (): Generator<Row> {
      yield { id: 1 };
      throw new Error('broken pipe');
    };
    await expect(batchesOf(spec({ rows: failing }))).rejects.toThrow('broken pipe');
  });
});

describe('a split', () => {
  const all = { rows: rows(0, 90) };

  test('parts are disjoint and make the whole; the same for any number of workers', async () => {
    const parts = [80, 10, 10];
    const found = await Promise.all(
      [0, 1, 2].map(async (part) => idsOf(await batchesOf(spec(all, { split: { part, parts } }), { workers: part }))),
    );
    expect(found.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: 90 }, (_, i) => i));
    expect(found[0]!.length).toBeGreaterThan(50);
    const others = idsOf(await batchesOf(spec(all, { split: { part: 1, parts, others: true } })));
    expect(others).toEqual([...found[0]!, ...found[2]!].sort((a, b) => a - b));
  });

  test('examples of a key stay together', async () => {
    const [one, other] = await Promise.all(
      [0, 1].map((part) => batchesOf(spec(all, { split: { part, parts: [1, 1], key: 'user', seed: 2 } }))),
    );
    const users = (batches: readonly Batch[]) => new Set(idsOf(batches).map((id) => id % 7));
    expect([...users(one!)].filter((user) => users(other!).has(user))).toEqual([]);
    expect(idsOf(one!).length + idsOf(other!).length).toBe(90);
  });
});

test('shards of a batch together are the batch', async () => {
  const data = spec({ rows: rows(0, 50) });
  const whole = await batchesOf(data, { shuffle: true, batchSize: 8 });
  const shards = await Promise.all(
    [0, 1, 2].map((index) => batchesOf(data, { shuffle: true, batchSize: 8, shard: { index, count: 3 } })),
  );
  whole.forEach((batch, i) => {
    expect(shards.flatMap((shard) => idsOf([shard[i]!]))).toEqual(idsOf([batch]));
  });
});
