/** Linear softmax classification of one pooled feature. */
import { checkOptionNames, FinetableError, matrix, Scratch, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { DenseParameter, MetricSums, Objective, ObjectiveContext } from './objective.ts';

export interface ClassificationOptions {
  /** The feature that is classified. */
  readonly input: string;
  /** The label with the class. */
  readonly label: string;
  /** Divide each vector by its Euclidean norm first. Default false. */
  readonly normalize?: boolean | undefined;
  /** Overrides of the trainer's optimiser for weights and bias. */
  readonly learningRate?: number | undefined;
  readonly weightDecay?: number | undefined;
}

const names: OptionNames<ClassificationOptions> = {
  input: true,
  label: true,
  normalize: true,
  learningRate: true,
  weightDecay: true,
};

/**
 * Cross-entropy of softmax(x Wᵀ + bias), W `[C, D]` and bias `[C]`, both starting at 0. Metrics: `loss` (mean, in nats) and `accuracy`.
 * Where examples have weights, losses and gradients are multiplied by them, and the mean is still over the number of examples, as in Keras.
 */
export function classification(options: ClassificationOptions): Objective {
  checkOptionNames('classification', options, names);
  return new Classification(options);
}

class Classification implements Objective {
  readonly inputs: readonly string[];
  readonly labels: readonly string[];
  readonly learningRate: number | undefined;
  readonly weightDecay: number | undefined;
  readonly #options: ClassificationOptions;
  readonly #scratch = new Scratch();
  #initialized = false;
  #kernels!: Kernels;
  #weight!: DenseParameter;
  #bias!: DenseParameter;
  #losses = new Float32Array(0);
  #norms = new Float32Array(0);

  constructor(options: ClassificationOptions) {
    this.#options = options;
    this.inputs = [options.input];
    this.labels = [options.label];
    this.learningRate = options.learningRate;
    this.weightDecay = options.weightDecay;
  }

  initialize({ kernels, featureDims, classes }: ObjectiveContext): readonly DenseParameter[] {
    if (this.#initialized) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        'the objective is in use by another trainer; make one for each with classification()',
      );
    }
    const dim = featureDims[this.#options.input]!;
    const count = classes[this.#options.label]!.length;
    if (count < 2) {
      throw new FinetableError(
        'INVALID_DATA',
        `label "${this.#options.label}" has ${count} class; classification needs 2 or more`,
      );
    }
    this.#initialized = true;
    this.#kernels = kernels;
    this.#weight = parameter('weight', [count, dim]);
    this.#bias = parameter('bias', [count]);
    return [this.#weight, this.#bias];
  }

  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums {
    const kernels = this.#kernels;
    const x = inputs[this.#options.input]!;
    const gradient = gradients[this.#options.input];
    const { logits, sums } = this.#forward(x, batch, true);
    const [count, dim] = this.#weight.shape as [number, number];
    kernels.matmul({ a: logits, b: x, out: matrix(count, dim, this.#weight.gradient), transposeA: true });
    kernels.sumRows(logits, this.#bias.gradient);
    if (!gradient) return sums;
    kernels.matmul({ a: logits, b: matrix(count, dim, this.#weight.value), out: gradient });
    if (this.#options.normalize) kernels.normalizeRowsBackward(x, this.#norms.subarray(0, x.rows), gradient);
    return sums;
  }

  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): MetricSums {
    return this.#forward(inputs[this.#options.input]!, batch, false).sums;
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return { loss: sums.loss! / examples, accuracy: sums.correct! / examples };
  }

  /** Logits, which the gradient overwrites when `train`. */
  #forward(x: Matrix, batch: Batch, train: boolean): { logits: Matrix; sums: MetricSums } {
    const kernels = this.#kernels;
    const [count, dim] = this.#weight.shape as [number, number];
    if (this.#losses.length < x.rows) {
      this.#losses = new Float32Array(x.rows);
      this.#norms = new Float32Array(x.rows);
    }
    if (this.#options.normalize) kernels.normalizeRows(x, this.#norms.subarray(0, x.rows));
    const logits = this.#scratch.matrix('logits', x.rows, count);
    kernels.matmul({ a: x, b: matrix(count, dim, this.#weight.value), out: logits, transposeB: true });
    kernels.addToRows(logits, this.#bias.value);
    const labels = batch.labels[this.#options.label]!;
    const correct = countCorrect(logits, labels);
    const losses = this.#losses.subarray(0, x.rows);
    kernels.softmaxCrossEntropy({ logits, labels, losses, gradient: train ? logits : null, scale: 1 / x.rows });
    if (batch.weights) {
      scaleRows(matrix(x.rows, 1, losses), batch.weights);
      if (train) scaleRows(logits, batch.weights);
    }
    let loss = 0;
    for (const value of losses) loss += value;
    return { logits, sums: { loss, correct } };
  }
}

/** Row i times weight i. */
function scaleRows({ data, rows, cols }: Matrix, weights: Float32Array): void {
  for (let i = 0; i < rows; i++) for (let c = 0; c < cols; c++) data[i * cols + c]! *= weights[i]!;
}

function parameter(name: string, shape: readonly number[]): DenseParameter {
  const length = shape.reduce((product, n) => product * n, 1);
  return { name, shape, value: new Float32Array(length), gradient: new Float32Array(length) };
}

/** Examples whose largest logit is their label's; of equal logits the first counts. */
function countCorrect({ data, cols }: Matrix, labels: Int32Array): number {
  let correct = 0;
  for (let i = 0; i < labels.length; i++) {
    const first = i * cols;
    const own = first + labels[i]!;
    const logit = data[own]!;
    let c = first;
    while (c < own && data[c]! < logit) c++;
    if (c < own) continue;
    const end = first + cols;
    while (c < end && data[c]! <= logit) c++;
    if (c === end) correct++;
  }
  return correct;
}
