/** Parquet and Arrow files: what is read out of them, and in which order blocks are decoded. */
import { appendFileSync, copyFileSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tableFromArrays, tableToIPC } from '@uwdata/flechette';
import { isFinetableError } from '@finetable/core';
import fc from 'fast-check';
import { parquetWriteBuffer, type ColumnSource } from 'hyparquet-writer';
import { describe, expect, test } from 'vitest';
import { openLoader } from '../loader.ts';
import type { DataSpec, LoaderOptions } from '../spec.ts';
import { indexOf, scanFile, SourceReader } from './source.ts';
import { testFolder } from '../testing/folder.ts';
import { visited } from '../testing/visited.ts';
import { collect, idsOf, using } from '../testing/batches.ts';

const { path: folder } = testFolder();

function write(name: string, content: ArrayBuffer | Uint8Array): string {
  const file = join(folder, name);
  writeFileSync(file, content instanceof ArrayBuffer ? Buffer.from(content) : content);
  return file;
}

/** See tools/fixtures/columns.py. */
const fixtures = fileURLToPath(new URL('../../test/columns/', import.meta.url));
const fixtureRows = Array.from({ length: 30 }, (_, i) => ({
  id: i * 7,
  text: i % 5 === 0 ? null : `text é ${i}`,
  ids: i % 7 === 0 ? null : Array.from({ length: i % 4 }, (_v, j) => j),
  weights: new Array(i % 4).fill(0.5),
  small: i % 3,
  flag: i % 2 === 0,
  day: new Date(Date.UTC(2020, 0, 1 + i)).toISOString(),
  time: new Date(Date.UTC(2020, 0, 1 + i, 1, 2, 3, 456)).toISOString(),
  price: i / 4,
  kind: ['cat', 'dog', 'cow'][i % 3],
  pair: { a: i, b: [String(i)] },
  big: 2n ** 60n + BigInt(i),
}));
type FixtureRow = (typeof fixtureRows)[number];

describe.each(readdirSync(fixtures))('of pyarrow: %s', (name) => {
  const file = join(fixtures, name);

  test('every column of any rows', async () => {
    const index = await scanFile(file, { file });
    expect(index).toMatchObject({ examples: 30, randomAccess: false });
    expect([...index.blocks]).toEqual([0, 16, 30]);
    const columns = Object.keys(fixtureRows[0]!) as (keyof FixtureRow)[];
    const reader = new SourceReader(indexOf([index]), columns);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(29)), fc.constantFrom(null, 1, 2), async (rows, window) => {
        const records = await reader.read(Uint32Array.from(rows), window);
        expect(records).toMatchObject({ unit: 'row', values: 'json', files: [file] });
        expect([...records.lines]).toEqual(rows.map((row) => row + 1));
        for (const column of columns)
          expect(records.columns.get(column)).toEqual(rows.map((row) => fixtureRows[row]![column]));
      }),
      { numRuns: 20 },
    );
    reader.close();
  });

  test('a sample of it; a column that cannot be read by its type', async () => {
    const { visit, rows } = await visited({ file }, { rows: 20 });
    const { columns, totalRows, unreadable } = visit;
    expect(unreadable).toEqual({ raw: 'binary' });
    expect(columns).toEqual([...Object.keys(fixtureRows[0]!).slice(0, 11), 'raw', 'big']);
    expect(totalRows).toBe(30);
    expect(rows).toEqual(fixtureRows.slice(0, 20).map((values, i) => ({ file, line: i + 1, unit: 'row', values })));
    const index = await scanFile(file, { file });
    expect(() => new SourceReader(indexOf([index]), ['raw'])).toThrow(
      `${file}, column "raw": found binary; allowed: numbers, text, true or false, dates, and lists of them`,
    );
    expect(() => new SourceReader(indexOf([index]), ['no'])).toThrow(`${file}: no column "no"; the columns there are:`);
  });

  test('cut or changed anywhere it is refused, or read', async () => {
    const bytes = readFileSync(file);
    const broken = join(folder, name);
    const read = async (content: Uint8Array): Promise<void> => {
      writeFileSync(broken, content);
      try {
        await visited({ file: broken });
      } catch (error) {
        expect(isFinetableError(error), String((error as Error).stack)).toBe(true);
        expect((error as Error).message).toContain(broken);
      }
    };
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), (length) => read(bytes.subarray(0, length))),
      { numRuns: 20, seed: 1 },
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(255), async (at, byte) => {
        const changed = Uint8Array.from(bytes);
        changed[at] = byte;
        await read(changed);
      }),
      { numRuns: 60, seed: 1 },
    );
  });
});

