/** Checks of what features are to be. */
import { poolings } from '@finetable/core';
import { showNames } from '../errors.ts';
import { checkInteger, checkNumber, checkOneOf, refuse } from '../refuse.ts';
import type {
  DataSpec,
  FeatureSpec,
  HashSpec,
  NgramSpec,
  TokenSpec,
  VocabularyOptions,
  VocabularySpec,
  WeightingSpec,
} from '../spec.ts';
import { isBuild, layoutOf, policyOf } from './vocabulary.ts';

const mostCount = Number.MAX_SAFE_INTEGER;
const tokenizerMembers: ReadonlySet<string> = new Set(['tokenizer', 'vocabulary', 'maxTokens', 'unknown']);
const kinds = ['tokens', 'ngrams', 'lookup', 'hash'] as const;

export function checkFeature(path: string, spec: FeatureSpec, tables: DataSpec['tables']): void {
  const { table, pooling = 'mean', tokens, ngrams, lookup, hash, weights, weighting } = spec;
  if (!Object.hasOwn(tables, table)) throw refuse(`${path}.table`, table, showNames(Object.keys(tables)));
  checkOneOf(`${path}.pooling`, pooling, poolings);
  const given = kinds.filter((kind) => spec[kind]);
  if (given.length > 1) throw refuse(path, given.join(' and '), `one of the ${given.length === 2 ? 'two' : 'four'}`);
  if (weights !== undefined) {
    if (given.length > 0) throw refuse(`${path}.weights`, weights, 'only for integer ids');
    if (weighting) throw refuse(`${path}.weighting`, weighting, 'none beside a column of weights');
  }
  const { rows } = tables[table]!;
  if (tokens) checkTokens(`${path}.tokens`, tokens, rows);
  if (ngrams) checkNgrams(`${path}.ngrams`, ngrams);
  if (lookup) {
    checkVocabulary(`${path}.lookup`, lookup, rows);
    checkSeparator(`${path}.lookup`, lookup);
  }
  if (hash) checkHash(`${path}.hash`, hash);
  if (weighting) checkWeighting(`${path}.weighting`, weighting, spec, rows);
}

function checkNgrams(path: string, { min = 3, max = 5, seed = 0, maxTokens = 1 }: NgramSpec): void {
  checkInteger(`${path}.min`, min, 1, mostCount);
  checkInteger(`${path}.max`, max, min, mostCount);
  checkInteger(`${path}.seed`, seed, 0, 2 ** 32 - 1);
  checkInteger(`${path}.maxTokens`, maxTokens, 1, mostCount);
}

function checkHash(path: string, hash: HashSpec): void {
  checkInteger(`${path}.seed`, hash.seed ?? 0, 0, mostCount);
  checkSeparator(path, hash);
}

function checkSeparator(path: string, { separator }: { readonly separator?: string | undefined }): void {
  if (separator === '') throw refuse(`${path}.separator`, separator, 'one character or more');
}

function checkWeighting(path: string, weighting: WeightingSpec, { tokens, lookup }: FeatureSpec, rows: number): void {
  if (weighting.type === 'sif') {
    const { a = 1e-3, counts } = weighting;
    if (!(Number.isFinite(a) && a > 0)) throw refuse(`${path}.a`, a, 'numbers above 0');
    if (counts instanceof Float64Array && counts.length !== rows)
      throw refuse(`${path}.counts`, counts.length, `${rows} counts, one for each row`);
    if (typeof counts !== 'string') return;
    const byWord = /\.tsv$/i.test(counts);
    if (!byWord && !/\.npy$/i.test(counts)) throw refuse(`${path}.counts`, counts, '.npy, or .tsv by word');
    if (byWord && lookup === undefined && tokens?.vocabulary === undefined)
      throw refuse(`${path}.counts`, counts, '.tsv by word only with a vocabulary');
    return;
  }
  checkOneOf(`${path}.type`, weighting.type, ['sif', 'position']);
  const { decay, from = 'start' } = weighting;
  if (!(decay > 0 && decay <= 1)) throw refuse(`${path}.decay`, decay, 'numbers above 0, up to 1');
  checkOneOf(`${path}.from`, from, ['start', 'end']);
}

