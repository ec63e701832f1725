/** What an objective says about the examples of a batch: what metrics are made of. */
import type { Jagged, Matrix } from '@finetable/core';

/** What a batch is evaluated to: one entry per example. Arrays belong to the objective and are good until its next batch. */
export interface Outputs {
  /** `[size] f32`: the loss of each, whose weighted mean is the loss of the batch. */
  readonly losses: Float32Array;
  /** `[size] f32`: how much each counts; null for 1. */
  readonly weights: Float32Array | null;
  /** Of objectives that choose one of several classes. */
  readonly classes?: ClassOutputs | undefined;
  /** Of objectives that choose any number of them. */
  readonly labelSets?: LabelSetOutputs | undefined;
  /** Of objectives that predict a number, or how likely something is. */
  readonly scores?: ScoreOutputs | undefined;
  /** Of objectives that look for a row of a table: what is looked for, from which the trainer makes `retrieval`. */
  readonly queries?: QueryOutputs | undefined;
  /** Of objectives that look for vectors that are no rows: the trainer makes `retrieval` of all that an evaluation has. */
  readonly pairs?: PairOutputs | undefined;
  readonly retrieval?: RetrievalOutputs | undefined;
}

/** Predicted and true classes, for metrics of examples with one class. */
export interface ClassOutputs {
  /** Classes there are. */
  readonly count: number;
  /** `[size] i32`. */
  readonly predicted: Int32Array;
  readonly labels: Int32Array;
}

/** Logits and true sets of classes, for metrics of examples with several. */
export interface LabelSetOutputs {
  /** `[size, classes]`: above 0 is predicted. */
  readonly logits: Matrix;
  /** `[size]` bags of classes. */
  readonly labels: Jagged;
}

/** Predicted and true numbers, for metrics of scores and probabilities. */
export interface ScoreOutputs {
  /** `[size] f32`: probabilities where `kind` is `probability`. */
  readonly predicted: Float32Array;
  readonly targets: Float32Array;
  readonly kind: 'probability' | 'value';
}

/** Queries and the rows that they should find, for metrics of retrieval over a whole table. */
export interface QueryOutputs {
  /** Whose table the rows are of. */
  readonly feature: string;
  /** `[size, D] f32`. */
  readonly vectors: Matrix;
  readonly metric: 'dot' | 'cosine';
  /** `[D, D]` each: what the rows of the table are multiplied by, one after the other, before they are compared; default: nothing. */
  readonly transforms?: readonly Matrix[] | undefined;
  /** `[size]` bags of the rows that should be found. */
  readonly relevant: Jagged;
  /** `[size]` bags of rows that do not count, such as what a user has already; null for none. */
  readonly seen: Jagged | null;
  /** `[rows]`: how often each row of the table is what should be found, for popularity bias. */
  readonly popularity?: ArrayLike<number> | undefined;
}

/** Queries and the vectors that they should find, for metrics of retrieval among those of an evaluation. */
export interface PairOutputs {
  /** `[size, D] f32`. */
  readonly queries: Matrix;
  /** `[size, D] f32`: what each should find, among those of all examples; equal ones are one. */
  readonly candidates: Matrix;
  readonly metric: 'dot' | 'cosine';
}

/** What was found for the queries of a batch, for metrics at k. */
export interface RetrievalOutputs {
  /** Rows, or candidates, that could be found. */
  readonly rows: number;
  /** How many were looked at for each, k. */
  readonly k: number;
  /** `[size, k] i32`: the rows found, best first. */
  readonly found: Int32Array;
  /** `[size]` bags of the rows that should be. */
  readonly relevant: Jagged;
  readonly popularity?: ArrayLike<number> | undefined;
}
