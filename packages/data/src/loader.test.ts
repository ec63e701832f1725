import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LookupPlan } from '@finetable/core';
import { describe, expect, test } from 'vitest';
import type { Batch } from './batch.ts';
import { openLoader, type Loader } from './loader.ts';
import type { DataSpec, LoaderOptions, TokenizerSpec } from './spec.ts';
import { readTokenizer } from './tokenizer/tokenizer.ts';
import { collect, using as usingLoader } from './testing/batches.ts';
import { testFolder } from './testing/folder.ts';

const { path: folder, write } = testFolder();

/** Example v is on line 2v + 1 and holds v everywhere. */
const examples = 103;
const rowsFile = write(
  'rows.jsonl',
  Array.from({ length: examples }, (_, v) =>
    JSON.stringify({ id: v, pair: [v, v + 1], weights: [1, 3], text: `text ${v}`, class: `c${v % 3}` }),
  ).join('\n\n'),
);
const data: DataSpec = {
  source: { file: rowsFile },
  features: {
    pair: { table: 'items', column: 'pair', weights: 'weights', pooling: 'mean' },
    text: { table: 'grams', column: 'text', ngrams: {} },
    id: { table: 'items', column: 'id', pooling: 'sum' },
  },
  labels: { class: { column: 'class' } },
  tables: { items: { rows: examples + 1 }, grams: { rows: 5000 } },
};

const using = <T>(options: LoaderOptions, use: (loader: Loader) => Promise<T>, spec = data): Promise<T> =>
  usingLoader(spec, options, use);

const idsOf = (plan: LookupPlan, bag: number): number[] => [
  ...plan.placeRows.subarray(plan.offsets[bag], plan.offsets[bag + 1]),
];

const examplesOf = (batches: readonly Batch[]): number[] =>
  batches.flatMap((batch) => {
    const { firstBag, bags } = batch.features['id']!;
    return Array.from({ length: bags }, (_, i) => idsOf(batch.plans['items']!, firstBag + i)[0]!);
  });

