import { appendFileSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkColumns } from '../missing.ts';
import { SourceReader, indexOf, type SourceFormat } from '../source.ts';
import { scanTextFile, type ScanOptions } from './scan.ts';
import { testFolder } from '../../testing/folder.ts';

const { path: folder, write } = testFolder();

async function readAll(
  file: string,
  format: SourceFormat,
  columns: readonly string[],
  options: ScanOptions & { keep?: boolean } = {},
) {
  const index = await scanTextFile(file, format, options);
  const reader = new SourceReader(indexOf([index]), columns, options.keep);
  try {
    const records = await reader.read(Uint32Array.from({ length: index.examples }, (_, i) => i));
    checkColumns(records, columns);
    const { lines, columns: values } = records;
    return { lines: [...lines], values: Object.fromEntries(values) };
  } finally {
    reader.close();
  }
}

const text = fc.string({ unit: fc.constantFrom('a', 'é', '😀', '漢', '"', '\\', ',', '\n', '\r\n', ' ', '\0') });
const lineEnd = fc.constantFrom('\n', '\r\n');
const bom = fc.constantFrom('', '\uFEFF');
const indexing = fc.record({
  blockBytes: fc.integer({ min: 1, max: 40 }),
  mostPlaces: fc.constantFrom(1, 2, 3, 1000),
  keep: fc.boolean(),
});

describe('any file is read back, whatever the blocks', () => {
  test('JSON Lines', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ text, blanks: fc.array(fc.constantFrom('', ' ', '\t'), { maxLength: 2 }) }), {
          minLength: 1,
        }),
        lineEnd,
        bom,
        fc.boolean(),
        indexing,
        async (records, end, mark, finalEnd, options) => {
          const lines: string[] = [];
          const expected = records.map((record) => {
            lines.push(...record.blanks, JSON.stringify({ text: record.text }));
            return lines.length;
          });
          const file = write('any.jsonl', mark + lines.join(end) + (finalEnd ? end : ''));
          expect(await readAll(file, 'jsonl', ['text'], options)).toEqual({
            lines: expected,
            values: { text: records.map((record) => record.text) },
          });
        },
      ),
      { numRuns: 100 },
    );
  });

  test('CSV', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ a: text, b: text, quote: fc.boolean(), blanks: fc.nat(2) }), { minLength: 1 }),
        lineEnd,
        bom,
        fc.boolean(),
        indexing,
        async (records, end, mark, finalEnd, options) => {
          const write1 = (field: string, quote: boolean): string =>
            quote || /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
          let content = `${mark}a,b`;
          const expected = records.map(({ a, b, quote, blanks }) => {
            content += end.repeat(blanks + 1);
            const line = content.split('\n').length;
            content += `${write1(a, quote)},${write1(b, !quote)}`;
            return line;
          });
          const file = write('any.csv', content + (finalEnd ? end : ''));
          expect(await readAll(file, 'csv', ['b', 'a'], options)).toEqual({
            lines: expected,
            values: { b: records.map(({ b }) => b), a: records.map(({ a }) => a) },
          });
        },
      ),
      { numRuns: 100 },
    );
  });
});

test('rows come in the order asked for, from anywhere', async () => {
  const file = write('order.jsonl', Array.from({ length: 50 }, (_, v) => `{"v":${v}}\n`).join(''));
  for (const mostPlaces of [1000, 7]) {
    const index = await scanTextFile(file, 'jsonl', { mostPlaces });
    expect(index.text.stride).toBe(mostPlaces === 7 ? 8 : 1);
    const reader = new SourceReader(indexOf([index]), ['v']);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(49)), async (rows) => {
        const records = await reader.read(Uint32Array.from(rows));
        expect(records.columns.get('v')).toEqual(rows);
        expect([...records.lines]).toEqual(rows.map((row) => row + 1));
        // Of a window blocks are kept.
        const { columns, lines } = await reader.read(Uint32Array.from(rows), rows.length % 3);
        expect([columns, lines]).toEqual([records.columns, records.lines]);
        if (mostPlaces === 1000) expect(records.sizeBytes).toBe(rows.reduce((sum, row) => sum + (row < 10 ? 8 : 9), 0));
      }),
    );
    reader.close();
  }
});

test('a line of 5 MB, and more neighbours than fit one read', async () => {
  const texts = Array.from({ length: 3 }, (_, i) => String(i).repeat(5e6));
  const file = write('long.jsonl', texts.map((long) => JSON.stringify({ text: long })).join('\n'));
  const { values } = await readAll(file, 'jsonl', ['text']);
  expect((values['text'] as string[]).map((long, i) => long === texts[i])).toEqual([true, true, true]);
});

