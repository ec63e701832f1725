import { parquetWriteBuffer } from 'hyparquet-writer';
import { describe, expect, test } from 'vitest';
import type { DataSpec, SourceSpec } from '../spec.ts';
import { batchesOf, idsOf } from '../testing/batches.ts';
import { testFolder } from '../testing/folder.ts';
import { hashText, modulo } from '../xxhash64.ts';

const { write } = testFolder();

/** Neighbours that a number of JavaScript makes one of. */
const large = [9007199254740992n, 9007199254740993n, 9007199254740995n, -9007199254740993n, 18n, 2n ** 63n - 1n];
const writeParquet = (name: string, columnData: Parameters<typeof parquetWriteBuffer>[0]['columnData']): string =>
  write(name, Buffer.from(parquetWriteBuffer({ columnData })));
const parquet = writeParquet('large.parquet', [{ name: 'key', data: large, type: 'INT64', nullable: false }]);
const csv = write('large.csv', `key\n${large.join('\n')}\n`);
const texts = write('texts.jsonl', large.map((key) => `{"key":"${key}"}\n`).join(''));
const numbers = write('numbers.jsonl', large.map((key) => `{"key":${key}}\n`).join(''));
const exact = [parquet, csv, texts];

const rows = 1 << 30;
const hashed = large.map((key) => {
  const hash = { high: 0, low: 0 };
  hashText(String(key), 0, hash);
  return modulo(hash, rows);
});
const words = large.map(String);
const spec = (source: SourceSpec, more: Partial<DataSpec>): DataSpec => ({
  source,
  features: {},
  labels: {},
  tables: { items: { rows } },
  ...more,
});
const feature = (more: object): Partial<DataSpec> => ({
  features: { key: { table: 'items', column: 'key', ...more } },
});
const refused = (file: string): unknown =>
  expect.objectContaining({
    code: 'INVALID_DATA',
    message: `${file}, line 1, column "key": found 9007199254740992; allowed: integers within 2^53, and larger ones as text`,
  });

describe('integers past 2^53 are exact, or refused', () => {
  test('hashes', async () => {
    for (const file of exact) expect(idsOf(await batchesOf(spec({ file }, feature({ hash: {} }))))).toEqual(hashed);
    await expect(batchesOf(spec({ file: numbers }, feature({ hash: {} })))).rejects.toEqual(refused(numbers));
  });

  test('lookups, also of vocabularies that are built', async () => {
    for (const file of exact) {
      const given = feature({ lookup: { vocabulary: { words }, unknown: 'error' } });
      expect(idsOf(await batchesOf(spec({ file }, given)))).toEqual([0, 1, 2, 3, 4, 5]);
      const built = idsOf(await batchesOf(spec({ file }, feature({ lookup: { vocabulary: {} } }))));
      expect(new Set(built).size).toBe(large.length);
    }
    const build = spec({ file: numbers }, feature({ lookup: { vocabulary: {} } }));
    await expect(batchesOf(build)).rejects.toEqual(refused(numbers));
  });

  test('labels and names of examples', async () => {
    const data = {
      ...feature({ hash: {} }),
      labels: { key: { column: 'key', classes: words } },
      id: { column: 'key' },
    };
    for (const file of exact) {
      const batches = await batchesOf(spec({ file }, data));
      expect(batches.flatMap(({ labels }) => [...labels['key']!])).toEqual([0, 1, 2, 3, 4, 5]);
      expect(batches.flatMap(({ ids }) => ids)).toEqual(words);
    }
    await expect(batchesOf(spec({ file: numbers }, { ...data, features: {} }))).rejects.toEqual(refused(numbers));
  });

  test('keys of splits: the same in every format', async () => {
    const split = { part: 0, parts: [1, 1], key: 'key' };
    const parts = await Promise.all(
      exact.map(async (file) =>
        (await batchesOf(spec({ file }, { split, id: { column: 'key' } }))).flatMap(({ ids }) => ids),
      ),
    );
    expect(parts).toEqual([parts[0], parts[0], parts[0]]);
    expect(parts[0]!.length).toBeGreaterThan(0);
    await expect(batchesOf(spec({ file: numbers }, { split }))).rejects.toEqual(refused(numbers));
  });

  test('users and items of histories', async () => {
    const data = writeParquet('events.parquet', [
      { name: 'user', data: [...large, ...large], type: 'INT64' },
      { name: 'item', data: [...large, ...large.toReversed()], type: 'INT64' },
      { name: 'at', data: Array.from({ length: 12 }, (_, i) => i), type: 'INT32' },
    ]);
    const batches = await batchesOf(
      spec(
        { file: data },
        {
          ...feature({ column: 'target', hash: {}, pooling: 'sum' }),
          histories: { user: 'user', item: 'item', time: 'at', window: 2 },
          id: { column: 'user' },
        },
      ),
      { batchSize: 6 },
    );
    const found = batches.flatMap(({ ids, features, plans }) => {
      const { firstBag } = features['key']!;
      const { offsets, placeRows } = plans['items']!;
      return ids!.map((user, i) => [user, placeRows[offsets[firstBag + i]!]]);
    });
    expect(new Map(found as [string, number][])).toEqual(new Map(words.map((user, i) => [user, hashed[5 - i]!])));
  });

  test('ids are refused, numbers are rounded', async () => {
    for (const file of [...exact.slice(0, 2), numbers])
      await expect(batchesOf(spec({ file }, feature({})))).rejects.toThrow(/found |id 9007199254740992/);
    const [batch] = await batchesOf(spec({ file: parquet }, { numbers: { key: { column: 'key' } } }), { batchSize: 6 });
    expect(batch!.numbers['key']!.data).toEqual(Float32Array.from(large, Number));
  });
});