describe('batches', () => {
  test('hold what the file holds, in file order', async () => {
    await using({ batchSize: 10 }, async (loader) => {
      expect([loader.examples, loader.batchesPerEpoch, loader.classes]).toEqual([
        103,
        11,
        { class: ['c0', 'c1', 'c2'] },
      ]);
      const batches = await collect(loader.batches(4));
      expect(examplesOf(batches)).toEqual(Array.from({ length: examples }, (_, v) => v));
      expect(batches.map(({ epoch, index, size }) => [epoch, index, size])).toEqual(
        Array.from({ length: 11 }, (_, i) => [4, i, i < 10 ? 10 : 3]),
      );
      const batch = batches[3]!;
      const items = batch.plans['items']!;
      expect(items.tableRows).toBe(104);
      expect(batch.features).toEqual({
        pair: { table: 'items', firstBag: 0, bags: 10 },
        text: { table: 'grams', firstBag: 0, bags: 10 },
        id: { table: 'items', firstBag: 10, bags: 10 },
      });
      for (let i = 0; i < 10; i++) {
        const v = 30 + i;
        expect(idsOf(items, i)).toEqual([v, v + 1]);
        expect([...items.weights!.subarray(items.offsets[i], items.offsets[i + 1])]).toEqual([0.25, 0.75]);
        expect(idsOf(items, 10 + i)).toEqual([v]);
        expect(items.weights![items.offsets[10 + i]!]).toBe(1);
        // "text 30": 7 code units have 5 + 4 + 3 n-grams.
        expect(idsOf(batch.plans['grams']!, i)).toHaveLength(12);
      }
      expect(batch.labels['class']).toEqual(Int32Array.from({ length: 10 }, (_, i) => (30 + i) % 3));
      expect(batch.lines).toEqual(Float64Array.from({ length: 10 }, (_, i) => 2 * (30 + i) + 1));
    });
  });

  test.each([false, true])('are the same for any number of workers (shuffle %s)', async (shuffle) => {
    const options = { batchSize: 4, shuffle, seed: 5 };
    const expected = await using({ ...options, workers: 0 }, (loader) => collect(loader.batches(1)));
    expect(examplesOf(expected).sort((a, b) => a - b)).toEqual(Array.from({ length: examples }, (_, v) => v));
    for (const more of [{ workers: 1 }, { workers: 2 }, { workers: 8 }, { workers: 2, prefetchBatches: 1 }]) {
      expect(await using({ ...options, ...more }, (loader) => collect(loader.batches(1)))).toEqual(expected);
    }
  });

  test.each([0, 2])('start from any position (workers %i)', async (workers) => {
    await using({ batchSize: 10, shuffle: true, workers }, async (loader) => {
      const all = await collect(loader.batches(2));
      for (let from = 0; from <= loader.batchesPerEpoch; from++) {
        expect(await collect(loader.batches(2, from))).toEqual(all.slice(from));
      }
    });
  });

  test.each([
    [0, false],
    [1, true],
    [3, true],
  ])('of several epochs are those of each (workers %i, shuffle %s)', async (workers, shuffle) => {
    await using({ batchSize: 10, shuffle, workers }, async (loader) => {
      const each = [
        await collect(loader.batches(2)),
        await collect(loader.batches(3)),
        await collect(loader.batches(4)),
      ];
      const all = each.flat();
      expect(all.map(({ epoch, index }) => [epoch, index])).toEqual(
        Array.from({ length: 33 }, (_, i) => [2 + Math.floor(i / 11), i % 11]),
      );
      for (const from of [0, 1, 10, 11]) expect(await collect(loader.batches(2, from, 3))).toEqual(all.slice(from));
    });
  });

  test('come in an order of the epoch and the seed', async () => {
    const order = (seed: number, epoch: number) =>
      using({ batchSize: 16, shuffle: true, seed }, async (loader) => examplesOf(await collect(loader.batches(epoch))));
    const first = await order(1, 0);
    expect(await order(1, 0)).toEqual(first);
    expect(await order(1, 1)).not.toEqual(first);
    expect(await order(2, 0)).not.toEqual(first);
  });

  test('by a tokenizer, on the calling thread and on workers', async () => {
    const tokenizer = fileURLToPath(new URL('../test/static/st-wordpiece/tokenizer.json', import.meta.url));
    const texts = ['the quick fox', '', 'qqqq fox', 'déjà vu'];
    const lines = texts.map((text) => `${JSON.stringify({ text })}\n`).join('');
    const reader = readTokenizer(tokenizer);
    const of = (tokens: Omit<TokenizerSpec, 'tokenizer'>, rows = reader.size): DataSpec => ({
      source: { file: write('texts.jsonl', lines) },
      features: { f: { table: 'words', column: 'text', tokens: { tokenizer, ...tokens } } },
      labels: {},
      tables: { words: { rows } },
    });
    const bags = (tokens: Omit<TokenizerSpec, 'tokenizer'>, workers: number): Promise<number[][]> =>
      using(
        { batchSize: 2, workers },
        async (loader) =>
          (await collect(loader.batches(0))).flatMap(({ plans }) => [0, 1].map((bag) => idsOf(plans['words']!, bag))),
        of(tokens),
      );
    const all = texts.map((text) => reader.encode(text));
    expect(all[2]).toContain(reader.unknownId);
    for (const workers of [0, 2]) {
      expect(await bags({ unknown: 'keep' }, workers)).toEqual(all);
      expect(await bags({}, workers)).toEqual(all.map((ids) => ids.filter((id) => id !== reader.unknownId)));
      expect(await bags({ unknown: 'keep', maxTokens: 2 }, workers)).toEqual(all.map((ids) => ids.slice(0, 2)));
      await expect(bags({ unknown: 'error' }, workers)).rejects.toMatchObject({
        code: 'INVALID_DATA',
        message: expect.stringMatching(
          /texts\.jsonl, line 3, column "text": "qqqq fox" has a token that is not in .*tokenizer\.json; leave/,
        ),
      });
    }
    await expect(openLoader(of({}, 3), { batchSize: 1 })).rejects.toMatchObject({
      code: 'INVALID_FILE',
      message: `${tokenizer}: has ids up to ${reader.size - 1}, but table "words" has 3 rows; a token's id is its row`,
    });
  });

  test('out of CSV, tokens and given classes', async () => {
    const spec: DataSpec = {
      source: { file: write('few.csv', 'text,ids,y\r\n"the ""cat""\r\nsat",3 1,no\r\nThe,,yes\r\n') },
      features: {
        words: { table: 'words', column: 'text', tokens: { vocabulary: write('words.txt', 'cat\nsat\nthe\n') } },
        ids: { table: 'items', column: 'ids' },
      },
      labels: { y: { column: 'y', classes: ['yes', 'no', 'maybe'] } },
      tables: { words: { rows: 3 }, items: { rows: 4 } },
    };
    await using(
      { batchSize: 8 },
      async (loader) => {
        expect(loader.classes).toEqual({ y: ['yes', 'no', 'maybe'] });
        const [batch] = await collect(loader.batches(0));
        expect([0, 1].map((bag) => idsOf(batch!.plans['words']!, bag))).toEqual([[2, 0, 1], [2]]);
        expect([0, 1].map((bag) => idsOf(batch!.plans['items']!, bag))).toEqual([[3, 1], []]);
        expect(batch!.labels['y']).toEqual(Int32Array.of(1, 0));
        expect(batch!.lines).toEqual(Float64Array.of(2, 4));
      },
      spec,
    );
  });

  test('own their memory: writing into one changes no other', async () => {
    await using({ batchSize: 10, workers: 0 }, async (loader) => {
      const expected = await collect(loader.batches(0));
      const again: Batch[] = [];
      for await (const batch of loader.batches(0)) {
        again.push(structuredClone(batch));
        for (const plan of Object.values(batch.plans)) {
          for (const array of Object.values(plan))
            if (ArrayBuffer.isView(array)) new Uint8Array(array.buffer).fill(255);
        }
        batch.labels['class']!.fill(-1);
        batch.lines.fill(-1);
      }
      expect(again).toEqual(expected);
    });
  });
});

