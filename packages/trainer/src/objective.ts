/**
 * What is learnt: an objective turns looked-up features and labels into a loss, and that into gradients. The trainer
 * composes it with tables, adapters and a loader; an objective knows none of them.
 */
import type { Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';

/** A dense parameter that an objective owns, such as a classifier's weights. */
export interface DenseParameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** Updated in place by the trainer. */
  readonly value: Float32Array;
  /** Written by `train`. */
  readonly gradient: Float32Array;
}

/** What an objective is built for. */
export interface ObjectiveContext {
  readonly kernels: Kernels;
  /** Dims of each feature's vectors. */
  readonly featureDims: Readonly<Record<string, number>>;
  /** Class names per label. */
  readonly classes: Readonly<Record<string, readonly string[]>>;
}

/** Sums over a batch's examples, from which `metrics` makes means: they add up over batches. */
export type MetricSums = Readonly<Record<string, number>>;

export interface Objective {
  /** The features it reads; each is looked up and given to `train` and `evaluate`. */
  readonly inputs: readonly string[];
  /** The labels it reads. */
  readonly labels: readonly string[];
  /** Overrides of the trainer's optimiser for its parameters. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
  /** Called once, before anything else: an objective belongs to one trainer. @returns the parameters, freshly initialised. */
  initialize(context: ObjectiveContext): readonly DenseParameter[];
  /**
   * Loss of a batch, and its gradients: of the mean loss with respect to each input that is trained (`gradients[feature]`,
   * `[size, D]`, every value overwritten; absent where the feature's table is frozen) and to the parameters. May overwrite
   * the inputs.
   */
  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums;
  /** The same without gradients. */
  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): MetricSums;
  /** Means from sums over `examples` examples; always has `loss`. */
  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>>;
}