const count = 1000;
const wide = 25;
const columnData: ColumnSource[] = [
  { name: 'id', data: BigInt64Array.from({ length: count }, (_, i) => BigInt(i)), type: 'INT64' },
  { name: 'label', data: Array.from({ length: count }, (_, i) => `c${i % 3}`), type: 'STRING' },
];
const parquet = write('some.parquet', parquetWriteBuffer({ columnData, rowGroupSize: wide }));
const arrow = write(
  'some.arrow',
  tableToIPC(
    tableFromArrays(
      { id: Array.from({ length: count }, (_, i) => i), label: Array.from({ length: count }, (_, i) => `c${i % 3}`) },
      { maxBatchRows: wide },
    ),
    { format: 'file' },
  )!,
);
const lines = Array.from({ length: count }, (_, i) => JSON.stringify({ id: i, label: `c${i % 3}` }));
const jsonl = write('some.jsonl', Buffer.from(lines.join('\n')));

const spec = (file: string | readonly string[], more: Partial<DataSpec> = {}): DataSpec => ({
  source: { file },
  features: { id: { table: 'items', column: 'id' } },
  labels: { label: { column: 'label' } },
  tables: { items: { rows: count } },
  ...more,
});

const batchesOf = (data: DataSpec, options: Partial<LoaderOptions>, from = 0) =>
  using(data, { batchSize: 10, workers: 0, ...options }, async (loader) => {
    const batches = await collect(loader.batches(0, from, 2));
    return { batches, sizeBytes: loader.statistics.sizeBytes };
  });

