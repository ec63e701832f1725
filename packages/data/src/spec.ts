/** What to read and what to make of it: plain data, so that workers get exactly what the caller wrote. */
import type { Pooling } from '@finetable/core';

/** Where examples come from. */
export type SourceSpec = FileSource | RowSource;

/** Files of examples, all of one format. */
export interface FileSource {
  /** A path or a pattern (`logs/*.jsonl`), or several; files of a pattern come in the order of their names. */
  readonly file: string | readonly string[];
  readonly rows?: undefined;
  /** Default: by the file's ending, before a `.gz` or `.zst`. */
  readonly format?: 'jsonl' | 'csv' | 'tsv' | 'parquet' | 'arrow' | undefined;
  /** Of csv and tsv (RFC 4180): column names where there is no header line. */
  readonly columns?: readonly string[] | undefined;
  /** Of csv and tsv, one character: between the fields. Default: a comma, or a tab. */
  readonly delimiter?: string | undefined;
}

/** A record of a program: values by column name, as JSON would have them. */
export type Row = Readonly<Record<string, unknown>>;

/**
 * Examples of a program. An array is known whole, as a file is. What is iterated may have no end, and what must be known of all
 * examples beforehand has to be given (such as classes); a function is called for each epoch.
 */
export interface RowSource {
  readonly rows:
    readonly Row[] | Iterable<Row> | AsyncIterable<Row> | ((epoch: number) => Iterable<Row> | AsyncIterable<Row>);
  readonly file?: undefined;
  /** For messages; default `rows`. */
  readonly name?: string | undefined;
}

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

export interface OutOfVocabularySpec {
  readonly rows: number;
  /** Before the words (default) or after them. */
  readonly at?: 'start' | 'end' | undefined;
  /** Of the hash; default 0. */
  readonly seed?: number | undefined;
  /** Stands for them in texts, and so is no word of a vocabulary that is built. */
  readonly token?: string | undefined;
}

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

/** Numbers beside the ids: `[size, columns] f32`. */
export interface NumbersSpec {
  readonly column: string | readonly string[];
  /** Takes log(1 + x) first, of numbers above -1. Default false. */
  readonly log1p?: boolean | undefined;
  /** (x - mean) / deviation by column, after `log1p`: given, or those of the data, which the loader's own `data` has. */
  readonly normalize?: 'measured' | Moments | undefined;
  /** Stands for a number that is missing (also an empty text, or null) or wrong; `mean`: 0 after `normalize`. */
  readonly default?: number | 'mean' | undefined;
}

