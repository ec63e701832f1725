/** An objective of a program's own, over the kernels: what it needs is a function from looked-up vectors to losses and their gradients. */
import { checkOptionNames, FinetableError, matrix, Scratch, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { Outputs } from '../metrics/outputs.ts';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { meanExamples, sumExamples } from './examples.ts';
import { fillHeUniform, parameter } from './layers.ts';
import { Owned } from './owned.ts';

/** What a batch's loss is made of. Arrays are good until the function returns. */
export interface CustomLoss {
  /** Looked-up vectors by feature, `[size, D]`: of features that are not pooled, one for each id (`batch.features[name].offsets`). */
  readonly inputs: Readonly<Record<string, Matrix>>;
  /** Values of the parameters, by name; one of a single dimension is a row. */
  readonly parameters: Readonly<Record<string, Matrix>>;
  readonly batch: Batch;
  readonly kernels: Kernels;
  /** Matrices that are used again for every batch. */
  readonly scratch: Scratch;
  /** `[size] f32`: how much each example's loss counts. Gradients are those of Σ share · loss. */
  readonly shares: Float32Array;
  /** Where they are written, zeros before, of inputs and parameters by their names; null where none are wanted, as in evaluations. */
  readonly gradients: Readonly<Record<string, Matrix>> | null;
}

/** Options of {@link custom}. */
export interface CustomOptions {
  /** The features that it reads. */
  readonly inputs: readonly string[];
  /** The labels with classes that it reads, in `batch.labels` or `batch.labelSets`. */
  readonly labels?: readonly string[] | undefined;
  /** The labels that are numbers, in `batch.targets`. */
  readonly targets?: readonly string[] | undefined;
  /** In `batch.numbers`. */
  readonly numbers?: readonly string[] | undefined;
  /**
   * Shapes of the parameters: `{ weight: [classes, dim] }`, or made of what is known when training begins. Those of two dimensions start uniform,
   * within √(6 / columns) of 0, others at 0.
   */
  readonly parameters?:
    | Readonly<Record<string, readonly number[]>>
    | ((context: ObjectiveContext) => Readonly<Record<string, readonly number[]>>)
    | undefined;
  /** Of the parameters' start; default 0. */
  readonly seed?: number | undefined;
  /** Overrides of the trainer's optimiser for the parameters. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
  /** `[size]` losses, one for each example; and, for metrics beside the loss, what was predicted. */
  readonly loss: (given: CustomLoss) => Float32Array | (Omit<Outputs, 'weights'> & { readonly losses: Float32Array });
}

const names: OptionNames<CustomOptions> = {
  inputs: true,
  labels: true,
  targets: true,
  numbers: true,
  parameters: true,
  seed: true,
  learningRate: true,
  weightDecay: true,
  loss: true,
};

/**
 * @example
 * // Pulls the vectors of two features together: half the squared distance.
 * custom({
 *   inputs: ['left', 'right'],
 *   loss({ inputs: { left, right }, shares, gradients }) {
 *     return shares.map((share, i) => {
 *       let loss = 0;
 *       for (let at = i * left.cols; at < (i + 1) * left.cols; at++) {
 *         const difference = left.data[at] - right.data[at];
 *         loss += difference ** 2 / 2;
 *         if (gradients) gradients.left.data[at] = share * difference;
 *         if (gradients) gradients.right.data[at] = -share * difference;
 *       }
 *       return loss;
 *     });
 *   },
 * });
 */
export function custom(options: CustomOptions): Objective {
  checkOptionNames('custom', options, names);
  return new Custom(options);
}

class Custom implements Objective {
  readonly inputs: readonly string[];
  readonly labels: readonly string[];
  readonly targets: readonly string[];
  readonly numbers: readonly string[];
  readonly learningRate: number | undefined;
  readonly weightDecay: number | undefined;
  readonly #options: CustomOptions;
  readonly #owned = new Owned('custom');
  /** The function's, and this objective's own: names of the one never meet those of the other. */
  readonly #scratch = new Scratch();
  readonly #kept = new Scratch();
  #kernels!: Kernels;
  #parameters: readonly DenseParameter[] = [];

  constructor(options: CustomOptions) {
    this.#options = options;
    const { inputs, labels = [], targets = [], numbers = [] } = options;
    [this.inputs, this.labels, this.targets, this.numbers] = [inputs, labels, targets, numbers];
    this.learningRate = options.learningRate;
    this.weightDecay = options.weightDecay;
  }

  initialize(context: ObjectiveContext): readonly DenseParameter[] {
    this.#owned.claim();
    const { parameters = {}, seed = 0 } = this.#options;
    this.#kernels = context.kernels;
    const shapes = typeof parameters === 'function' ? parameters(context) : parameters;
    this.#parameters = Object.entries(shapes).map(([name, shape]) => {
      if (this.inputs.includes(name)) throw refused(`parameter "${name}" has the name of a feature`);
      if (shape.length === 0 || !shape.every((n) => Number.isInteger(n) && n > 0))
        throw refused(`parameter "${name}" has shape [${shape.join(', ')}]; allowed: whole numbers from 1`);
      const made = parameter(name, shape);
      if (shape.length === 2) fillHeUniform(made, shape[1]!, seed);
      return made;
    });
    return this.#parameters;
  }

  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums {
    const written: Record<string, Matrix> = {};
    // Of a frozen table nobody asks, but the function need not know.
    for (const [name, { rows, cols }] of Object.entries(inputs))
      written[name] = gradients[name] ?? this.#kept.matrix(`${name}/gradient`, rows, cols);
    for (const made of this.#parameters) written[made.name] = asMatrix(made, made.gradient);
    for (const { data } of Object.values(written)) data.fill(0);
    return this.#run(inputs, batch, written).sums;
  }

  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): Evaluated {
    return this.#run(inputs, batch, null);
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return meanExamples(sums, examples);
  }

  #run(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>> | null,
  ): { sums: MetricSums; outputs: Outputs } {
    const { size, weights } = batch;
    const shares = this.#kept.matrix('shares', 1, size).data;
    for (let i = 0; i < size; i++) shares[i] = (weights ? weights[i]! : 1) / size;
    const found = this.#options.loss({
      inputs,
      parameters: Object.fromEntries(this.#parameters.map((made) => [made.name, asMatrix(made, made.value)])),
      batch,
      kernels: this.#kernels,
      scratch: this.#scratch,
      shares,
      gradients,
    });
    const outputs = found instanceof Float32Array ? { losses: found } : found;
    // The function may be JavaScript.
    const { losses } = (outputs as Partial<Outputs> | undefined) ?? {};
    if (!(losses instanceof Float32Array) || losses.length !== size) {
      const what = losses instanceof Float32Array ? `${losses.length} losses` : 'something else';
      throw refused(`loss returned ${what}; allowed: a Float32Array of ${size}, or { losses }, one for each example`);
    }
    return { sums: sumExamples({ loss: losses }, weights), outputs: { ...outputs, weights } };
  }
}

function asMatrix({ shape }: DenseParameter, data: Float32Array): Matrix {
  return shape.length === 1 ? matrix(1, shape[0]!, data) : matrix(shape[0]!, data.length / shape[0]!, data);
}

function refused(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `custom objective: ${message}`);
}