describe.each([
  {
    file: parquet,
    cases: [
      { shuffleWindow: undefined, workers: 2 },
      { shuffleWindow: 100, workers: 8 },
    ],
  },
  {
    file: arrow,
    cases: [
      { shuffleWindow: 77, workers: 2 },
      { shuffleWindow: 1, workers: 1 },
    ],
  },
])('a loader of $file', ({ file, cases }) => {
  test('in its order is as of JSON Lines', async () => {
    const [one, other] = [await batchesOf(spec(file), {}), await batchesOf(spec(jsonl), {})];
    expect(one.batches.map(({ plans, labels }) => [plans, labels])).toEqual(
      other.batches.map(({ plans, labels }) => [plans, labels]),
    );
    expect(one.batches[3]).toMatchObject({ unit: 'row', files: [file] });
    expect([...one.batches[3]!.lines]).toEqual(Array.from({ length: 10 }, (_, i) => 31 + i));
  });

  test.each(cases)('the same batches for any workers: %j', async ({ shuffleWindow, workers }) => {
    const options = { shuffle: true, seed: 3, shuffleWindow };
    const { batches } = await batchesOf(spec(file), options);
    expect(idsOf(batches.slice(0, 100)).toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
    expect(idsOf(batches.slice(0, 100))).not.toEqual(idsOf(batches.slice(100)));
    expect((await batchesOf(spec(file), { ...options, workers })).batches).toEqual(batches);
    expect((await batchesOf(spec(file), { ...options, workers: 1, prefetchBatches: 3 }, 37)).batches).toEqual(
      batches.slice(37),
    );
  });

  test('reads a block once, or once for each window that it reaches into', async () => {
    const all = { shuffle: true, shuffleWindow: 100 };
    const { sizeBytes } = await batchesOf(spec(file), { workers: 0, shuffleWindow: 100 });
    expect((await batchesOf(spec(file), { workers: 1, shuffleWindow: 100 })).sizeBytes).toBe(sizeBytes);
    expect((await batchesOf(spec(file), { ...all, workers: 0 })).sizeBytes / sizeBytes).toBeLessThan(1.05);
    // Windows of 100 are of 5 blocks of 25 at most; two threads take turns.
    expect((await batchesOf(spec(file), { ...all, workers: 2 })).sizeBytes / sizeBytes).toBeLessThan(1.3);
  });

  test('several files, shuffled as one, and a split', async () => {
    const copy = join(folder, `copy-${file.split('.').at(-1)!}.${file.split('.').at(-1)!}`);
    copyFileSync(file, copy);
    const split = { part: 0, parts: [1, 1] };
    for (const shuffleWindow of [5000, 300]) {
      const one = await batchesOf(spec([file, copy], { split }), { shuffle: true, shuffleWindow });
      const half = one.batches.length / 2;
      const examples = one.batches
        .slice(0, half)
        .flatMap(({ files, fileOf, lines: numbers }) => [...numbers].map((n, i) => `${files[fileOf![i]!]!} ${n}`));
      expect(new Set(examples).size).toBe(examples.length);
      expect(examples.length).toBeGreaterThan(900);
      expect(
        await batchesOf(spec([file, copy], { split }), { shuffle: true, shuffleWindow, workers: 1 }),
      ).toMatchObject({
        batches: one.batches,
      });
    }
  });

  test('a file that changes while it is read', async () => {
    const changing = join(folder, `changing.${file.split('.').at(-1)!}`);
    copyFileSync(file, changing);
    const loader = await openLoader(spec(changing), { batchSize: 10, workers: 0 });
    const iteration = loader.batches(0);
    await iteration.next();
    appendFileSync(changing, ' ');
    const rest = async (): Promise<void> => {
      for await (const batch of iteration) expect(batch.size).toBe(10);
    };
    await expect(rest()).rejects.toMatchObject({ code: 'INVALID_FILE', message: expect.stringContaining('changed') });
    await loader.close();
  });
});

describe('integers past 2^53', () => {
  const big = write(
    'big.parquet',
    parquetWriteBuffer({
      columnData: [{ name: 'id', data: [1n, 2n ** 53n + 1n], type: 'INT64' }],
    }),
  );

  test('are no ids, and are never rounded', async () => {
    await expect(batchesOf(spec(big, { labels: {} }), { batchSize: 2 })).rejects.toMatchObject({
      code: 'INVALID_DATA',
      message: `${big}, row 2, column "id": found 9007199254740993; allowed: integers from 0 to 999, one or a list`,
    });
  });
});

test('refused: no rows, other content', async () => {
  const none = write('none.parquet', parquetWriteBuffer({ columnData: [{ name: 'id', data: [], type: 'INT64' }] }));
  await expect(visited({ file: none })).rejects.toMatchObject({
    code: 'INVALID_DATA',
    message: `${none}: no examples: it has columns and no rows`,
  });
  for (const name of ['text.parquet', 'text.arrow', 'text.feather']) {
    const text = write(name, Buffer.from('{"id":1}\n'.repeat(10)));
    await expect(visited({ file: text })).rejects.toMatchObject({ code: 'INVALID_FILE' });
    const empty = write(`empty-${name}`, Buffer.from(''));
    await expect(visited({ file: empty })).rejects.toMatchObject({ code: 'INVALID_FILE' });
  }
  await expect(visited({ file: join(folder, 'absent.parquet') })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('a reader that is closed before it knows the format opens no file any more', async () => {
  const file = join(fixtures, 'none.parquet');
  const reader = new SourceReader(indexOf([await scanFile(file, { file })]), ['id']);
  const reading = reader.read(Uint32Array.of(0, 1));
  reader.close();
  await expect(reading).rejects.toThrow('closed while it was read');
});