/** By column. A deviation of 0 divides by 1. */
export interface Moments {
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

export interface LabelSpec {
  readonly column: string;
  /** One class (default), a number, or a list of classes. */
  readonly type?: 'class' | 'number' | 'classes' | undefined;
  /**
   * Class names in index order; another value in the source is an error as the loader opens. Default: the distinct values
   * of the source, sorted by code point.
   */
  readonly classes?: readonly string[] | undefined;
  /** Of `classes` in csv and tsv: what is between them. Default: the field is a JSON list. */
  readonly separator?: string | undefined;
  /** Stands for a label that is missing or wrong. */
  readonly default?: string | number | readonly string[] | undefined;
}

/** A number for each example, 0 or more: how much it counts. */
export interface WeightSpec {
  readonly column: string;
  /** Stands for a weight that is missing or wrong. */
  readonly default?: number | undefined;
}

/** Left out where an example cannot be read, instead of the error that names file, line, column and value. */
export interface SkipSpec {
  /** The most, of all rows of files and arrays, or of an epoch of what is iterated; with more the error is that of too many. */
  readonly skip: number;
}

/** Part of a source, so that several loaders over one source have disjoint examples: by a share, by time, or the last of each user. */
export type SplitSpec = FractionSplit | TimeSplit | LeaveOutSplit;

/** Shares of the examples, or folds. */
export interface FractionSplit {
  /** The examples of this part; the others are of the other loaders. */
  readonly part: number;
  /** Parts and how much of the examples each has, in any unit: `[80, 10, 10]`; `[1, 1, 1, 1, 1]` for five folds. */
  readonly parts: readonly number[];
  /** Take all parts but this one: the training side of a fold. */
  readonly others?: boolean | undefined;
  /** Examples with the same value of it are in the same part, whatever else changes. Default: by place in the source. */
  readonly key?: string | undefined;
  /** Default 0. */
  readonly seed?: number | undefined;
  readonly time?: undefined;
  readonly leaveOut?: undefined;
}

/** Examples of `[from, to)`, of which one may be left out. */
export interface TimeSplit {
  readonly time: {
    readonly column: string;
    /** As the column has it: a number, or an ISO 8601 date with or without a time (UTC where it names no zone). */
    readonly from?: number | string | undefined;
    readonly to?: number | string | undefined;
  };
  readonly leaveOut?: undefined;
}

/**
 * Of histories, by time: the last `count` interactions of each user are the targets of `test`, the `count` before them those of
 * `validation`, all earlier ones those of `train`.
 */
export interface LeaveOutSplit {
  readonly leaveOut: 'train' | 'validation' | 'test';
  /** Default 1. */
  readonly count?: number | undefined;
  readonly time?: undefined;
}

/**
 * Examples for ranking: each interaction with `minimum` or more before it is one. Features read its item from the column `target`, the
 * items before it, the oldest first, from `history`, and all items of its user from `seen`; other columns are those of its row.
 */
export type HistoriesSpec = InteractionHistories | ListHistories;

interface HistoryWindow {
  /** The most items of a history: the newest. */
  readonly window: number;
  /** The fewest; default 1. */
  readonly minimum?: number | undefined;
}

/** Rows are interactions: brought together by user, in order of time, those of the same time as they stand in the source. */
export interface InteractionHistories extends HistoryWindow {
  /** Columns. */
  readonly user: string;
  readonly item: string;
  /** Numbers, or ISO 8601 dates with or without a time (UTC where they name no zone). */
  readonly time: string;
  readonly list?: undefined;
}

/** Rows hold a list of items in order of time. */
export interface ListHistories extends HistoryWindow {
  readonly list: string;
  /** In csv and tsv, what is between the items; default: white space, or the field is a JSON list. */
  readonly separator?: string | undefined;
  readonly user?: undefined;
  readonly item?: undefined;
  readonly time?: undefined;
}

export interface DataSpec {
  readonly source: SourceSpec;
  readonly features: Readonly<Record<string, FeatureSpec>>;
  /** By a name that no feature has. */
  readonly negatives?: Readonly<Record<string, NegativesSpec>> | undefined;
  readonly labels: Readonly<Record<string, LabelSpec>>;
  readonly numbers?: Readonly<Record<string, NumbersSpec>> | undefined;
  readonly weight?: WeightSpec | undefined;
  /** A column with a text or number that names the example. */
  readonly id?: { readonly column: string } | undefined;
  /** Makes examples of what users did. Default: each row is an example. */
  readonly histories?: HistoriesSpec | undefined;
  /** Default `error`. */
  readonly badRows?: 'error' | SkipSpec | undefined;
  /** Which examples of the source; default: all. Of histories: which targets; what came before them stays in the histories. */
  readonly split?: SplitSpec | undefined;
  /** Rows of each table, that ids are checked against. */
  readonly tables: Readonly<Record<string, { readonly rows: number }>>;
}

export interface LoaderOptions {
  readonly batchSize: number;
  /** Worker threads; 0 works on the calling thread. Default 1. Batches do not depend on it. */
  readonly workers?: number | undefined;
  /**
   * A new order each epoch; default false: file order. Up to `shuffleWindow` examples are shuffled as a whole; of more, their blocks
   * in the files are, and then that many examples at a time.
   */
  readonly shuffle?: boolean | undefined;
  /** Default 4,194,304; of examples that are iterated, 65,536, which are held in memory. */
  readonly shuffleWindow?: number | undefined;
  /**
   * A feature: no batch has two examples with the same ids of it, so that in-batch negatives are none of them an example's own. An example
   * whose ids the batch has already waits for a later one; all come in an epoch, in full batches, the same for any number of workers. For
   * what is known whole, of up to `shuffleWindow` examples.
   */
  readonly distinct?: string | undefined;
  /** Only the i-th of every `count` batches' worth of examples: each process of several gets its disjoint part. */
  readonly shard?: { readonly index: number; readonly count: number } | undefined;
  /** Default 0. */
  readonly seed?: number | undefined;
  /** Batches made ahead of the consumer, which bounds memory; default 16 or 2 tasks per worker, whichever is more. */
  readonly prefetchBatches?: number | undefined;
  /** Their bytes: where they are more, none is begun before others are consumed. At least one task is made. Default 256 MiB. */
  readonly prefetchBytes?: number | undefined;
  /**
   * Memory for examples that are kept between epochs, all threads together: ids, labels and numbers, 4 bytes each and 20 more an example. What
   * there is no room for is read again. Default 0; up to 4 GiB. For what is known whole.
   */
  readonly cacheBytes?: number | undefined;
  /**
   * The longest that a worker may be at one task; after it the worker is replaced, as where one fails, and the task tried once more.
   * The pass over a file that finds its examples gets as long again for each 256 MiB. Default 300.
   */
  readonly taskSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}
