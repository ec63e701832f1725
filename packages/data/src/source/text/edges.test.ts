/** What is unusual in text files, from the file to the ids of a batch. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openLoader } from '../../loader.ts';
import type { DataSpec, FileSource } from '../../spec.ts';
import { indexOf, scanFile, SourceReader } from '../source.ts';
import { testFolder } from '../../testing/folder.ts';

const { write } = testFolder();

async function columnsOf(file: string, columns: string[], source: Partial<FileSource> = {}) {
  const index = await scanFile(file, { file, ...source });
  const reader = new SourceReader(indexOf([index]), columns);
  try {
    const records = await reader.read(Uint32Array.from({ length: index.examples }, (_, i) => i));
    return columns.map((column) => records.columns.get(column));
  } finally {
    reader.close();
  }
}

async function idsOf(file: string, column = 'id'): Promise<number[]> {
  const data: DataSpec = {
    source: { file },
    features: { id: { table: 'items', column } },
    labels: {},
    tables: { items: { rows: 100 } },
  };
  const loader = await openLoader(data, { batchSize: 100, workers: 0 });
  try {
    const ids: number[] = [];
    for await (const { plans } of loader.batches(0)) ids.push(...plans['items']!.placeRows);
    return ids;
  } finally {
    await loader.close();
  }
}

describe('ids that are no ids', () => {
  test.each([
    ['9007199254740993', 'ID_OUT_OF_RANGE'],
    ['18446744073709551617', 'ID_OUT_OF_RANGE'],
    ['1e400', 'INVALID_DATA'],
    ['1e99', 'ID_OUT_OF_RANGE'],
    ['-9007199254740993', 'INVALID_DATA'],
    ['"7"', 'INVALID_DATA'],
    ['7.5', 'INVALID_DATA'],
    ['true', 'INVALID_DATA'],
    ['null', 'INVALID_DATA'],
    ['[[7]]', 'INVALID_DATA'],
  ])('%s in JSON Lines', async (text, code) => {
    const file = write('ids.jsonl', `{"id":1}\n{"id":${text}}\n`);
    const message = expect.stringContaining(`${file}, line 2, column "id": `) as string;
    await expect(idsOf(file)).rejects.toMatchObject({ code, message });
  });

  test.each(['9007199254740993', '1e400', '7.5', 'seven', '0x7', '1_000', '٣'])('%s in CSV', async (text) => {
    const file = write('ids.csv', `id\n1\n${text}\n`);
    await expect(idsOf(file)).rejects.toThrow(`${file}, line 3, column "id": `);
  });

  test('numbers however they are written are the same ids', async () => {
    const file = write('forms.jsonl', '{"id":7}\n{"id":7.0}\n{"id":0.7e1}\n{"id":[70e-1, 8]}\n{"id":-0}\n');
    expect(await idsOf(file)).toEqual([7, 7, 7, 7, 8, 0]);
    expect(await idsOf(write('forms.csv', 'id\n7\n 7.0 \n0.7e1\n"[70e-1, 8]"\n007\n'))).toEqual([7, 7, 7, 7, 8, 7]);
  });
});

describe('separated values', () => {
  const field = fc.string({ unit: fc.constantFrom('a', 'é', '😀', '"', ',', ';', '\t', '|', '\n', '\r\n', ' ', '\0') });

  test('any delimiter, with a header or names, line ends mixed', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 20 }),
        fc.constantFrom(',', ';', '\t', '|'),
        fc.boolean(),
        fc.infiniteStream(fc.constantFrom('\n', '\r\n', '\n\n', '\r\n\r\n')),
        async (rows, delimiter, headed, ends) => {
          const quoted = (text: string): string =>
            text.includes(delimiter) || /["\r\n]/.test(text) || text === '' ? `"${text.replaceAll('"', '""')}"` : text;
          const records = rows.map((row) => row.map(quoted).join(delimiter));
          if (headed) records.unshift(`one${delimiter}two`);
          const content = records.map((record) => record + ends.next().value!).join('');
          const file = write(delimiter === '\t' ? 'any.tsv' : 'any.csv', content);
          const source = {
            ...(headed ? {} : { columns: ['one', 'two'] }),
            ...(delimiter === ',' || delimiter === '\t' ? {} : { delimiter }),
          };
          expect(await columnsOf(file, ['two', 'one'], source)).toEqual([
            rows.map(([, two]) => two),
            rows.map(([one]) => one),
          ]);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('names that do not fit the fields', async () => {
    const file = write('names.csv', '1,2,3\n');
    await expect(columnsOf(file, ['a'], { columns: ['a', 'b'] })).rejects.toThrow(
      `${file}, line 1: found 3 fields; allowed: 2`,
    );
  });
});

test('mixed line ends in JSON Lines, and a lone carriage return in a text', async () => {
  const file = write('mixed.jsonl', '\uFEFF{"v":1}\r\n{"v":2}\n\r\n\n{"v":"a\\rb"}\r\n \t{"v":4} \r\n{"v":5}');
  expect(await columnsOf(file, ['v'])).toEqual([[1, 2, 'a\rb', 4, 5]]);
});

test('NUL bytes: text in CSV, an error in JSON', async () => {
  expect(await columnsOf(write('nul.csv', 'v\na\0b\n"\0"\n'), ['v'])).toEqual([['a\0b', '\0']]);
  const file = write('nul.jsonl', '{"v":"a\\u0000"}\n{"v":"\0"}\n');
  await expect(columnsOf(file, ['v'])).rejects.toThrow(`${file}, line 2: not JSON: `);
});

test.each(['jsonl', 'csv'])('a line of 50 MB between short ones (%s)', async (format) => {
  const long = 'é'.repeat(25e6);
  const content = format === 'jsonl' ? `{"v":"a"}\n{"v":"${long}"}\n{"v":"b"}\n` : `v\na\n"${long}"\nb\n`;
  const [values] = (await columnsOf(write(`long.${format}`, content), ['v'])) as string[][];
  expect(values!.map(({ length }) => length)).toEqual([1, 25e6, 1]);
  expect(values![1] === long).toBe(true);
});
