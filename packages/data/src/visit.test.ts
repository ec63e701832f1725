import { join } from 'node:path';
import { expect, test } from 'vitest';
import { testFolder } from './testing/folder.ts';
import { visited } from './testing/visited.ts';

const { path: folder, write } = testFolder();

test('CSV: columns of the header, values as text, lines, and the count of all', async () => {
  const content = '\uFEFFid,"a ""b"""\r\n\r\n1,"x\ny"\r\n2,\n3,z';
  const file = write('a.csv', content);
  const { visit, rows } = await visited({ file }, { rows: 2 });
  const sizeBytes = Buffer.byteLength(content);
  expect(visit).toEqual({
    format: 'csv',
    columns: ['id', 'a "b"'],
    unreadable: {},
    sizeBytes,
    totalRows: 3,
    visitedRows: 2,
    shape: {
      ...{ examples: 3, sizeBytes, randomAccess: true, strided: false },
      largestBlock: { count: 1, examples: 3, sizeBytes: 0 },
    },
  });
  expect(rows).toEqual([
    { file, line: 3, unit: 'line', values: { id: '1', 'a "b"': 'x\ny' } },
    { file, line: 5, unit: 'line', values: { id: '2', 'a "b"': '' } },
  ]);
});

test('JSON Lines: whole records; or the wanted columns of those that have them', async () => {
  const file = write('a.txt', '{"b":[1],"a":null}\n\n{"__proto__":1,"a":"x"}\n{"c":1}\n');
  const { visit, rows } = await visited({ file, format: 'jsonl' }, { rows: 2 });
  expect(visit).toMatchObject({ format: 'jsonl', columns: null, totalRows: 3 });
  expect(rows.map(({ line, values }) => [line, JSON.stringify(values)])).toEqual([
    [1, '{"b":[1],"a":null}'],
    [3, '{"__proto__":1,"a":"x"}'],
  ]);
  const some = await visited({ file, format: 'jsonl' }, { columns: ['a', 'c'] });
  expect(some.rows.map(({ values }) => values)).toEqual([{ a: null }, { a: 'x' }, { c: 1 }]);
});

test('runs evenly spread, and rows that cannot be read one by one', async () => {
  const lines = Array.from({ length: 1000 }, (_, v) => (v === 3 ? 'not JSON' : `{"v":${v}}`));
  const file = write('b.jsonl', lines.join('\n'));
  const { visit, rows, problems } = await visited({ file }, { rows: 256 });
  expect(visit).toMatchObject({ totalRows: 1000, visitedRows: 256 });
  const looked = [0, 512].flatMap((first) => Array.from({ length: 128 }, (_, v) => first + v));
  expect(rows.map(({ values }) => values['v'])).toEqual(looked.filter((v) => v !== 3));
  expect(problems).toEqual([expect.stringContaining(`${file}, line 4: not JSON: `)]);
});

test('refused', async () => {
  const file = write('bad.csv', 'a,b\n1,2\n3\n');
  expect((await visited({ file })).problems).toEqual([
    `${file}, line 3: found 1 fields; allowed: 2, as in the header ("a", "b")`,
  ]);
  await expect(visited({ file }, { columns: ['c'] })).rejects.toMatchObject({ code: 'INVALID_DATA' });
  await expect(visited({ file }, { rows: 0 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'rows: found 0; allowed: integers from 1 to 2147483647',
  });
  await expect(visited({ file: join(folder, 'absent.csv') })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(visited({ file: folder, format: 'csv' })).rejects.toMatchObject({ code: 'INVALID_FILE' });
});

test('a signal stops it, before it begins and between blocks', async () => {
  const file = write('signal.jsonl', '{"v":1}\n'.repeat(400_000)); // four blocks
  await expect(visited({ file }, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const stop = new AbortController();
  const visit = visited({ file }, { signal: stop.signal });
  stop.abort();
  await expect(visit).rejects.toMatchObject({ code: 'INTERRUPTED' });
});
