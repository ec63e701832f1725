/** What features make of columns: ids and their weights, and ids that are not an example's own. Plain data. */
import type { Pooling } from '@finetable/core';

/** Words and their rows. Row of word i: i, behind what stands at the start (a mask token, rows for words that are not in it). */
export interface VocabularyOptions {
  /**
   * A file (UTF-8, one word a line; `.tsv`: word, tab, count), the words themselves, or how to build it from the data: then the loader's
   * own `data` has the words that were found.
   */
  readonly vocabulary: string | VocabularyWords | VocabularyBuild;
  /**
   * What is not in the vocabulary: left out of the bag, an error, or kept by the rows that stand for it. Default: kept where there
   * are such rows (`outOfVocabulary`, `unknownToken`), else left out.
   */
  readonly unknown?: 'drop' | 'keep' | 'error' | undefined;
  /** Rows for what is not in the vocabulary; where there are several, a hash of the word chooses. */
  readonly outOfVocabulary?: OutOfVocabularySpec | undefined;
  /** A word of the vocabulary that stands for all that are not in it. */
  readonly unknownToken?: string | undefined;
  /** This one is row 0, before all others. */
  readonly maskToken?: string | undefined;
}

/** Rows for values that the vocabulary does not have. */
export interface OutOfVocabularySpec {
  readonly rows: number;
  /** Before the words (default) or after them. */
  readonly at?: 'start' | 'end' | undefined;
  /** Of the hash; default 0. */
  readonly seed?: number | undefined;
  /** Stands for them in texts, and so is no word of a vocabulary that is built. */
  readonly token?: string | undefined;
}

/** A vocabulary in memory: row i is `words[i]`. */
export interface VocabularyWords {
  readonly words: readonly string[];
  /** How often each was found. */
  readonly counts?: readonly number[] | undefined;
}

/** The words of the data, the most frequent first; of equally frequent ones the last by code point first, as Keras has them. */
export interface VocabularyBuild {
  readonly words?: undefined;
  /** Rarer words are left out; default 1. */
  readonly minCount?: number | undefined;
  /** Default: as many as the table has rows for. */
  readonly maxWords?: number | undefined;
}

/** Text to rows, by words or by the tokenizer of a model. */
export type TokenSpec = VocabularySpec | TokenizerSpec;

/** Words to rows. With `standardize`, `split` and `ngrams` as Keras' TextVectorization has them. */
export interface VocabularySpec extends VocabularyOptions {
  readonly tokenizer?: undefined;
  /** What a token is, as a JavaScript regular expression (flags `gu`). Default `[\p{L}\p{N}']+`. */
  readonly pattern?: string | undefined;
  /** Instead of a pattern: between white space of ASCII, every code point, or the whole text as one token. */
  readonly split?: 'whitespace' | 'character' | 'none' | undefined;
  /** Default true. */
  readonly lowercase?: boolean | undefined;
  /** Instead of `lowercase`, with ASCII's letters and punctuation alone. */
  readonly standardize?: 'none' | 'lower' | 'strip_punctuation' | 'lower_and_strip_punctuation' | undefined;
  /** Tokens that follow each other, joined by a space, as tokens: all of 1 to n, or of these lengths. */
  readonly ngrams?: number | readonly number[] | undefined;
  /** Keeps the first so many of a text. */
  readonly maxTokens?: number | undefined;
  /** Shorter texts get row 0, the mask token's, up to `maxTokens`. Default false. */
  readonly pad?: boolean | undefined;
}

/** Token ids are rows: those that a `tokenizer.json` of Hugging Face's gives, without special tokens. */
export interface TokenizerSpec {
  readonly tokenizer: string;
  readonly vocabulary?: undefined;
  /** Keeps the first so many of a text; default: as the file's `truncation` says. */
  readonly maxTokens?: number | undefined;
  /**
   * The tokenizer's own unknown token: left out of a bag (default), kept like any other, as sentence-transformers does, or
   * an error. Where it has none, what is unknown is left out.
   */
  readonly unknown?: 'drop' | 'keep' | 'error' | undefined;
}