describe('making ahead', () => {
  test.each([
    [1, 6, 3],
    [2, 6, 1],
    [2, 1, 1],
  ])('%i workers never hold more than %i batches, in tasks of %i', async (workers, prefetchBatches, taskBatches) => {
    await using({ batchSize: 2, workers, prefetchBatches }, async (loader) => {
      let consumed = 0;
      for await (const batch of loader.batches(0)) {
        consumed++;
        expect(batch.index).toBe(consumed - 1);
        // The workers come to rest where one more task would pass the bound, or at the epoch's end, and stay there.
        const rest = Math.min(prefetchBatches - taskBatches + 1, loader.batchesPerEpoch - consumed);
        while (loader.statistics.batches - consumed < rest) await setTimeout(1);
        const { readyBatches, busyTasks } = loader.statistics.queue;
        // One is in the consumer's hands.
        if (busyTasks === 0) expect(readyBatches).toBe(loader.statistics.batches - consumed);
        if (consumed % 10 === 0) await setTimeout(20);
        expect(loader.statistics.batches - consumed).toBeLessThanOrEqual(prefetchBatches);
      }
    });
  });

  test.each([1, 2])('batches of many bytes are made one task at a time (%i workers)', async (workers) => {
    const options = { batchSize: 2, workers, prefetchBatches: 6 };
    const expected = await using(options, async (loader) => collect(loader.batches(0)));
    for (const prefetchBytes of [1, 3000]) {
      await using({ ...options, prefetchBytes }, async (loader) => {
        const seen: Batch[] = [];
        for await (const batch of loader.batches(0)) {
          seen.push(batch);
          await setTimeout(1);
          // The first are made to know how large they are.
          if (seen.length > 6 && prefetchBytes === 1)
            expect(loader.statistics.batches - seen.length).toBeLessThanOrEqual(3);
        }
        expect(seen).toEqual(expected);
      });
    }
  });

  test('the next epoch is begun before it is asked for, within the same bound', async () => {
    await using({ batchSize: 2, workers: 2, prefetchBatches: 6, shuffle: true }, async (loader) => {
      const batches = loader.batches(0, loader.batchesPerEpoch - 1, 2);
      expect((await batches.next()).value).toMatchObject({ epoch: 0, index: loader.batchesPerEpoch - 1 });
      while (loader.statistics.batches < 1 + 6) await setTimeout(1);
      await setTimeout(20);
      expect(loader.statistics.batches).toBe(1 + 6);
      await batches.return!();
      const after = loader.statistics.batches;
      expect((await collect(loader.batches(0, loader.batchesPerEpoch - 2))).map(({ epoch }) => epoch)).toEqual([0, 0]);
      expect(loader.statistics.batches).toBe(after + 2);
    });
  });

  test('the calling thread makes a batch when it is asked for', async () => {
    await using({ batchSize: 2, workers: 0 }, async (loader) => {
      let consumed = 0;
      for await (const batch of loader.batches(0)) {
        expect(loader.statistics.batches).toBe(++consumed);
        await setTimeout(1);
        expect(loader.statistics.batches).toBe(batch.index + 1);
      }
    });
  });

  test('statistics add up', async () => {
    await using({ batchSize: 10, workers: 2 }, async (loader) => {
      await collect(loader.batches(0));
      await collect(loader.batches(1, 9));
      const { batches, examples, sizeBytes, workSeconds, waitSeconds, seconds, stages, queue } = loader.statistics;
      const { examplesPerSecond, bytesPerSecond } = loader.statistics;
      const { readSeconds, extractSeconds, planSeconds, handoverSeconds } = stages;
      expect([batches, examples]).toEqual([13, 116]);
      expect(queue).toEqual({ readyBatches: 0, busyTasks: 0 });
      expect(readSeconds + extractSeconds + planSeconds).toBeCloseTo(workSeconds, 6);
      expect(Math.min(readSeconds, extractSeconds, planSeconds, handoverSeconds)).toBeGreaterThan(0);
      expect(seconds).toBeGreaterThanOrEqual(waitSeconds);
      expect([examplesPerSecond, bytesPerSecond]).toEqual([examples / seconds, sizeBytes / seconds]);
      expect(sizeBytes).toBeGreaterThan(116 * 60);
      expect(workSeconds).toBeGreaterThan(0);
      expect(waitSeconds).toBeGreaterThan(0);
    });
  });
});

