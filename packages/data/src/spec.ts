/** What to read and what to make of it: plain data, so that workers get exactly what the caller wrote. */
import type { Pooling } from '@finetable/core';

/** A text file of examples. CSV has a header line with the column names (RFC 4180). */
export interface SourceSpec {
  readonly file: string;
  /** Default: by the file's ending, `.jsonl` / `.ndjson` or `.csv`. */
  readonly format?: 'jsonl' | 'csv' | undefined;
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

export interface DataSpec {
  readonly source: SourceSpec;
  readonly features: Readonly<Record<string, FeatureSpec>>;
  readonly labels: Readonly<Record<string, LabelSpec>>;
  /** Rows of each table, that ids are checked against. */
  readonly tables: Readonly<Record<string, { readonly rows: number }>>;
}

export interface LoaderOptions {
  readonly batchSize: number;
  /** Worker threads; 0 works on the calling thread. Default 1. Batches do not depend on it. */
  readonly workers?: number | undefined;
  /** A new order each epoch; default false: file order. */
  readonly shuffle?: boolean | undefined;
  /** Default 0. */
  readonly seed?: number | undefined;
  /** Batches made ahead of the consumer, which bounds memory; default 16 or 2 tasks per worker, whichever is more. */
  readonly prefetchBatches?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The next batch a loader would yield. JSON. */
export interface LoaderPosition {
  readonly epoch: number;
  readonly batch: number;
}
