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

/** Text to rows, by words or by the tokenizer of a model. */
export type TokenSpec = VocabularySpec | TokenizerSpec;

/** Words to rows: row i is line i of a vocabulary file (UTF-8, one token a line). */
export interface VocabularySpec {
  readonly vocabulary: string;
  readonly tokenizer?: undefined;
  /** What a token is, as a JavaScript regular expression (flags `gu`). Default `[\p{L}\p{N}']+`. */
  readonly pattern?: string | undefined;
  /** Default true. */
  readonly lowercase?: boolean | undefined;
  /** A token that is not in the vocabulary: left out (default), or an error. */
  readonly unknown?: 'drop' | 'error' | undefined;
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
}

/** One bag of rows per example. With neither `tokens` nor `ngrams` the column holds an integer or a list of integers. */
export interface FeatureSpec {
  readonly table: string;
  readonly column: string;
  /** Default `mean`. */
  readonly pooling?: Pooling | undefined;
  readonly tokens?: TokenSpec | undefined;
  readonly ngrams?: NgramSpec | undefined;
  /** For integer ids: a column with one weight per id. */
  readonly weights?: string | undefined;
}

export interface LabelSpec {
  readonly column: string;
  /**
   * Class names in index order; another value in the source is an error as the loader opens. Default: the distinct values
   * of the source, sorted by code point.
   */
  readonly classes?: readonly string[] | undefined;
}

/** Part of a source, so that several loaders over one source have disjoint examples. */
export interface SplitSpec {
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
}

export interface DataSpec {
  readonly source: SourceSpec;
  readonly features: Readonly<Record<string, FeatureSpec>>;
  readonly labels: Readonly<Record<string, LabelSpec>>;
  /** Which examples of the source; default: all. */
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
  /** Only the i-th of every `count` batches' worth of examples: each process of several gets its disjoint part. */
  readonly shard?: { readonly index: number; readonly count: number } | undefined;
  /** Default 0. */
  readonly seed?: number | undefined;
  /** Batches made ahead of the consumer, which bounds memory; default 16 or 2 tasks per worker, whichever is more. */
  readonly prefetchBatches?: number | undefined;
  /** Their bytes: where they are more, none is begun before others are consumed. At least one task is made. Default 256 MiB. */
  readonly prefetchBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The next batch a loader would yield. JSON. */
export interface LoaderPosition {
  readonly epoch: number;
  readonly batch: number;
}
