import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readTokenizer, type Tokenizer } from './tokenizer.ts';
import { testFolder } from '../testing/folder.ts';

const { path: folder } = testFolder();
const file = join(folder, 'tokenizer.json');

function read(parts: Readonly<Record<string, unknown>>): Tokenizer {
  writeFileSync(file, JSON.stringify({ added_tokens: [], normalizer: null, pre_tokenizer: null, model: {}, ...parts }));
  return readTokenizer(file);
}

const ids = (words: readonly string[]): Record<string, number> => Object.fromEntries(words.map((word, i) => [word, i]));
const words = (...all: string[]): object => ({ type: 'WordLevel', unk_token: '?', vocab: ids(['?', ...all]) });
const whitespace = { type: 'WhitespaceSplit' };

describe('where the library departs from the one in Rust', () => {
  const model = words('σος', 'a', 'b', 'é', '12', '1', '2', ',', '!!', '!', '$', 'c');
  test.for<[string, object, string, number[]]>([
    ['sigma goes by character', { normalizer: { type: 'Lowercase' }, pre_tokenizer: whitespace, model: words('οδοσ') }, 'ΟΔΟΣ', [1]],
    ['ideographs beyond U+FFFF stand alone', { normalizer: { type: 'BertNormalizer', handle_chinese_chars: true }, pre_tokenizer: whitespace, model: words('𠀀', 'a') }, 'a𠀀a', [2, 1, 2]],
    ['words have accents', { pre_tokenizer: { type: 'Whitespace' }, model }, 'a é,b', [2, 4, 8, 3]],
    ['digits of every script', { pre_tokenizer: { type: 'Digits', individual_digits: false }, model: words('a', '١٢') }, 'a١٢a', [1, 2, 1]],
    ['digits one by one', { pre_tokenizer: { type: 'Digits', individual_digits: true }, model }, '12', [6, 7]],
    ['punctuation one by one', { pre_tokenizer: { type: 'Punctuation' }, model }, 'a!!b', [2, 10, 10, 3]],
    ['punctuation together', { pre_tokenizer: { type: 'Punctuation', behavior: 'Contiguous' }, model }, 'a!!b', [2, 9, 3]],
    ['separators removed', { pre_tokenizer: { type: 'Split', pattern: { String: ',' }, behavior: 'Removed', invert: false }, model }, 'a,b', [2, 3]],
    ['a dollar is a dollar', { normalizer: { type: 'Replace', pattern: { String: 'c' }, content: '$' }, pre_tokenizer: whitespace, model }, 'c $& c', [11, 0, 11]],
    ['a metaspace begins a word', { pre_tokenizer: { type: 'Metaspace', replacement: '_', prepend_scheme: 'never' }, model: words('a', '_b', 'a_b') }, 'a b', [1, 2]],
    ['or none', { pre_tokenizer: { type: 'Metaspace', replacement: '_', add_prefix_space: false, split: false }, model: words('a', '_b', 'a_b') }, 'a b', [3]],
  ])('%s', ([, parts, text, expected]) => {
    expect(read(parts as Record<string, unknown>).encode(text)).toEqual(expected);
  }); // prettier-ignore

  test('unknown pieces are one token within a word, and not beyond it', () => {
    const vocab = [['<unk>', 0], ['a', -1], ['▁', -2]]; // prettier-ignore
    const unigram = read({ pre_tokenizer: { type: 'Metaspace' }, model: { type: 'Unigram', unk_id: 0, vocab } });
    expect(unigram.encode('axyza zz zz')).toEqual([2, 1, 0, 1, 2, 0, 2, 0]);
    expect(unigram.unknownId).toBe(0);
    const merges: string[] = [];
    const bpe = { type: 'BPE', unk_token: '?', vocab: ids(['?', 'a']), merges };
    expect(read({ pre_tokenizer: whitespace, model: { ...bpe, fuse_unk: true } }).encode('xxa xx xx')).toEqual([
      0, 1, 0, 0,
    ]);
    expect(read({ pre_tokenizer: whitespace, model: bpe }).encode('xxa x')).toEqual([0, 0, 1, 0]);
  });

  test('without an unknown token, characters are left out before others are joined', () => {
    const bpe = read({ model: { type: 'BPE', unk_token: null, vocab: ids(['a', 'b', 'ab']), merges: [['a', 'b']] } });
    expect(bpe.encode('axbx')).toEqual([2]);
    expect(bpe.encode('xyz')).toEqual([]);
    expect(bpe.unknownId).toBeNull();
  });
});

