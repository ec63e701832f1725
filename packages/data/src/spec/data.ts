/** What to make of a source: plain data, so that workers get exactly what the caller wrote. */
import type { FeatureSpec, NegativesSpec } from './features.ts';
import type { SourceSpec } from './source.ts';

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

/** A column with classes or numbers that are learnt. */
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

/** What is read and what is made of it: a source, and features, labels, numbers and weights by name. */
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
