/** A loader that is restored goes on with exactly the next batch. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Batch } from './batch.ts';
import type { LoaderPosition } from './position.ts';
import type { DataSpec, LoaderOptions, SourceSpec } from './spec.ts';
import { using } from './testing/batches.ts';
import { testFolder } from './testing/folder.ts';

const { path: folder } = testFolder();

const examples = 22;
const rows = Array.from({ length: examples }, (_, id) => ({ id }));

function files(name: string, parts: readonly number[]): SourceSpec {
  let id = 0;
  const file = parts.map((count, i) => {
    const path = join(folder, `${name}-${i}.jsonl`);
    // Long lines, so that a file has several blocks.
    const lines = Array.from({ length: count }, () => `{"id":${id++},"pad":"${'x'.repeat(300_000)}"}\n`);
    writeFileSync(path, lines.join(''));
    return path;
  });
  return { file };
}

function dataOf(source: SourceSpec, split?: DataSpec['split']): DataSpec {
  const features = { id: { table: 't', column: 'id' } };
  return { source, features, labels: {}, tables: { t: { rows: examples } }, ...(split && { split }) };
}

const sources: Readonly<Record<string, () => SourceSpec>> = {
  file: () => files('one', [examples]),
  files: () => files('some', [9, 1, 12]),
  array: () => ({ rows }),
  iterable: () => ({ rows: rows.values.bind(rows) }),
};
const orders: Readonly<Record<string, LoaderOptions>> = {
  'in order': { batchSize: 3 },
  shuffled: { batchSize: 3, shuffle: true, seed: 5 },
  'shuffled by windows': { batchSize: 3, shuffle: true, seed: 5, shuffleWindow: 7 },
  sharded: { batchSize: 3, shuffle: true, shard: { index: 1, count: 2 } },
};

const plain = ({ epoch, index, plans, lines }: Batch): unknown => ({ epoch, index, plans, lines });

const cases = Object.keys(sources).flatMap((source) => Object.keys(orders).map((order) => [source, order] as const));

test.each(cases)('%s, %s: from every batch of two epochs on, with other workers', async (source, order) => {
  const [data, options] = [dataOf(sources[source]!()), orders[order]!];
  const positions: string[] = [];
  const expected = await using(data, { ...options, workers: 0 }, async (loader) => {
    const made: unknown[] = [];
    positions.push(JSON.stringify(loader.position));
    for await (const batch of loader.batches(0, 0, 2)) {
      made.push(plain(batch));
      positions.push(JSON.stringify(loader.position));
    }
    return made;
  });
  expect(expected).toHaveLength(2 * Math.ceil(examples / 3));
  await using(data, { ...options, workers: 2, prefetchBatches: 4 }, async (loader) => {
    for (const [i, position] of positions.entries()) {
      const restored = JSON.parse(position) as LoaderPosition;
      const made: unknown[] = [];
      for await (const batch of loader.batchesFrom(restored, 2)) made.push(plain(batch));
      expect(made).toEqual(expected.slice(i));
    }
  });
});

describe('a position', () => {
  const data = dataOf({ rows });
  const options: LoaderOptions = { batchSize: 3, workers: 0, shuffle: true };

  test('is where the iteration is, and ends at the next epoch', async () => {
    await using(data, options, async (loader) => {
      const batches = loader.batches(3, 6);
      expect(loader.position).toMatchObject({ epoch: 0, batch: 0 });
      await batches.next();
      expect(loader.position).toMatchObject({ epoch: 3, batch: 7 });
      await batches.next();
      expect(loader.position).toMatchObject({ epoch: 4, batch: 0 });
      expect((await batches.next()).done).toBe(true);
      // By default the rest of its epoch, and nothing where training has reached its end.
      const seen: number[] = [];
      for await (const { epoch } of loader.batchesFrom(loader.position)) seen.push(epoch);
      expect(seen).toEqual(Array.from({ length: 8 }, () => 4));
      for await (const { epoch } of loader.batchesFrom(loader.position, 5)) seen.push(epoch);
      expect(seen).toHaveLength(8);
    });
  });

  const split = { part: 0, parts: [1, 1] };
  const changes: readonly (readonly [string, DataSpec, LoaderOptions, string])[] = [
    ['more examples', dataOf({ rows: [...rows, { id: 3 }] }), options, 'examples was 22, now it is 23'],
    ['another batch size', data, { ...options, batchSize: 4 }, 'batchSize was 3, now it is 4'],
    ['another seed', data, { ...options, seed: 1 }, 'seed was 0, now it is 1'],
    ['another order', data, { ...options, shuffle: false }, 'shuffle was true, now it is false'],
    ['another window', data, { ...options, shuffleWindow: 5 }, 'shuffleWindow was 22, now it is 5'],
    ['a shard', data, { ...options, shard: { index: 0, count: 2 } }, 'shard was none, now it is 0 of 2'],
    ['a part', dataOf({ rows }, split), options, 'examples was 22, now it is '],
  ];
  test.each(changes)('of other batches is refused: %s', async (_, other, changed, message) => {
    const position = await using(data, options, (loader) => Promise.resolve(loader.position));
    await using(other, changed, async (loader) => {
      const refusal = expect.objectContaining({
        code: 'MISMATCH',
        message: expect.stringContaining(message) as string,
      });
      expect(() => loader.batchesFrom(position)).toThrow(refusal as Error);
    });
  });

  test('of the other part of a split is refused, however the split is written', async () => {
    const inOrder = { ...options, shuffle: false };
    const position = await using(dataOf({ rows }, split), inOrder, (loader) => Promise.resolve(loader.position));
    await using(dataOf({ rows }, { ...split, part: 1 }), inOrder, async (loader) => {
      expect(() => loader.batchesFrom({ ...position, data: { ...position.data, examples: loader.examples } })).toThrow(
        'split was ',
      );
    });
    await using(dataOf({ rows }, { seed: undefined, parts: [1, 1], part: 0 }), inOrder, async (loader) => {
      expect((await loader.batchesFrom(position).next()).value).toMatchObject({ epoch: 0, index: 0 });
    });
  });

  test.each([
    { epoch: -1, batch: 0 },
    { epoch: 0, batch: 9 },
    { epoch: 0, batch: 0.5 },
    { epoch: '1', batch: 0 },
  ])('that is none is refused: %j', async (place) => {
    await using(data, options, async (loader) => {
      const position = { ...loader.position, ...place } as LoaderPosition;
      expect(() => loader.batchesFrom(position)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error,
      );
    });
  });
});
