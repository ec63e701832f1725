/** What a loader yields: one batch, ready to be looked up. Plain data, so that it crosses threads by transfer. */
import type { LookupPlan } from '@finetable/core';

/** Where a feature's bags lie among the bags of its table's plan: one bag per example, in the order of the batch. */
export interface FeatureBags {
  readonly table: string;
  readonly firstBag: number;
  readonly bags: number;
}

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
  /** `[size] i32` class indices by label name. */
  readonly labels: Readonly<Record<string, Int32Array>>;
  /** Where the examples are from, for messages: the files that have any of them; and the file of each (`[size]`), null for the first. */
  readonly files: readonly string[];
  readonly fileOf: Uint32Array<ArrayBuffer> | null;
  /** `[size]`: line numbers in their files (from 1; a CSV header is line 1); or numbers of rows, where there are no lines. */
  readonly lines: Float64Array;
  readonly unit: 'line' | 'row';
}
