/**
 * Whether somebody clicks: many tables and numbers, their interactions in pairs, and a multilayer perceptron over those, as DLRM has it (Naumov
 * et al.: "Deep learning recommendation model for personalization and recommendation systems", 2019).
 */
import { checkOptionNames, FinetableError, Scratch, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { meanExamples, scaleRows, sumExamples } from './examples.ts';
import { concatenateColumns, fillHeUniform, firstColumns, Linear, Mlp } from './layers.ts';
import { sigmoid, softplus } from './logistic.ts';
import { Owned } from './owned.ts';

/** Options of {@link ctr}. */
export interface CtrOptions {
  /** Features, pooled, all of the same dims. */
  readonly inputs: readonly string[];
  /** The data's numbers that go in beside them. Default: none. */
  readonly numbers?: readonly string[] | undefined;
  /** A label of type `number`: 1 for a click, 0 for none, or a share of both. */
  readonly label: string;
  /** Hidden layers of the perceptron that makes one more vector of the numbers, of the features' dims. Default `[64]`. */
  readonly bottom?: readonly number[] | undefined;
  /** Hidden layers of the one that makes the score. Default `[64, 32]`. */
  readonly top?: readonly number[] | undefined;
  /** Of the weights' random start; default 0. */
  readonly seed?: number | undefined;
  /** Overrides of the trainer's optimiser for the perceptrons. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
}

const names: OptionNames<CtrOptions> = {
  inputs: true,
  numbers: true,
  label: true,
  bottom: true,
  top: true,
  seed: true,
  learningRate: true,
  weightDecay: true,
};

/**
 * Logistic loss of a score from the dot products of all pairs of vectors, beside the vector of the numbers. Metrics: `loss` (in nats); and
 * auc, log-loss, normalized-entropy and calibration.
 */
export function ctr(options: CtrOptions): Objective {
  checkOptionNames('ctr', options, names);
  const { inputs, numbers = [], bottom = [], top = [] } = options;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `ctr: ${message}`);
  };
  if (new Set(inputs).size < inputs.length) refuse(`inputs: found one twice in ${inputs.join(', ')}`);
  if (inputs.length + Number(numbers.length > 0) < 2 || inputs.length === 0)
    refuse(`inputs: found ${inputs.length}; allowed: 2 or more, or 1 beside numbers`);
  for (const hidden of [...bottom, ...top])
    if (!Number.isInteger(hidden) || hidden < 1) refuse(`bottom, top: found ${hidden}; allowed: whole numbers from 1`);
  return new Ctr(options);
}

class Ctr implements Objective {
  readonly inputs: readonly string[];
  readonly labels: readonly string[] = [];
  readonly targets: readonly string[];
  readonly numbers: readonly string[];
  readonly learningRate: number | undefined;
  readonly weightDecay: number | undefined;
  readonly #options: CtrOptions;
  readonly #scratch = new Scratch();
  readonly #owned = new Owned('ctr');
  #kernels!: Kernels;
  #bottom: Mlp | null = null;
  #top!: Mlp;
  #last!: Linear;

  constructor(options: CtrOptions) {
    this.#options = options;
    this.inputs = options.inputs;
    this.targets = [options.label];
    this.numbers = options.numbers ?? [];
    this.learningRate = options.learningRate;
    this.weightDecay = options.weightDecay;
  }

