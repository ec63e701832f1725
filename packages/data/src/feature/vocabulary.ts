/** Words and their rows. */
import { readFileSync } from 'node:fs';
import { FinetableError } from '@finetable/core';
import { fileError, show } from '../errors.ts';
import type { VocabularyBuild, VocabularyOptions, VocabularyWords } from '../spec.ts';
import { wordLines } from '../word-lines.ts';
import { hashText, modulo } from '../xxhash64.ts';
import { unknown, type Refusal } from './text.ts';
import { WordTable } from './word-table.ts';

/** Rows of words. */
export interface Vocabulary {
  /** For messages. */
  readonly name: string;
  /** The row of a word, of what stands for words that are not in it, or `unknown`. */
  readonly row: (word: string) => number;
  /** Why a word without a row is an error; null where it is left out. */
  readonly refuse: (word: string) => Refusal | null;
}

/** How the rows of a vocabulary lie: mask token, rows for unknown words, words, or these rows behind the words. */
export interface VocabularyLayout {
  readonly firstWord: number;
  readonly firstUnknown: number;
  readonly unknownRows: number;
  /** Rows that are no word's. */
  readonly specials: number;
}

export function layoutOf({ maskToken, outOfVocabulary }: VocabularyOptions, words: number): VocabularyLayout {
  const { rows = 0, at = 'start' } = outOfVocabulary ?? {};
  const mask = maskToken === undefined ? 0 : 1;
  const firstWord = mask + (at === 'start' ? rows : 0);
  return {
    firstWord,
    firstUnknown: at === 'start' ? mask : firstWord + words,
    unknownRows: rows,
    specials: mask + rows,
  };
}

/**
 * @param remainders words are integers, and rows for those that are not in it are their remainders
 * @throws what `wordsOf` does; INVALID_FILE where the table has too few rows, or no unknown token
 */
export function openVocabulary(
  options: VocabularyOptions,
  tableRows: number,
  table: string,
  remainders = false,
): Vocabulary {
  const { vocabulary, maskToken, unknownToken, outOfVocabulary } = options;
  const name = typeof vocabulary === 'string' ? vocabulary : 'the vocabulary';
  // Before it is built every word passes.
  if (isBuild(vocabulary)) return { name, row: () => 0, refuse: () => null };
  const { words } = wordsOf(options);
  const { firstWord, firstUnknown, unknownRows, specials } = layoutOf(options, words.length);
  if (words.length + specials > tableRows) {
    const beside = specials > 0 ? ` and ${specials} rows beside them` : '';
    throw invalidVocabulary(
      name,
      `${words.length} words${beside}, but table ${show(table)} has ${tableRows} rows; line i is the word of row i - 1`,
    );
  }
  const masks = maskToken === undefined ? [] : [maskToken];
  const rows = new WordTable([...words, ...masks], (i) => (i < words.length ? firstWord + i : 0));
  const unknownRow = unknownToken === undefined ? unknown : rows.row(unknownToken);
  if (unknownToken !== undefined && unknownRow === unknown)
    throw invalidVocabulary(name, `has no ${show(unknownToken)}, which is to stand for unknown words`);

  const policy = policyOf(options);
  const seed = outOfVocabulary?.seed ?? 0;
  const hash = { high: 0, low: 0 };
  const rowOfUnknown = (word: string): number => {
    if (unknownRow !== unknown) return unknownRow;
    if (unknownRows === 1) return firstUnknown;
    if (remainders) return firstUnknown + remainder(Number(word), unknownRows);
    hashText(word, seed, hash);
    return firstUnknown + modulo(hash, unknownRows);
  };
  return {
    name,
    row: (word) => {
      const row = rows.row(word);
      return row === unknown && policy === 'keep' ? rowOfUnknown(word) : row;
    },
    refuse: (word) =>
      policy === 'error'
        ? {
            message: `token ${show(word)} is not in ${name}; add it, or leave such tokens out with unknown: "drop"`,
            details: { value: word, vocabulary: name },
          }
        : null,
  };
}

/** As Python has it: from 0 to n - 1. */
const remainder = (value: number, n: number): number => ((value % n) + n) % n;

export function policyOf(options: VocabularyOptions): 'drop' | 'keep' | 'error' {
  const kept = (options.unknownToken ?? options.outOfVocabulary) !== undefined;
  return options.unknown ?? (kept ? 'keep' : 'drop');
}

export function isBuild(vocabulary: VocabularyOptions['vocabulary']): vocabulary is VocabularyBuild {
  return typeof vocabulary === 'object' && vocabulary.words === undefined;
}

/**
 * The words of a vocabulary that is there, read where it is a file. Keras' own files begin with its mask token and its tokens for
 * unknown words; where the first line is the mask token, these are passed over.
 * @throws NOT_FOUND, IO; INVALID_FILE where it is not UTF-8, has an empty line, a word twice, or no count
 */
export function wordsOf(options: VocabularyOptions): VocabularyWords {
  const { vocabulary, maskToken, outOfVocabulary } = options;
  if (typeof vocabulary !== 'string') return vocabulary as VocabularyWords;
  let bytes: Buffer;
  try {
    bytes = readFileSync(vocabulary);
  } catch (error) {
    throw fileError(error, vocabulary);
  }
  const lines = wordLines(bytes);
  if (!lines) throw invalidVocabulary(vocabulary, 'not UTF-8');
  const counted = vocabulary.toLowerCase().endsWith('.tsv');
  const kerasOwn = !counted && maskToken !== undefined && lines[0] === maskToken;
  const first = kerasOwn ? 1 + (outOfVocabulary?.at === 'end' ? 0 : (outOfVocabulary?.rows ?? 0)) : 0;
  const words: string[] = [];
  const counts: number[] = [];
  const seen = new Map<string, number>();
  for (let i = first; i < lines.length; i++) {
    let word = lines[i]!;
    if (counted) {
      const tab = word.lastIndexOf('\t');
      const count = word.slice(tab + 1);
      if (tab < 0 || !/^\d+(\.\d+)?([eE][+-]?\d+)?$/.test(count))
        throw invalidVocabulary(vocabulary, `found ${show(word)}; allowed: a word, a tab, and its count`, i + 1);
      counts.push(Number(count));
      word = word.slice(0, tab);
    }
    if (word === '') throw invalidVocabulary(vocabulary, `empty, so that row ${i} would have no word`, i + 1);
    const before = seen.get(word);
    if (before !== undefined)
      throw invalidVocabulary(vocabulary, `${show(word)} stands on line ${before + 1} already`, i + 1);
    seen.set(word, i);
    words.push(word);
  }
  return counted ? { words, counts } : { words };
}

export function invalidVocabulary(file: string, message: string, line?: number): FinetableError {
  const place = line === undefined ? file : `${file}, line ${line}`;
  return new FinetableError('INVALID_FILE', `${place}: ${message}`, {
    file,
    ...(line === undefined ? {} : { line }),
  });
}
