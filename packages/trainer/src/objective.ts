/**
 * What is learnt: an objective turns looked-up features and labels into a loss, and that into gradients. The trainer
 * composes it with tables, adapters and a loader; an objective knows none of them.
 */
import type { Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { Outputs } from './metrics/outputs.ts';
import type { DeviceMatrix } from '@finetable/placement';

/** A dense parameter that an objective owns, such as a classifier's weights. */
export interface DenseParameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** Updated in place by the trainer. */
  readonly value: Float32Array;
  /** Written by `train`. */
  readonly gradient: Float32Array;
  /** Overrides of the trainer's optimiser for it alone, in place of the objective's. */
  readonly rates?:
    { readonly learningRate?: number | undefined; readonly weightDecay?: number | undefined } | undefined;
}

/** What an objective is built for. */
export interface ObjectiveContext {
  readonly kernels: Kernels;
  /** Dims of each feature's vectors. */
  readonly featureDims: Readonly<Record<string, number>>;
  /** Columns of each of the data's numbers. */
  readonly numberDims: Readonly<Record<string, number>>;
  /** Class names per label. */
  readonly classes: Readonly<Record<string, readonly string[]>>;
}

/** An array of an objective's as files hold it. */
export interface ObjectiveTensor {
  /** Unlike every parameter's name and the trainer's `<parameter>.state.<n>`. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** What an objective has beside its parameters. */
export interface ObjectiveSnapshot {
  /** Belong to the result of a training, as moving averages do. */
  readonly values: readonly ObjectiveTensor[];
  /** Only going on needs them, such as the state of an optimiser of its own. */
  readonly state: readonly ObjectiveTensor[];
}

/** Sums over a batch's examples, from which `metrics` makes means: they add up over batches. */
export type MetricSums = Readonly<Record<string, number>>;

/** What a batch is evaluated to. */
export interface Evaluated {
  readonly sums: MetricSums;
  /** What other metrics are made of, and slices; absent where only means over the batch are known. */
  readonly outputs?: Outputs | undefined;
}

/** What an objective does with vectors that a device has computed, where all of a batch's are on one that it reads. */
export interface DeviceObjective {
  /** Whether it reads this device's matrices. */
  accepts(input: DeviceMatrix): boolean;
  /**
   * As `Objective.train`. The inputs stay the caller's and as they are.
   * @param wanted the inputs that are trained
   * @returns their gradients too, on the same device, to be disposed by the caller
   */
  train(
    inputs: Readonly<Record<string, DeviceMatrix>>,
    batch: Batch,
    wanted: readonly string[],
  ): Promise<{ readonly sums: MetricSums; readonly gradients: Readonly<Record<string, DeviceMatrix>> }>;
  /** As `Objective.evaluate`. */
  evaluate(inputs: Readonly<Record<string, DeviceMatrix>>, batch: Batch): Promise<Evaluated>;
}

/** What is learnt: from looked-up vectors to a loss and its gradients. Finetable's own are made by {@link classification} and the like. */
export interface Objective {
  /** The features it reads; each is looked up and given to `train` and `evaluate`. */
  readonly inputs: readonly string[];
  /** Those of them that have to be one vector for each example; others may be of a feature that is not pooled, or of sampled negatives. */
  readonly pooled?: readonly string[] | undefined;
  /** The labels with classes that it reads: one class each in `batch.labels`, or several in `batch.labelSets`. */
  readonly labels: readonly string[];
  /** The labels that are numbers, of `batch.targets`. */
  readonly targets?: readonly string[] | undefined;
  /** What it reads of `batch.numbers`. */
  readonly numbers?: readonly string[] | undefined;
  /** Overrides of the trainer's optimiser for its parameters. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
  /** Called once, before anything else: an objective belongs to one trainer. @returns the parameters, freshly initialised. */
  initialize(context: ObjectiveContext): readonly DenseParameter[];
  /**
   * Loss of a batch (`loss`: the sum over its examples, each times its weight), and the gradients of `loss / batch.size`: with respect
   * to each input that is trained (`gradients[feature]`, `[size, D]`, every value overwritten; absent where the feature's table is
   * frozen) and to the parameters. May overwrite the inputs. All of it is the objective's until it settles.
   */
  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums | Promise<MetricSums>;
  /** The same without gradients. */
  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): Evaluated | Promise<Evaluated>;
  /** What it reads instead of the inputs, where it transforms them first: what vectors are to others. */
  transformed?(inputs: Readonly<Record<string, Matrix>>): Readonly<Record<string, Matrix>>;
  /** Moves the parameters by their gradients, which the trainer may have clipped; default: the trainer's optimiser moves them. */
  update?(): void;
  /** Told that the trainer's optimiser has moved the parameters. */
  updated?(): void;
  /** Brings the parameters' values up to date, where they are kept elsewhere, and tells what else belongs into a file. */
  snapshot?(): Promise<ObjectiveSnapshot>;
  /**
   * Told that the parameters' values were read from a file.
   * @param tensors what `snapshot` told of; without `state` where the file is the result of a training
   * @throws MISMATCH where they are not this objective's
   */
  restore?(tensors: ReadonlyMap<string, ObjectiveTensor>): void;
  /** Of vectors that are on a device: absent where it needs them as matrices. */
  readonly onDevice?: DeviceObjective | undefined;
  /** Means from sums over `examples` examples; always has `loss`. */
  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>>;
}
