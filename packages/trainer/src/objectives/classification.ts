/** Classification of pooled features: a linear layer or an MLP, one class or several for each example. */
import { checkOptionNames, FinetableError, Scratch, type Jagged, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { Outputs } from '../metrics/outputs.ts';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { meanExamples, scaleRows, sumExamples } from './examples.ts';
import { InputRows } from './inputs.ts';
import { Linear, Mlp } from './layers.ts';
import { checkNumber, refuse } from './options.ts';

/** Options of {@link classification}. */
export interface ClassificationOptions {
  /** The feature that is classified, or several, side by side. */
  readonly input: string | readonly string[];
  /** The label with the class, or with the classes. */
  readonly label: string;
  /** `softmax` (default): one class for each example. `sigmoid`: any number of them. */
  readonly activation?: 'softmax' | 'sigmoid' | undefined;
  /** Widths of the layers with ReLU before the last one; default none. */
  readonly hidden?: readonly number[] | undefined;
  /** By class, what its part of the loss is multiplied by; default 1. */
  readonly classWeights?: Readonly<Record<string, number>> | undefined;
  /** The share of the target that is spread over all classes, in [0, 1) (Szegedy et al. 2016); default 0. */
  readonly labelSmoothing?: number | undefined;
  /** Divide each feature's vectors by their Euclidean norms first. Default false. */
  readonly normalize?: boolean | undefined;
  /** Of the hidden layers' first weights; default 0. */
  readonly seed?: number | undefined;
  /** Overrides of the trainer's optimiser for weights and biases. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
}

const names: OptionNames<ClassificationOptions> = {
  input: true,
  label: true,
  activation: true,
  hidden: true,
  classWeights: true,
  labelSmoothing: true,
  normalize: true,
  seed: true,
  learningRate: true,
  weightDecay: true,
};

/**
 * Logits z = x Wᵀ + bias, W `[C, D]` and bias `[C]`, both starting at 0, x being the features or what hidden layers make of them.
 * - softmax: cross-entropy of softmax(z) with the class, times the class's weight.
 * - sigmoid: the mean over classes of the binary cross-entropy of σ(z), each times its class's weight.
 *
 * Metrics: `loss` (in nats) and `accuracy`, for sigmoid that of whole sets.
 * @throws INVALID_ARGUMENT
 */
export function classification(options: ClassificationOptions): Objective {
  checkOptionNames('classification', options, names);
  const { activation = 'softmax', hidden = [], labelSmoothing = 0, classWeights = {} } = options;
  if (!['softmax', 'sigmoid'].includes(activation))
    throw refuse('classification', 'activation', activation, '"softmax", "sigmoid"');
  hidden.forEach((width, i) => checkNumber('classification', `hidden[${i}]`, width, { integer: true, from: 1 }));
  checkNumber('classification', 'labelSmoothing', labelSmoothing, { from: 0, below: 1 });
  for (const [name, weight] of Object.entries(classWeights))
    checkNumber('classification', `classWeights.${name}`, weight, { from: 0 });
  return new Classification(options);
}

class Classification implements Objective {
  readonly inputs: readonly string[];
  readonly pooled: readonly string[];
  readonly labels: readonly string[];
  readonly learningRate: number | undefined;
  readonly weightDecay: number | undefined;
  readonly #options: ClassificationOptions;
  readonly #rows: InputRows;
  readonly #scratch = new Scratch();
  #kernels: Kernels | null = null;
  #mlp!: Mlp;
  #last!: Linear;
  /** `[C]`; null for 1. */
  #classWeights: Float32Array | null = null;

  constructor(options: ClassificationOptions) {
    this.#options = options;
    this.inputs = typeof options.input === 'string' ? [options.input] : options.input;
    this.pooled = this.inputs;
    this.#rows = new InputRows('classification', this.inputs, options.normalize ?? false);
    this.labels = [options.label];
    this.learningRate = options.learningRate;
    this.weightDecay = options.weightDecay;
  }

  initialize({ kernels, featureDims, classes }: ObjectiveContext): readonly DenseParameter[] {
    if (this.#kernels) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        'the objective is in use by another trainer; make one for each with classification()',
      );
    }
    const { label, hidden = [], seed = 0, activation } = this.#options;
    const names = classes[label]!;
    const least = activation === 'sigmoid' ? 1 : 2;
    if (names.length < least) {
      throw new FinetableError(
        'INVALID_DATA',
        `label "${label}" has ${names.length} class; classification needs ${least} or more`,
      );
    }
    this.#classWeights = weightsOf(names, this.#options.classWeights, label);
    this.#kernels = kernels;
    const dim = this.#rows.initialize(kernels, featureDims);
    this.#mlp = new Mlp(kernels, 'hidden.', dim, hidden, seed);
    this.#last = new Linear(kernels, '', this.#mlp.outputs, names.length);
    return [...this.#mlp.parameters, ...this.#last.parameters];
  }

  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums {
    const { x, made, logits, sums } = this.#forward(inputs, batch, true);
    const wanted = this.inputs.some((name) => gradients[name]) ? this.#rows.gradientOf(x, gradients) : null;
    if (made === x) this.#last.backward(x, logits, wanted);
    else {
      const gradient = this.#scratch.matrix('made/gradient', made.rows, made.cols);
      this.#last.backward(made, logits, gradient);
      this.#mlp.backward(gradient, wanted);
    }
    if (wanted) this.#rows.backward(wanted, inputs, gradients);
    return sums;
  }

  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): Evaluated {
    const { sums, outputs } = this.#forward(inputs, batch, false);
    return { sums, outputs };
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return meanExamples(sums, examples);
  }

  /** Logits, which their gradient overwrites when `train`. */
  #forward(inputs: Readonly<Record<string, Matrix>>, batch: Batch, train: boolean) {
    const x = this.#rows.forward(inputs);
    const made = this.#mlp.forward(x);
    const logits = this.#scratch.matrix('logits', x.rows, this.#last.outputs);
    this.#last.forward(made, logits);
    const losses = this.#scratch.matrix('losses', x.rows, 1).data;
    const outputs =
      this.#options.activation === 'sigmoid'
        ? this.#sigmoid(logits, losses, batch, train)
        : this.#softmax(logits, losses, batch, train);
    const { weights } = batch;
    if (train && weights) scaleRows(logits, weights);
    return {
      x,
      made,
      logits,
      sums: sumExamples({ loss: losses, accuracy: outputs.correct }, weights),
      outputs: { ...outputs.metrics, losses, weights } satisfies Outputs,
    };
  }

  #softmax(logits: Matrix, losses: Float32Array, batch: Batch, train: boolean) {
    const { label, labelSmoothing = 0 } = this.#options;
    const labels = batch.labels[label];
    if (!labels) throw wrongLabel(label, 'softmax', 'class');
    const [count, scale] = [logits.cols, 1 / logits.rows];
    const predicted = largest(logits);
    const smoothed = labelSmoothing > 0 ? smoothing(logits, labels, labelSmoothing) : null;
    this.#kernels!.softmaxCrossEntropy({ logits, labels, losses, gradient: train ? logits : null, scale });
    if (smoothed) {
      smoothed.forEach((more, i) => (losses[i]! += more));
      if (train) smoothGradient(logits, labels, labelSmoothing * scale);
    }
    if (this.#classWeights) {
      const weights = Float32Array.from(labels, (c) => this.#classWeights![c]!);
      weights.forEach((weight, i) => (losses[i]! *= weight));
      if (train) scaleRows(logits, weights);
    }
    const correct = predicted.map((c, i) => Number(c === labels[i]));
    return { correct, metrics: { classes: { count, predicted, labels } } };
  }

  #sigmoid(logits: Matrix, losses: Float32Array, batch: Batch, train: boolean) {
    const { label, labelSmoothing = 0 } = this.#options;
    const labels = batch.labelSets[label];
    if (!labels) throw wrongLabel(label, 'sigmoid', 'classes');
    // The gradient overwrites the logits, which metrics are made of only without it.
    const correct = binaryCrossEntropy(logits, labels, labelSmoothing, this.#classWeights, losses, train);
    return { correct, metrics: { labelSets: { logits, labels } } };
  }
}

