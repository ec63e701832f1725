/** What a loader yields: one batch, ready to be looked up. Plain data, so that it crosses threads by transfer. */
import type { Jagged, LookupPlan, Matrix } from '@finetable/core';

/**
 * Where a feature's bags lie among the bags of its table's plan: one bag per example, in the order of the batch. Of features that are
 * not pooled, and of negatives, each id is a bag of its own, so that lookups give `[bags, D]` vectors, one for each id.
 */
export interface FeatureBags {
  readonly table: string;
  readonly firstBag: number;
  readonly bags: number;
  /** `[size + 1]`, where nothing is pooled: example i has bags `firstBag + offsets[i] .. firstBag + offsets[i + 1]`. */
  readonly offsets?: Int32Array | undefined;
}

/** Examples as a step takes them: ids with their plans, labels, numbers, weights. Its arrays are the consumer's. */
export interface Batch {
  /** Counted from 0. */
  readonly epoch: number;
  /** Within the epoch, counted from 0. */
  readonly index: number;
  /** Examples in it; the last batch of an epoch may be smaller. */
  readonly size: number;
  /** One plan per table; features that share a table share its plan, in the order of `DataSpec.features`. */
  readonly plans: Readonly<Record<string, LookupPlan>>;
  readonly features: Readonly<Record<string, FeatureBags>>;
  /** `[size] i32` class indices by label name, of labels with one class. */
  readonly labels: Readonly<Record<string, Int32Array>>;
  /** `[size] f32`, of labels that are numbers. */
  readonly targets: Readonly<Record<string, Float32Array>>;
  /** Class indices, each once, of labels with several classes: `size` bags. */
  readonly labelSets: Readonly<Record<string, Jagged>>;
  /** `[size, columns] f32`, of `DataSpec.numbers`. */
  readonly numbers: Readonly<Record<string, Matrix>>;
  /** `[size] f32`: how much each example counts; null where all count the same. */
  readonly weights: Float32Array | null;
  /** `[size]`: the names of the examples; null where they have none. */
  readonly ids: readonly string[] | null;
  /** Where the examples are from, for messages: the files that have any of them; and the file of each (`[size]`), null for the first. */
  readonly files: readonly string[];
  readonly fileOf: Uint32Array<ArrayBuffer> | null;
  /** `[size]`: line numbers in their files (from 1; a CSV header is line 1); or numbers of rows, where there are no lines. */
  readonly lines: Float64Array;
  readonly unit: 'line' | 'row';
}