/** Character n-grams hashed into the rows of the table. */
export interface NgramSpec {
  /** Shortest and longest n-gram in UTF-16 code units; defaults 3 and 5. */
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  /** Default false. */
  readonly lowercase?: boolean | undefined;
  /** Changes the hash; default 0. */
  readonly seed?: number | undefined;
  /** Keeps the first so many of a text. */
  readonly maxTokens?: number | undefined;
}

/** Values to rows by a vocabulary: a text, a number, true or false, one or a list. What Keras' StringLookup and IntegerLookup do. */
export interface LookupSpec extends VocabularyOptions {
  /** Values are integers: `07` is 7, words are compared as numbers, and `outOfVocabulary` takes remainders. Default false. */
  readonly integers?: boolean | undefined;
  /** In csv and tsv, what is between the values of a list; default: the whole field is one. */
  readonly separator?: string | undefined;
}

/** Values (as of a lookup) to rows by their XXH64: that of the text's UTF-8, modulo the table's rows. */
export interface HashSpec {
  /** Default 0. Features that share a table share rows, unless their seeds differ. */
  readonly seed?: number | undefined;
  /** Further columns: each combination of their values has a hash, of the texts joined by U+001F. */
  readonly crossWith?: readonly string[] | undefined;
  /** In csv and tsv, what is between the values of a list; default: the whole field is one. */
  readonly separator?: string | undefined;
}

/** A weight for each id of a bag. */
export type WeightingSpec = FrequencyWeighting | PositionWeighting;

/** Smooth inverse frequency, a / (a + p(id)) (Arora et al.: "A simple but tough-to-beat baseline for sentence embeddings", ICLR 2017). */
export interface FrequencyWeighting {
  readonly type: 'sif';
  /** Default 1e-3. */
  readonly a?: number | undefined;
  /**
   * How often each id is found: `[rows]`; or a file, .npy `[rows]` or .tsv by word. Default: the counts of the vocabulary, else those of
   * the data, which the loader's own `data` has.
   */
  readonly counts?: string | Float64Array | undefined;
}

/** decay^k for the k-th id, from 0. */
export interface PositionWeighting {
  readonly type: 'position';
  /** Above 0, up to 1. */
  readonly decay: number;
  /** Where k is 0; default `start`. `end`: the last id counts most. */
  readonly from?: 'start' | 'end' | undefined;
}

/** One bag of rows per example. Of tokens, ngrams, lookup and hash one at most; with none the column holds an integer or a list of integers. */
export interface FeatureSpec {
  readonly table: string;
  readonly column: string;
  /** Default `mean`. `none`: each id is a bag of its own, and an example has any number of vectors. */
  readonly pooling?: Pooling | 'none' | undefined;
  /** Keeps the last so many ids of an example: of a list in order of time the newest. Default: all. */
  readonly last?: number | undefined;
  readonly tokens?: TokenSpec | undefined;
  readonly ngrams?: NgramSpec | undefined;
  readonly lookup?: LookupSpec | undefined;
  readonly hash?: HashSpec | undefined;
  /** For integer ids: a column with one weight per id. */
  readonly weights?: string | undefined;
  readonly weighting?: WeightingSpec | undefined;
  /** Stands for a value that is missing or wrong. */
  readonly default?: unknown;
}

/** Ids that are not an example's own, `count` for each, drawn with replacement. In batches they are a feature, each id a bag. */
export interface NegativesSpec {
  /** A feature: negatives are rows of its table, and what is excluded is read as it reads its column. */
  readonly of: string;
  /** For each example, up to 16,384. */
  readonly count: number;
  /** Default `uniform`: all rows of the table alike. */
  readonly distribution?: 'uniform' | FrequencyDistribution | undefined;
  /**
   * Columns whose ids are no negatives of the example that has them: none is a false negative. Default: that of the feature. With
   * histories also `history`, or `seen` for all that the user ever had. `[]`: nothing is excluded.
   */
  readonly exclude?: readonly string[] | undefined;
}

/** A row's share is its count to the power of `exponent`; rows that were never found are not drawn. */
export interface FrequencyDistribution {
  /** As of frequency weights: `[rows]`, a .npy file of them, .tsv by word. Default: those of the vocabulary, else of the data. */
  readonly counts?: string | Float64Array | undefined;
  /** Default 0.75 (Mikolov et al.: "Distributed representations of words and phrases and their compositionality", 2013). */
  readonly exponent?: number | undefined;
}
