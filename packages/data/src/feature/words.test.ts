import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { VocabularySpec } from '../spec.ts';
import { recordsOf } from '../testing/records.ts';
import { compileFeature } from './feature.ts';
import { openVocabulary } from './vocabulary.ts';
import { testFolder } from '../testing/folder.ts';

const { path: folder } = testFolder();

const file = join(folder, 'words.txt');
const read = (content: string | Uint8Array, rows = 5) => {
  writeFileSync(file, content);
  return openVocabulary({ vocabulary: file }, rows, 'words');
};

function extract(texts: readonly unknown[], tokens: Omit<VocabularySpec, 'vocabulary'> = {}) {
  read('the\ncat\nÉté\nété\nThe');
  const spec = { table: 'words', column: 'text', tokens: { vocabulary: file, ...tokens } };
  return compileFeature(spec, 5, 'f').extract(recordsOf({ text: texts }));
}

test('line i is row i - 1, whatever the line ends', () => {
  for (const text of ['a\n b\nc', 'a\n b\nc\n', 'a\r\n b\r\nc\r\n', '\uFEFFa\n b\nc'])
    expect(['a', ' b', 'c', 'b', ''].map(read(text).row)).toEqual([0, 1, 2, -1, -1]);
  expect(read('').row('')).toBe(-1);
});

test.each([
  ['a\nb\nc\nd\ne\nf\n', ': 6 words, but table "words" has 5 rows; line i is the word of row i - 1'],
  ['a\nb\na\n', ', line 3: "a" stands on line 1 already'],
  ['a\n\nb\n', ', line 2: empty, so that row 1 would have no word'],
  [Buffer.from('\u00e9', 'latin1'), ': not UTF-8'],
])('vocabulary %j is refused', (content, message) => {
  expect(() => read(content)).toThrow(expect.objectContaining({ code: 'INVALID_FILE', message: file + message }));
});

test('a vocabulary that is not there', () => {
  const absent = join(folder, 'absent.txt');
  expect(() => openVocabulary({ vocabulary: absent }, 5, 'words')).toThrow(
    expect.objectContaining({ code: 'NOT_FOUND', message: `${absent}: no such file` }),
  );
});

test('words in lower case; unknown ones are left out; an empty text is an empty bag', () => {
  expect(extract(['The CAT, the dog: ÉTÉ', '', 'dog'])).toEqual({
    values: Int32Array.of(0, 1, 0, 3),
    offsets: Int32Array.of(0, 4, 4, 4),
  });
});

test('case kept, another pattern', () => {
  expect(extract(['The Été'], { lowercase: false }).values).toEqual(Int32Array.of(4, 2));
  expect(extract(['the-cat'], { pattern: '[^-]+' }).values).toEqual(Int32Array.of(0, 1));
});

test('an unknown word as an error', () => {
  expect(extract(['the cat'], { unknown: 'error' }).values).toEqual(Int32Array.of(0, 1));
  expect(() => extract(['the', 'the dog'], { unknown: 'error' })).toThrow(
    `f, line 2, column "text": token "dog" is not in ${file}; add it, or leave such tokens out with unknown: "drop"`,
  );
  expect(() => extract([null])).toThrow('f, line 1, column "text": found null; allowed: text');
});