function wrongLabel(label: string, activation: string, type: string): FinetableError {
  return new FinetableError(
    'INVALID_ARGUMENT',
    `classification: with activation "${activation}" label "${label}" must have type "${type}", which the batch has not`,
    { label },
  );
}

/** @throws INVALID_ARGUMENT for a class that there is not */
function weightsOf(
  classes: readonly string[],
  given: Readonly<Record<string, number>> | undefined,
  label: string,
): Float32Array | null {
  if (!given) return null;
  for (const name of Object.keys(given)) {
    if (classes.includes(name)) continue;
    const known = classes.slice(0, 10).map((known) => `"${known}"`);
    throw refuse('classification', 'classWeights', name, `classes of "${label}": ${known.join(', ')}${classes.length > 10 ? ', …' : ''}`); // prettier-ignore
  }
  return Float32Array.from(classes, (name) => (Object.hasOwn(given, name) ? given[name]! : 1));
}

/** `[rows] i32`: the column with the largest value of each row; of equal ones the first. */
function largest({ data, rows, cols }: Matrix): Int32Array {
  const out = new Int32Array(rows);
  for (let i = 0, first = 0; i < rows; i++, first += cols) {
    let best = 0;
    for (let c = 1; c < cols; c++) if (data[first + c]! > data[first + best]!) best = c;
    out[i] = best;
  }
  return out;
}