function checkTokens(path: string, tokens: TokenSpec, rows: number): void {
  if ((tokens.vocabulary === undefined) === (tokens.tokenizer === undefined))
    throw refuse(path, tokens.vocabulary === undefined ? 'neither' : 'both', 'vocabulary or tokenizer');
  checkInteger(`${path}.maxTokens`, tokens.maxTokens ?? 1, 1, mostCount);
  if (tokens.tokenizer === undefined) {
    checkVocabulary(path, tokens, rows);
    checkWords(path, tokens);
    return;
  }
  const others = Object.entries(tokens).filter(([name]) => !tokenizerMembers.has(name));
  for (const [name, value] of others)
    if (value !== undefined) throw refuse(`${path}.${name}`, value, 'only with a vocabulary');
  checkOneOf(`${path}.unknown`, tokens.unknown ?? 'drop', ['drop', 'keep', 'error']);
}

function checkWords(path: string, tokens: VocabularySpec): void {
  const { pattern, split, lowercase, standardize, ngrams, maxTokens, pad = false } = tokens;
  if (split !== undefined) {
    checkOneOf(`${path}.split`, split, ['whitespace', 'character', 'none']);
    if (pattern !== undefined) throw refuse(`${path}.pattern`, pattern, 'none beside split');
  }
  if (standardize !== undefined) {
    checkOneOf(`${path}.standardize`, standardize, [
      'none',
      'lower',
      'strip_punctuation',
      'lower_and_strip_punctuation',
    ]);
    if (lowercase !== undefined) throw refuse(`${path}.lowercase`, lowercase, 'none beside standardize');
  }
  try {
    new RegExp(pattern ?? '', 'gu');
  } catch (error) {
    throw refuse(`${path}.pattern`, pattern, `a JavaScript regular expression (${(error as Error).message})`);
  }
  if (ngrams !== undefined) {
    const lengths = typeof ngrams === 'number' ? [ngrams] : ngrams;
    if (lengths.length === 0) throw refuse(`${path}.ngrams`, ngrams, 'a length, or a list of lengths');
    for (const length of lengths) checkInteger(`${path}.ngrams`, length, 1, mostCount);
  }
  if (pad && maxTokens === undefined) throw refuse(`${path}.pad`, pad, 'only with maxTokens');
}

function checkVocabulary(path: string, options: VocabularyOptions, rows: number): void {
  const { vocabulary, unknown = 'drop', outOfVocabulary, unknownToken, maskToken } = options;
  if (outOfVocabulary && unknownToken !== undefined)
    throw refuse(`${path}.unknownToken`, unknownToken, 'none beside outOfVocabulary');
  if (outOfVocabulary) {
    const { rows: unknownRows, at = 'start', seed = 0 } = outOfVocabulary;
    checkInteger(`${path}.outOfVocabulary.rows`, unknownRows, 1, rows);
    checkInteger(`${path}.outOfVocabulary.seed`, seed, 0, mostCount);
    checkOneOf(`${path}.outOfVocabulary.at`, at, ['start', 'end']);
  }
  const kept = policyOf({ ...options, unknown: undefined }) === 'keep';
  checkOneOf(`${path}.unknown`, unknown, kept ? ['drop', 'keep', 'error'] : ['drop', 'error']);
  if (typeof vocabulary === 'string') return;
  if (isBuild(vocabulary)) {
    const { specials } = layoutOf(options, 0);
    if (specials >= rows)
      throw refuse(path, `${specials} rows that are no word's`, `less than the table's ${rows} rows`);
    checkInteger(`${path}.vocabulary.minCount`, vocabulary.minCount ?? 1, 1, mostCount);
    checkInteger(`${path}.vocabulary.maxWords`, vocabulary.maxWords ?? 1, 1, mostCount);
    return;
  }
  const { words, counts } = vocabulary;
  const distinct = new Set(words);
  if (distinct.size < words.length) throw refuse(`${path}.vocabulary.words`, words, 'each word once');
  if (maskToken !== undefined && distinct.has(maskToken))
    throw refuse(`${path}.vocabulary.words`, maskToken, 'words beside the mask token');
  if (!counts) return;
  if (counts.length !== words.length)
    throw refuse(`${path}.vocabulary.counts`, counts, `${words.length} counts, one for each word`);
  counts.forEach((count, i) => checkNumber(`${path}.vocabulary.counts[${i}]`, count, 0));
}