  initialize({ kernels, featureDims, numberDims }: ObjectiveContext): readonly DenseParameter[] {
    this.#owned.claim();
    const { bottom = [64], top = [64, 32], seed = 0 } = this.#options;
    const dims = this.inputs.map((input) => featureDims[input]!);
    const [dim] = dims as [number];
    if (dims.some((other) => other !== dim)) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `ctr multiplies vectors with each other: features must have the same dims, found ${this.inputs.map((input, i) => `${input} ${dims[i]}`).join(', ')}`,
      );
    }
    this.#kernels = kernels;
    if (this.numbers.length > 0) {
      const columns = this.numbers.reduce((sum, name) => sum + numberDims[name]!, 0);
      this.#bottom = new Mlp(kernels, 'bottom.', columns, [...bottom, dim], seed);
    }
    const vectors = this.inputs.length + Number(this.#bottom !== null);
    const width = (this.#bottom ? dim : 0) + (vectors * (vectors - 1)) / 2;
    this.#top = new Mlp(kernels, 'top.', width, top, seed);
    this.#last = new Linear(kernels, 'score.', this.#top.outputs, 1);
    fillHeUniform(this.#last.parameters[0], this.#top.outputs, seed);
    return [...(this.#bottom?.parameters ?? []), ...this.#top.parameters, ...this.#last.parameters];
  }

  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums {
    const scratch = this.#scratch;
    const { vectors, interactions, hidden, scores } = this.#forward(inputs, batch);
    const { sums, predicted, targets } = this.#sum(scores, batch);
    const g = scratch.matrix('scoreGradient', batch.size, 1);
    for (let i = 0; i < batch.size; i++) g.data[i] = (predicted[i]! - targets[i]!) / batch.size;
    if (batch.weights) scaleRows(g, batch.weights);
    const hiddenGradient = scratch.matrix('hiddenGradient', batch.size, hidden.cols);
    this.#last.backward(hidden, g, hiddenGradient);
    const gradient = scratch.matrix('interactionsGradient', batch.size, interactions.cols);
    this.#top.backward(hiddenGradient, gradient);

    const outs = this.inputs.map((input) => gradients[input] ?? null);
    const firstColumn = this.#bottom ? this.#bottom.outputs : 0;
    const dense = this.#bottom && scratch.matrix('denseGradient', batch.size, firstColumn);
    this.#kernels.pairDotsBackward({ vectors, gradient, firstColumn, outs: dense ? [dense, ...outs] : outs });
    if (dense) {
      const direct = scratch.matrix('direct', batch.size, firstColumn);
      firstColumns(gradient, direct);
      for (let i = 0; i < dense.data.length; i++) dense.data[i]! += direct.data[i]!;
      this.#bottom!.backward(dense, null);
    }
    return sums;
  }

  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): Evaluated {
    const { scores } = this.#forward(inputs, batch);
    const { sums, losses, predicted, targets } = this.#sum(scores, batch);
    const outputs = { losses, weights: batch.weights, scores: { predicted, targets, kind: 'probability' as const } };
    return { sums, outputs };
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return meanExamples(sums, examples);
  }

  #forward(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
  ): { vectors: Matrix[]; interactions: Matrix; hidden: Matrix; scores: Matrix } {
    const vectors = this.inputs.map((input) => inputs[input]!);
    const dense = this.#bottom?.forward(this.#numbersOf(batch));
    if (dense) vectors.unshift(dense);
    const firstColumn = dense ? dense.cols : 0;
    const pairs = (vectors.length * (vectors.length - 1)) / 2;
    const interactions = this.#scratch.matrix('interactions', batch.size, firstColumn + pairs);
    if (dense) concatenateColumns([dense], interactions);
    this.#kernels.pairDots({ vectors, out: interactions, firstColumn });
    const hidden = this.#top.forward(interactions);
    const scores = this.#scratch.matrix('scores', batch.size, 1);
    this.#last.forward(hidden, scores);
    return { vectors, interactions, hidden, scores };
  }

  #numbersOf(batch: Batch): Matrix {
    const parts = this.numbers.map((name) => batch.numbers[name]!);
    if (parts.length === 1) return parts[0]!;
    const out = this.#scratch.matrix(
      'numbers',
      batch.size,
      parts.reduce((sum, { cols }) => sum + cols, 0),
    );
    concatenateColumns(parts, out);
    return out;
  }

  #sum(
    scores: Matrix,
    batch: Batch,
  ): { sums: MetricSums; losses: Float32Array; predicted: Float32Array; targets: Float32Array } {
    const { label } = this.#options;
    const targets = batch.targets[label]!;
    const losses = this.#scratch.matrix('losses', 1, batch.size).data;
    const predicted = this.#scratch.matrix('predicted', 1, batch.size).data;
    for (let i = 0; i < batch.size; i++) {
      const [score, target] = [scores.data[i]!, targets[i]!];
      if (!(target >= 0 && target <= 1)) {
        throw new FinetableError(
          'INVALID_DATA',
          `${batch.files[batch.fileOf?.[i] ?? 0] ?? 'the batch'}, ${batch.unit} ${batch.lines[i]}: label "${label}" is ${target}; allowed: from 0 to 1`,
          { label, line: batch.lines[i]! },
        );
      }
      losses[i] = softplus(score) - target * score;
      predicted[i] = sigmoid(score);
    }
    return { sums: sumExamples({ loss: losses }, batch.weights), losses, predicted, targets };
  }
}