test('special tokens are not added; added ones are found; texts are cut as the file says, or as asked', () => {
  const parts = {
    pre_tokenizer: whitespace,
    model: words('a', 'b', 'c'),
    added_tokens: [{ id: 7, content: '<x>', special: true }],
    post_processor: { type: 'BertProcessing', sep: ['c', 3], cls: ['a', 1] },
  };
  const whole = read(parts);
  expect(whole).toMatchObject({ file, size: 8, unknownId: 0 });
  expect(whole.tokens().sort()).toEqual(['<x>', '?', 'a', 'b', 'c']);
  expect(whole.encode('a b<x>c zz')).toEqual([1, 2, 7, 3, 0]);
  expect(whole.encode('a b c', 2)).toEqual([1, 2]);
  expect(whole.encode('')).toEqual([]);
  const cut = (direction: string): number[] =>
    read({ ...parts, truncation: { max_length: 2, direction, strategy: 'LongestFirst', stride: 0 } }).encode('a b c');
  expect(cut('Right')).toEqual([1, 2]);
  expect(cut('Left')).toEqual([2, 3]);
  expect(read({ ...parts, truncation: { max_length: 2 } }).encode('a b c', 5)).toEqual([1, 2, 3]);
});

const model = words('a');
test.for<[string, object, string]>([
  ['another model', { model: { type: 'Chars', vocab: {} } }, 'model "Chars"; allowed: WordPiece, BPE, Unigram, WordLevel'],
  ['dropout', { model: { type: 'BPE', dropout: 0.1, vocab: {}, merges: [] } }, 'model.dropout is 0.1; allowed: null or 0'],
  ['a prefix of pieces', { model: { type: 'BPE', continuing_subword_prefix: '##', vocab: {}, merges: [] } }, 'model.continuing_subword_prefix is "##"'],
  ['a normalizer', { model, normalizer: { type: 'Nmt' } }, 'normalizer "Nmt" is not supported'],
  ['one inside', { model, normalizer: { type: 'Sequence', normalizers: [{ type: 'ByteLevel' }] } }, 'normalizer "ByteLevel" is not supported'],
  ['a pre-tokenizer', { model, pre_tokenizer: { type: 'UnicodeScripts' } }, 'pre_tokenizer "UnicodeScripts" is not supported'],
  ['a way to split', { model, pre_tokenizer: { type: 'Split', pattern: { String: 'a' }, behavior: 'MergedWithNext', invert: false } }, 'pre_tokenizer Split has behavior "MergedWithNext"; allowed: "Isolated"'],
  ['the first word', { model, pre_tokenizer: { type: 'Metaspace', prepend_scheme: 'first' } }, 'pre_tokenizer Metaspace has prepend_scheme "first"; allowed: "always", "never"'],
  ['whole words', { model, added_tokens: [{ id: 0, content: 'a', single_word: true }] }, 'added token "a" has single_word; allowed: false'],
])('%s is refused', ([, parts, message]) => {
  expect(() => read(parts as Record<string, unknown>)).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining(`${file}: ${message}`) as string }),
  );
}); // prettier-ignore

test.for<[string, object, string]>([
  ['no vocabulary', { model: { type: 'WordPiece' } }, 'model.vocab is undefined; allowed: an object of token: id'],
  ['ids that are none', { model: { type: 'WordLevel', vocab: { a: -1 } } }, 'model.vocab gives "a" the id -1; allowed: integers from 0'],
  ['scores that are none', { model: { type: 'Unigram', unk_id: 0, vocab: [['a', 'b']] } }, 'model.vocab has ["a","b"] at 0; allowed: [token, score]'],
  ['a pattern', { model, pre_tokenizer: { type: 'Split', pattern: 'a', behavior: 'Isolated' } }, 'pattern is "a"; allowed: {"Regex": text}'],
  ['a cut', { model, truncation: { max_length: 'all' } }, 'truncation is {"max_length":"all"}; allowed: null'],
])('%s: an invalid file', ([, parts, message]) => {
  expect(() => read(parts as Record<string, unknown>)).toThrow(
    expect.objectContaining({ code: 'INVALID_FILE', message: expect.stringContaining(`${file}: ${message}`) as string }),
  );
}); // prettier-ignore

test('what is no tokenizer', () => {
  const refused = (content: string | Uint8Array, message: string): void => {
    writeFileSync(file, content);
    expect(() => readTokenizer(file)).toThrow(expect.objectContaining({ code: 'INVALID_FILE', message: expect.stringContaining(message) as string })); // prettier-ignore
  };
  refused('3', `${file}: the JSON is 3; allowed: an object`);
  refused(Uint8Array.of(0xff), `${file}: not UTF-8`);
  refused('{"model":', `${file}: not JSON: `);
  expect(() => read({ model: { type: 'WordLevel', vocab: {} } })).toThrow(`${file}: not a tokenizer: it has no tokens`);
  expect(() => read({ model, pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' } })).toThrow(`${file}: not a tokenizer: `); // prettier-ignore
  const absent = join(folder, 'absent.json');
  expect(() => readTokenizer(absent)).toThrow(expect.objectContaining({ code: 'NOT_FOUND', message: `${absent}: no such file` })); // prettier-ignore
});
