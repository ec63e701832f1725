import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { writeFileAtomic } from '../atomic.ts';
import { openSafetensors, readTensorF32 } from '../safetensors/model.ts';
import { writeSafetensors } from '../safetensors/write.ts';
import { readWordVectors, type WordVectorsOptions } from './read.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  path = join(folder, 'vectors');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function read(content: string | Uint8Array, options?: WordVectorsOptions) {
  await writeFile(path, content);
  const { format, dim, rows, blocks } = await readWordVectors(path, options);
  const words: string[] = [];
  const values: number[] = [];
  for await (const block of blocks()) {
    expect(block.values.length).toBe(block.words.length * dim);
    for (const word of block.words) words.push(word);
    for (const value of block.values) values.push(value);
  }
  return { format, dim, rows, words, values };
}

/** word2vec binary; `separator` follows each vector. */
function binary(
  words: readonly string[],
  values: Float32Array,
  dim: number,
  separator: string,
  rows = words.length,
): Buffer {
  const parts = [Buffer.from(`${rows} ${dim}\n`)];
  words.forEach((word, i) => {
    parts.push(
      Buffer.from(`${word} `),
      Buffer.from(values.slice(i * dim, (i + 1) * dim).buffer),
      Buffer.from(separator),
    );
  });
  return Buffer.concat(parts);
}

test('GloVe text', async () => {
  expect(await read('the 0.5 -1\nof 2e-1 +3\n')).toEqual({
    format: 'text',
    dim: 2,
    rows: null,
    words: ['the', 'of'],
    values: [0.5, -1, Math.fround(0.2), 3],
  });
});

test('word2vec text: the first line, spaces and line ends as different programs write them', async () => {
  const expected = { format: 'text', dim: 2, rows: 2, words: ['a', 'b'], values: [1, 2, 3, 4] };
  expect(await read('2 2\na 1 2\nb 3 4')).toEqual(expected);
  expect(await read('2 2 \r\na 1 2 \r\nb\t3\t4\r\n\n')).toEqual(expected);
  expect(await read('\ufeff2 2\na 1 2\nb 3 4\n')).toEqual(expected);
});

test('words with spaces, numbers as words, other Unicode spaces', async () => {
  const words = ['. . .', 'at name@domain.com', '7', 'route 66', 'a\u00a0b', '\u0085', 'ü'];
  const text = words.map((word, i) => `${word} ${i}.5 -${i}\n`).join('');
  expect(await read(text)).toMatchObject({ dim: 2, words, values: words.flatMap((_, i) => [i + 0.5, -i]) });
});

test.each(['\n', ''])('word2vec binary, separator %j', async (separator) => {
  const values = new Float32Array([1, 2, 3, Math.PI, -0, 1e-30]);
  const words = ['a', 'über', 'c_d'];
  expect(await read(binary(words, values, 2, separator))).toEqual({
    format: 'binary',
    dim: 2,
    rows: 3,
    words,
    values: [...values],
  });
});

test('many blocks: every word has its vector, in text and in binary', async () => {
  const [rows, dim] = [1501, 1024];
  const words = Array.from({ length: rows }, (_, i) => `w${i}`);
  const values = Float32Array.from({ length: rows * dim }, (_, i) => Math.floor(i / dim) + (i % dim) / 1024);
  const text = words.map((word, i) => `${word} ${values.subarray(i * dim, (i + 1) * dim).join(' ')}`).join('\n');
  const contents = [text, binary(words, values, dim, '\n')];
  for (const content of contents) {
    await writeFile(path, content);
    let row = 0;
    let blocks = 0;
    let wrong = 0;
    for await (const block of (await readWordVectors(path)).blocks()) {
      block.words.forEach((word, i) => {
        if (word !== `w${row}`) wrong++;
        for (let d = 0; d < dim; d++) if (block.values[i * dim + d] !== values[row * dim + d]) wrong++;
        row++;
      });
      blocks++;
    }
    expect({ row, blocks, wrong }).toEqual({ row: rows, blocks: 2, wrong: 0 });
  }
});

test('random words and vectors come back, in text and in binary', async () => {
  const word = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 8 })
    .filter((text) => !/[\p{Cc}\p{Surrogate} \ufeff]/u.test(text));
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(word, { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 2, max: 5 }),
      fc.nat(),
      async (words, dim, seed) => {
        const values = Float32Array.from(
          { length: words.length * dim },
          (_, i) => Math.sin(seed + i) * 10 ** ((seed + i) % 20),
        );
        const text = words.map((w, i) => `${w} ${values.subarray(i * dim, (i + 1) * dim).join(' ')}\n`).join('');
        expect(await read(`${words.length} ${dim}\n${text}`, { format: 'text' })).toMatchObject({
          words,
          values: [...values],
        });
        expect(await read(binary(words, values, dim, '\n'), { format: 'binary' })).toMatchObject({
          words,
          values: [...values],
        });
      },
    ),
    { numRuns: 50 },
  );
});