/** What smoothing adds to each loss: ε (z of the class - the mean of z). */
function smoothing({ data, cols }: Matrix, labels: Int32Array, epsilon: number): Float64Array {
  return Float64Array.from(labels, (label, i) => {
    let sum = 0;
    for (let c = 0; c < cols; c++) sum += data[i * cols + c]!;
    return epsilon * (data[i * cols + label]! - sum / cols);
  });
}

function smoothGradient({ data, rows, cols }: Matrix, labels: Int32Array, epsilon: number): void {
  for (let i = 0, at = 0; i < rows; i++) {
    data[at + labels[i]!]! += epsilon;
    for (let c = 0; c < cols; c++) data[at++]! -= epsilon / cols;
  }
}

/** @returns 1 for each example whose whole set is predicted; where `train`, gradients of the mean over examples are in `logits` then */
function binaryCrossEntropy(
  { data, rows, cols }: Matrix,
  { values, offsets }: Jagged,
  smooth: number,
  classWeights: Float32Array | null,
  losses: Float32Array,
  train: boolean,
): Float64Array {
  const correct = new Float64Array(rows);
  const inSet = new Uint8Array(cols);
  const scale = 1 / (rows * cols);
  for (let i = 0, at = 0; i < rows; i++) {
    for (let j = offsets[i]!; j < offsets[i + 1]!; j++) inSet[values[j]!] = 1;
    let [loss, right] = [0, 1];
    for (let c = 0; c < cols; c++, at++) {
      const z = data[at]!;
      if (z > 0 !== (inSet[c] === 1)) right = 0;
      const target = inSet[c]! * (1 - smooth) + smooth / 2;
      const weight = classWeights ? classWeights[c]! : 1;
      // e of what is below 0 never overflows.
      const e = Math.exp(-Math.abs(z));
      loss += weight * (Math.max(z, 0) - z * target + Math.log1p(e));
      if (train) data[at] = weight * scale * ((z > 0 ? 1 : e) / (1 + e) - target);
    }
    losses[i] = loss / cols;
    correct[i] = right;
    for (let j = offsets[i]!; j < offsets[i + 1]!; j++) inSet[values[j]!] = 0;
  }
  return correct;
}