test('the index says where records lie', async () => {
  const file = write('where.csv', '\uFEFFa,b\r\n\r\n1,"x\ny"\r\n2,z');
  const index = await scanTextFile(file, 'csv');
  expect(index).toMatchObject({ format: 'csv', columns: ['a', 'b'], examples: 2, sizeBytes: 22 });
  expect([...index.text.starts]).toEqual([10, 19, 22]);
  expect([...index.text.lines]).toEqual([3, 5]);
  expect([...index.blocks]).toEqual([0, 2]);
  expect(index.text.starts.buffer).toBeInstanceOf(SharedArrayBuffer);
});

describe('refused, with the place', () => {
  test.each([
    ['empty.jsonl', '', ': no examples: the file is empty'],
    ['blank.jsonl', ' \n\r\n', ': no examples: blank lines only'],
    ['header.csv', 'a,b\r\n', ': no examples: a header and no records'],
    ['cut.csv', 'v\n1\n"2\n3\n', ', line 3: a quote is opened in this record and never closed'],
    ['list.jsonl', '{"v":1}\n[1]\n', ', line 2: found [1]; allowed: a JSON object, such as {"text": "..."}'],
    ['null.jsonl', 'null', ', line 1: found null; allowed: a JSON object, such as {"text": "..."}'],
    ['nan.jsonl', '{"v":1}\n\n{"v":NaN}', ', line 3: not JSON: '],
    ['nul.jsonl', '{"v":"\0"}', ', line 1: not JSON: '],
    [
      'missing.jsonl',
      '{"v":1}\n{"u":1,"w":2}',
      ', line 2, column "v": no such column; the columns there are: "u", "w"',
    ],
    ['none.jsonl', '{}', ', line 1, column "v": no such column; the columns there are: none'],
    ['missing.csv', 'u,w\n1,2', ', header: no column "v"; the columns there are: "u", "w"'],
    ['ragged.csv', 'u,v\n1,2\n3\n', ', line 3: found 1 fields; allowed: 2, as in the header ("u", "v")'],
    [
      'bytes.jsonl',
      Buffer.from('{"v":"é"}\n{"v":"é"}\n', 'latin1'),
      ', line 1: not UTF-8; convert the file, for example with iconv',
    ],
    [
      'bytes.csv',
      Buffer.from('v\na\n\u00e9', 'latin1'),
      ', line 3: not UTF-8; convert the file, for example with iconv',
    ],
    [
      'header-bytes.csv',
      Buffer.from('\u00e9\na\n', 'latin1'),
      ', line 1: not UTF-8; convert the file, for example with iconv',
    ],
  ])('%s', async (name, content, message) => {
    const file = write(name, content);
    const failure = await readAll(file, name.endsWith('.csv') ? 'csv' : 'jsonl', ['v']).catch(
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ code: 'INVALID_DATA', details: { file } });
    expect((failure as Error).message).toContain(`${file}${message}`);
  });

  test('no file, a folder', async () => {
    const file = join(folder, 'absent.jsonl');
    await expect(scanTextFile(file, 'jsonl')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: `${file}: no such file`,
    });
    await expect(scanTextFile(folder, 'jsonl')).rejects.toMatchObject({ code: 'INVALID_FILE' });
  });

  test('a member that every object inherits is not a column', async () => {
    const file = write('inherited.jsonl', '{"v":1}');
    await expect(readAll(file, 'jsonl', ['constructor'])).rejects.toMatchObject({ code: 'INVALID_DATA' });
    expect((await readAll(write('own.jsonl', '{"__proto__":1}'), 'jsonl', ['__proto__'])).lines).toEqual([1]);
  });

  test.each([
    ['grown', (file: string) => appendFileSync(file, '{"v":2}\n')],
    ['touched', (file: string) => utimesSync(file, 1, 1)],
  ])('a file that was %s after the index pass', async (name, change) => {
    const file = write(`${name}.jsonl`, '{"v":1}\n');
    const reader = new SourceReader(indexOf([await scanTextFile(file, 'jsonl')]), ['v']);
    expect((await reader.read(Uint32Array.of(0))).columns.get('v')).toEqual([1]);
    change(file);
    await expect(reader.read(Uint32Array.of(0))).rejects.toMatchObject({
      code: 'INVALID_FILE',
      message: `${file}: changed since it was indexed (size or modification time); open the loader again`,
    });
    reader.close();
  });
});