test('words that come twice: refused with both lines, or skipped', async () => {
  const text = 'a 1 2\nb 3 4\na 5 6\nc 7 8\n';
  await expect(read(text)).rejects.toThrow(/line 3: the word "a" came before, in line 1; remove one/);
  expect(await read(text, { duplicates: 'skip' })).toMatchObject({
    words: ['a', 'b', 'c'],
    values: [1, 2, 3, 4, 7, 8],
  });
  expect(await read(`4 2\n${text}`, { duplicates: 'skip' })).toMatchObject({ words: ['a', 'b', 'c'] });
});

test('200,000 words: none is taken for another, each second one is found', async () => {
  const lines = Array.from({ length: 200_000 }, (_, i) => `w${i.toString(36)} 1\n`);
  expect((await read(lines.join(''))).words.length).toBe(200_000);
  await expect(read([...lines, lines[777]!].join(''))).rejects.toMatchObject({
    code: 'INVALID_DATA',
    details: { file: path, line: 200_001 },
  });
});

test.each<[name: string, code: string, content: string | Uint8Array, message: RegExp]>([
  ['an empty file', 'INVALID_FILE', '', /is empty/],
  ['a file without numbers', 'INVALID_FILE', 'hello world\n', /the first line, "hello world", has 0 numbers/],
  ['a line of one field', 'INVALID_FILE', 'hello\n', /has 0 numbers/],
  ['0 dims', 'INVALID_FILE', '5 0\n', /says 0 dims; allowed: 1 to 100000/],
  ['a billion dims', 'INVALID_FILE', '5 1000000000\n', /says 1000000000 dims/],
  ['a short line', 'INVALID_DATA', 'a 1 2\nb 3\n', /line 2: has 2 fields; every line has the word and 2 numbers/],
  ['a long line', 'INVALID_DATA', 'a 1 2\nb 0.3 4 5\n', /line 2: has more than 2 numbers/],
  ['what is not a number', 'INVALID_DATA', 'a 1 2\nb 3 x\n', /line 2: "x" is not a finite f32 number/],
  ['NaN', 'INVALID_DATA', 'a 1 2\nb nan 2\n', /line 2: "nan" is not a finite f32 number/],
  ['a number beyond f32', 'INVALID_DATA', 'a 1 2\nb 1e39 2\n', /line 2: "1e39" is not/],
  ['no word', 'INVALID_DATA', '2 2\na 1 2\n 3 4\n', /line 3: the word is empty/],
  ['a blank line inside', 'INVALID_DATA', 'a 1 2\n\nb 3 4\n', /line 2: is blank/],
  ['a word that is not UTF-8', 'INVALID_DATA', Buffer.from('a 1\n\xff 2\n', 'latin1'), /line 2: the word is not UTF-8/],
  ['too few words', 'INVALID_FILE', '3 2\na 1 2\n', /the first line says 3 words, found 1/],
  ['too many words', 'INVALID_FILE', '1 2\na 1 2\nb 3 4\n', /the first line says 1 words, found 2/],
  [
    'binary cut short',
    'INVALID_DATA',
    binary(['a', 'b'], new Float32Array(4), 2, '').subarray(0, -1),
    /word 2: the file ends here; its first line announces 2 words/,
  ],
  [
    'binary with more',
    'INVALID_DATA',
    binary(['a', 'b'], new Float32Array(4), 2, '\n', 1),
    /word 1: is the last that the first line announces/,
  ],
  ['binary without a word', 'INVALID_DATA', binary([''], new Float32Array(2), 2, '\n'), /word 1: the word is empty/],
  [
    'binary with infinity',
    'INVALID_DATA',
    binary(['a', 'b'], new Float32Array([0, 0, 0, Infinity]), 2, ''),
    /word 2: value 1 is Infinity/,
  ],
  ['a line without end', 'INVALID_FILE', Buffer.alloc(40_000_000, 0x61), /a line or word of more than 16777216 bytes/],
])('refuses %s', async (_, code, content, message) => {
  const error = await read(content).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code, details: { file: path } });
  expect((error as Error).message).toMatch(message);
});

test('a binary file without its first line is refused where binary is asked for', async () => {
  await expect(read('a 1 2\n', { format: 'binary' })).rejects.toThrow(/word2vec binary begins with "V D"/);
});

test('one pass to safetensors and a word list, rows unknown before', async () => {
  await writeFile(path, 'a 1 2\nb c 3 4\nd 5 6\n');
  const vectors = await readWordVectors(path);
  const [words, table] = [join(folder, 'words.txt'), join(folder, 'words.safetensors')];
  await writeFileAtomic(words, async (write) => {
    async function* values() {
      for await (const block of vectors.blocks()) {
        await write(Buffer.from(block.words.map((word) => `${word}\n`).join('')));
        yield new Uint8Array(block.values.buffer, 0, block.values.byteLength);
      }
    }
    await writeSafetensors(table, [{ name: 'embeddings', dtype: 'F32', shape: [null, vectors.dim], data: values() }]);
  });
  expect(await readFile(words, 'utf8')).toBe('a\nb c\nd\n');
  const model = await openSafetensors(table);
  expect(model.tensors.get('embeddings')?.shape).toEqual([3, 2]);
  expect([...(await readTensorF32(table, model, 'embeddings'))]).toEqual([1, 2, 3, 4, 5, 6]);
});
