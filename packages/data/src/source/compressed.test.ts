import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openLoader } from '../loader.ts';
import { visited } from '../testing/visited.ts';
import type { DataSpec } from '../spec.ts';
import { decompress } from './compressed.ts';

const folder = mkdtempSync(join(tmpdir(), 'finetable-'));
const temporary = mkdtempSync(join(tmpdir(), 'finetable-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
  rmSync(temporary, { recursive: true });
});
beforeEach(() => vi.stubEnv('TMPDIR', temporary));
afterEach(() => {
  vi.unstubAllEnvs();
  expect(readdirSync(temporary)).toEqual([]);
});

function write(name: string, content: string | Uint8Array): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  return file;
}

const spec = (file: string | string[]): DataSpec => ({
  source: { file },
  features: { id: { table: 'items', column: 'id' } },
  labels: {},
  tables: { items: { rows: 1000 } },
});
const rows = Array.from({ length: 500 }, (_, id) => ({ id, text: `é ${id}` }));
const jsonl = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const csv = `id,text\r\n${rows.map(({ id, text }) => `${id},"${text}\n"\r\n`).join('')}`;

async function idsOf(data: DataSpec, workers = 0): Promise<number[]> {
  const loader = await openLoader(data, { batchSize: 64, workers });
  try {
    expect(readdirSync(temporary)).toHaveLength(1);
    const ids: number[] = [];
    for await (const { plans } of loader.batches(0)) ids.push(...plans['items']!.placeRows);
    return ids;
  } finally {
    await loader.close();
  }
}

describe('gzip', () => {
  const parts = [jsonl.slice(0, 999), jsonl.slice(999)].map((part) => zlib.gzipSync(part));
  const members = write('members.jsonl.gz', Buffer.concat(parts));
  const zipped = write('Rows.CSV.GZ', zlib.gzipSync(csv));

  test.each([0, 2])('is read like any other file, and leaves nothing behind (workers %i)', async (workers) => {
    const all = rows.map(({ id }) => id);
    expect(await idsOf(spec(members), workers)).toEqual(all);
    expect(await idsOf(spec([zipped, zipped]), workers)).toEqual(all);
  });

  test('a sample of it', async () => {
    const { visit, rows: first } = await visited({ file: zipped }, { rows: 2 });
    expect(visit).toMatchObject({
      format: 'csv',
      columns: ['id', 'text'],
      unreadable: {},
      sizeBytes: Buffer.byteLength(csv),
      totalRows: 500,
      visitedRows: 2,
    });
    expect(first.map(({ file, line, values }) => [file, line, values])).toEqual([
      [zipped, 2, { id: '0', text: 'é 0\n' }],
      [zipped, 4, { id: '1', text: 'é 1\n' }],
    ]);
  });

  test.each([0, 1])('errors name the file as it was named (workers %i)', async (workers) => {
    const open = (file: string): Promise<unknown> => openLoader(spec(file), { batchSize: 1, workers });
    const bad = write('bad.jsonl.gz', zlib.gzipSync('{"id":1}\n{"id":'));
    await expect(idsOf(spec(bad), workers)).rejects.toThrow(`${bad}, line 2: not JSON: `);
    const cut = write('cut.jsonl.gz', parts[0]!.subarray(0, 100));
    await expect(open(cut)).rejects.toMatchObject({
      code: 'INVALID_FILE',
      message: `${cut}: cannot be decompressed: unexpected end of file`,
    });
    const plain = write('plain.jsonl.gz', jsonl);
    await expect(open(plain)).rejects.toMatchObject({
      code: 'INVALID_FILE',
      message: `${plain}: cannot be decompressed: incorrect header check`,
    });
    const absent = join(folder, 'absent.jsonl.gz');
    await expect(open(absent)).rejects.toMatchObject({ code: 'NOT_FOUND', message: `${absent}: no such file` });
  });

  test('a signal ends it', async () => {
    const large = write('large.jsonl.gz', zlib.gzipSync(jsonl.repeat(2000)));
    for (const workers of [0, 1]) {
      const stopping = new AbortController();
      const opening = openLoader(spec(large), { batchSize: 64, workers, signal: stopping.signal });
      const written = (): number =>
        readdirSync(temporary).reduce((sum, name) => sum + readdirSync(join(temporary, name)).length, 0);
      const watch = setInterval(() => {
        if (written() > 0) stopping.abort();
      }, 1);
      await expect(opening).rejects.toMatchObject({ code: 'INTERRUPTED' });
      clearInterval(watch);
      expect(readdirSync(temporary)).toEqual([]);
    }
  });

  test('a full disk is an error of ours', async (context) => {
    if (!statSync('/dev/full', { throwIfNoEntry: false })) context.skip('there is no /dev/full here');
    await expect(decompress(members, join(folder, 'absent', 'x'))).rejects.toMatchObject({ code: 'IO' });
    const link = join(folder, 'full');
    symlinkSync('/dev/full', link);
    await expect(decompress(members, link)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/members\.jsonl\.gz: what is in it cannot be written to .*full: ENOSPC: .*TMPDIR/),
    });
    expect(statSync(link, { throwIfNoEntry: false })).toBeUndefined();
  });
});

test('zstd, where this Node.js has it', async () => {
  const { zstdCompressSync } = zlib as { zstdCompressSync?: (text: string) => Uint8Array };
  const file = write('rows.jsonl.zst', zstdCompressSync ? zstdCompressSync(jsonl) : 'anything');
  if (zstdCompressSync) expect(await idsOf(spec(file))).toEqual(rows.map(({ id }) => id));
  else {
    await expect(idsOf(spec(file))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: `${file}: zstd needs Node.js 22.15 or later, and this is ${process.version}; or decompress the file beforehand, with zstd -d`,
    });
  }
});

test('events of a shop', async (context) => {
  const file = new URL('../../../../../shared/data/online-retail/events.csv.gz', import.meta.url).pathname;
  if (!statSync(file, { throwIfNoEntry: false })) context.skip('the data are not here');
  const text = zlib.gunzipSync(readFileSync(file)).toString();
  const { visit, rows: first } = await visited({ file }, { rows: 1 });
  const { totalRows, columns } = visit;
  expect(totalRows).toBe(text.trimEnd().split('\n').length - 1);
  expect(Object.keys(first[0]!.values)).toEqual(columns);
});
