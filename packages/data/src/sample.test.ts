import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { sampleSource } from './sample.ts';

const folder = mkdtempSync(join(tmpdir(), 'finetable-'));
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  return file;
}

test('CSV: columns of the header, values as text, lines, and the count of all', async () => {
  const content = '\uFEFFid,"a ""b"""\r\n\r\n1,"x\ny"\r\n2,\n3,z';
  const file = write('a.csv', content);
  expect(await sampleSource({ file }, { rows: 2 })).toEqual({
    format: 'csv',
    columns: ['id', 'a "b"'],
    unreadable: {},
    sizeBytes: Buffer.byteLength(content),
    totalRows: 3,
    rows: [
      { line: 3, values: { id: '1', 'a "b"': 'x\ny' } },
      { line: 5, values: { id: '2', 'a "b"': '' } },
    ],
  });
});

test('JSON Lines: columns of the rows looked at, values as they are', async () => {
  const file = write('a.txt', '{"b":[1],"a":null}\n\n{"__proto__":1,"a":"x"}\n{"c":1}\n');
  const sample = await sampleSource({ file, format: 'jsonl' }, { rows: 2 });
  expect(sample).toMatchObject({ format: 'jsonl', columns: ['b', 'a', '__proto__'], totalRows: 3 });
  expect(sample.rows.map(({ line, values }) => [line, JSON.stringify(values)])).toEqual([
    [1, '{"b":[1],"a":null}'],
    [3, '{"__proto__":1,"a":"x"}'],
  ]);
});

test('the first hundred, and no more is parsed than is given', async () => {
  const lines = Array.from({ length: 100 }, (_, v) => `{"v":${v}}`);
  const { rows, totalRows } = await sampleSource({ file: write('b.jsonl', `${lines.join('\n')}\nnot JSON\n`) });
  expect(rows.map(({ values }) => values['v'])).toEqual(lines.map((_, v) => v));
  expect(totalRows).toBe(101);
});

test('long rows are fewer', async () => {
  const file = write('long.jsonl', `${JSON.stringify({ text: 'x'.repeat(10 << 20) })}\n`.repeat(3));
  const { rows, totalRows } = await sampleSource({ file });
  expect([rows.length, totalRows]).toEqual([1, 3]);
});

test('refused', async () => {
  const file = write('bad.csv', 'a,b\n1,2\n3\n');
  await expect(sampleSource({ file })).rejects.toMatchObject({
    code: 'INVALID_DATA',
    message: `${file}, line 3: found 1 fields; allowed: 2, as in the header ("a", "b")`,
  });
  await expect(sampleSource({ file }, { rows: 0 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'rows: found 0; allowed: integers from 1 to 2147483647',
  });
  await expect(sampleSource({ file: join(folder, 'absent.csv') })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(sampleSource({ file: folder, format: 'csv' })).rejects.toMatchObject({ code: 'INVALID_FILE' });
});

test('a signal stops it, before it begins and between blocks', async () => {
  const file = write('signal.jsonl', '{"v":1}\n'.repeat(400_000)); // four blocks
  await expect(sampleSource({ file }, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const stop = new AbortController();
  const sample = sampleSource({ file }, { signal: stop.signal });
  stop.abort();
  await expect(sample).rejects.toMatchObject({ code: 'INTERRUPTED' });
});