describe('one iteration at a time', () => {
  test.each([0, 2])('leaving early leaves nothing behind (workers %i)', async (workers) => {
    await using({ batchSize: 2, workers, prefetchBatches: 8 }, async (loader) => {
      const expected = await collect(loader.batches(0));
      for (let round = 1; round <= 20; round++) {
        const before = loader.statistics.batches;
        for await (const batch of loader.batches(0)) if (batch.index === 2) break;
        const after = loader.statistics.batches;
        expect(after - before).toBeLessThanOrEqual(3 + 8);
        if (round === 20) await setTimeout(50);
        expect(loader.statistics.batches).toBe(after);
      }
      expect(await collect(loader.batches(0))).toEqual(expected);
    });
  });

  test('an error of the consumer, too', async () => {
    await using({ batchSize: 2 }, async (loader) => {
      const consume = async (): Promise<void> => {
        for await (const batch of loader.batches(0)) if (batch.index === 3) throw new Error('of the consumer');
      };
      await expect(consume()).rejects.toThrow('of the consumer');
      expect(await collect(loader.batches(0, 50))).toHaveLength(2);
    });
  });

  test('a second one is refused, the first goes on', async () => {
    await using({ batchSize: 50 }, async (loader) => {
      const first = loader.batches(0);
      await first.next();
      await expect(loader.batches(0).next()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(await collect(first)).toHaveLength(2);
      expect(await collect(loader.batches(0))).toHaveLength(3);
    });
  });

  test.each([
    [-1, 0, 1, 'epoch: found -1; allowed: integers from 0'],
    [0.5, 0, 1, 'epoch: found 0.5; allowed: integers from 0'],
    [0, 4, 1, 'from: found 4; allowed: integers from 0 to 3'],
    [0, NaN, 1, 'from: found NaN; allowed: integers from 0 to 3'],
    [0, 0, 0, 'epochs: found 0; allowed: integers from 1'],
  ])('batches(%d, %d, %d) is refused', async (epoch, from, epochs, message) => {
    await using({ batchSize: 50 }, async (loader) => {
      expect(() => loader.batches(epoch, from, epochs)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', message }),
      );
    });
  });
});

describe('bad data', () => {
  const spec = (content: string, more: Partial<DataSpec> = {}): DataSpec => ({
    source: { file: write('bad.jsonl', content) },
    features: { id: { table: 'items', column: 'id' } },
    labels: {},
    tables: { items: { rows: 100 } },
    ...more,
  });

  test.each([0, 1, 2])(
    'comes after the batches before it, and leaves the loader usable (workers %i)',
    async (workers) => {
      const content = Array.from({ length: 60 }, (_, v) => `{"id":${v === 41 ? '"x"' : v}}\n`).join('');
      await using(
        { batchSize: 4, workers },
        async (loader) => {
          const seen: number[] = [];
          const consume = async (): Promise<void> => {
            for await (const batch of loader.batches(0)) seen.push(batch.index);
          };
          await expect(consume()).rejects.toMatchObject({
            name: 'FinetableError',
            code: 'INVALID_DATA',
            message: `${join(folder, 'bad.jsonl')}, line 42, column "id": found "x"; allowed: integers from 0 to 99, one or a list`,
            details: { file: join(folder, 'bad.jsonl'), line: 42, column: 'id', value: '"x"' },
          });
          expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
          expect((await collect(loader.batches(0, 11))).map(({ index }) => index)).toEqual([11, 12, 13, 14]);
        },
        spec(content),
      );
    },
  );

  test.each([0, 1])('is found at opening where it can be (workers %i)', async (workers) => {
    const options = { batchSize: 4, workers };
    const open = (more: Partial<DataSpec>) => openLoader(spec('{"id":1,"y":"a"}\n{"id":2,"y":null}\n', more), options);
    await expect(open({ labels: { y: { column: 'y' } } })).rejects.toMatchObject({
      code: 'INVALID_DATA',
      message: `${join(folder, 'bad.jsonl')}, line 2, column "y": found null; allowed: a text, a number, true or false`,
    });
    await expect(open({ source: { file: write('none.csv', '') } })).rejects.toMatchObject({ code: 'INVALID_DATA' });
    await expect(open({ source: { file: write('b.csv', 'a\n1\n') } })).rejects.toMatchObject({
      message: `${join(folder, 'b.csv')}, header: no column "id"; the columns there are: "a"`,
    });
    await expect(open({ source: { file: join(folder, 'absent.csv') } })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const tokens = { vocabulary: join(folder, 'absent.txt') };
    await expect(open({ features: { f: { table: 'items', column: 'y', tokens } } })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: `${tokens.vocabulary}: no such file`,
    });
    await expect(open({ tables: {} })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test.each([0, 1])('a class that training did not have is found at opening (workers %i)', async (workers) => {
    const training = await using({ batchSize: 1 }, async (loader) => loader.classes['y']!, {
      ...spec('{"id":1,"y":"cat"}\n{"id":1,"y":"dog"}\n'),
      labels: { y: { column: 'y' } },
    });
    const dogs = '{"id":1,"y":"dog"}\n'.repeat(2000);
    const open = (last: string) =>
      openLoader(
        { ...spec(dogs + last), labels: { y: { column: 'y', classes: training } } },
        { batchSize: 1, workers },
      );
    await expect(open('{"id":1,"y":"cow"}\n')).rejects.toMatchObject({
      code: 'INVALID_DATA',
      message: `${join(folder, 'bad.jsonl')}, line 2001, column "y": unknown class "cow"; the nearest of the 2 known: "cat", "dog"`,
      details: { line: 2001, column: 'y', value: 'cow' },
    });
    await expect(open('{"y":"dog"}\n')).rejects.toMatchObject({
      code: 'INVALID_DATA',
      message: `${join(folder, 'bad.jsonl')}, line 2001, column "id": no such column; the columns there are: "y"`,
    });
    const loader = await open('{"id":1,"y":"cat"}\n');
    expect([loader.examples, loader.classes]).toEqual([2001, { y: ['cat', 'dog'] }]);
    await loader.close();
  });

  test.each([0, 1])('a file that changes while it is read (workers %i)', async (workers) => {
    const changing = spec(Array.from({ length: 60 }, (_, v) => `{"id":${v}}\n`).join(''));
    await using(
      { batchSize: 4, workers },
      async (loader) => {
        await collect(loader.batches(0));
        appendFileSync(changing.source.file as string, '{"id":60}\n');
        await expect(collect(loader.batches(1))).rejects.toMatchObject({ code: 'INVALID_FILE' });
      },
      changing,
    );
  });
});
