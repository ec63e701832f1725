/** Regression on scored pairs: how alike two vectors are is to be as somebody has said. */
import { checkOptionNames, FinetableError, Scratch, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { meanExamples, sumExamples } from './examples.ts';
import { checkNumber, refuse } from './options.ts';

/** Options of {@link similarity}. */
export interface SimilarityOptions {
  /** The features of a pair. */
  readonly first: string;
  readonly second: string;
  /** The label with its score, a number. */
  readonly label: string;
  /** `mse` (default): the cosine is to be the score. `cosent`: cosines are to be in the order of the scores. */
  readonly loss?: 'mse' | 'cosent' | undefined;
  /** Scores from lowest to highest, which become 0 to 1; default `[0, 1]`. Only `mse` minds. */
  readonly range?: readonly [number, number] | undefined;
  /** Of `cosent`: multiplies differences of cosines; above 0, up to 300; default 20. */
  readonly scale?: number | undefined;
}

const names: OptionNames<SimilarityOptions> = {
  first: true,
  second: true,
  label: true,
  loss: true,
  range: true,
  scale: true,
};

/**
 * With c the cosine of a pair's vectors and t its score:
 * - mse: (c - t)² (Reimers and Gurevych: "Sentence-BERT", 2019).
 * - cosent: log(1 + Σ exp(scale (c_j - c_i))) over the pairs of the batch with t_i > t_j (Su: "CoSENT", 2022), the same for each of its
 *   examples. Weights of examples multiply: w_i w_j.
 *
 * Without parameters. Metrics: `loss`; chosen ones: `pearson`, `spearman`, `rmse`.
 * @throws INVALID_ARGUMENT
 */
export function similarity(options: SimilarityOptions): Objective {
  const where = 'similarity';
  checkOptionNames(where, options, names);
  const { first, second, loss = 'mse', range = [0, 1], scale = 20 } = options;
  if (first === second) throw refuse(where, 'second', second, 'another feature than the first');
  if (!['mse', 'cosent'].includes(loss)) throw refuse(where, 'loss', loss, '"mse", "cosent"');
  checkNumber(where, 'scale', scale, { above: 0, to: 300 });
  range.forEach((end, i) => checkNumber(where, `range[${i}]`, end));
  if (range.length !== 2 || !(range[0] < range[1]))
    throw refuse(where, 'range', range, 'the lowest and the highest score');
  return new Similarity(options);
}

type Matrices = Readonly<Record<string, Matrix>>;

class Similarity implements Objective {
  readonly inputs: readonly [string, string];
  readonly pooled: readonly string[];
  readonly labels: readonly string[] = [];
  readonly targets: readonly string[];
  readonly #options: SimilarityOptions;
  readonly #scratch = new Scratch();
  #kernels: Kernels | null = null;

  constructor(options: SimilarityOptions) {
    this.#options = options;
    this.inputs = [options.first, options.second];
    this.pooled = this.inputs;
    this.targets = [options.label];
  }

  initialize({ kernels, featureDims }: ObjectiveContext): readonly DenseParameter[] {
    if (this.#kernels) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        'the objective is in use by another trainer; make one for each with similarity()',
      );
    }
    const [first, second] = this.inputs;
    if (featureDims[first] !== featureDims[second]) {
      const found = `"${first}" has ${featureDims[first]} dims, "${second}" ${featureDims[second]}`;
      throw new FinetableError('INVALID_ARGUMENT', `similarity: ${found}; allowed: as many for both`);
    }
    this.#kernels = kernels;
    return [];
  }

  train(inputs: Matrices, batch: Batch, gradients: Matrices): MetricSums {
    const kernels = this.#kernels!;
    const [first, second] = this.inputs;
    const [x, y] = [inputs[first]!, inputs[second]!];
    const slopes = this.#vector('slopes', batch.size);
    const { sums } = this.#forward(x, y, batch, slopes);
    const backward = (own: Matrix, other: Matrix, gradient: Matrix | undefined, norms: Float32Array): void => {
      if (!gradient) return;
      timesRows(other, slopes, gradient);
      kernels.normalizeRowsBackward(own, norms, gradient);
    };
    backward(x, y, gradients[first], this.#vector('norms/0', batch.size));
    backward(y, x, gradients[second], this.#vector('norms/1', batch.size));
    return sums;
  }

  evaluate(inputs: Matrices, batch: Batch): Evaluated {
    const [first, second] = this.inputs;
    const { sums, losses, predicted, targets } = this.#forward(inputs[first]!, inputs[second]!, batch, null);
    return { sums, outputs: { losses, weights: batch.weights, scores: { predicted, targets, kind: 'value' } } };
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return meanExamples(sums, examples);
  }

  /** @param slopes overwritten with the gradient of the loss with respect to each cosine */
  #forward(x: Matrix, y: Matrix, batch: Batch, slopes: Float32Array | null) {
    const { size, weights } = batch;
    const { label, loss = 'mse', range: [low, high] = [0, 1], scale = 20 } = this.#options;
    this.#kernels!.normalizeRows(x, this.#vector('norms/0', size));
    this.#kernels!.normalizeRows(y, this.#vector('norms/1', size));
    const predicted = this.#vector('predicted', size);
    dotRows(x, y, predicted);
    const targets = this.#vector('targets', size);
    batch.targets[label]!.forEach((score, i) => (targets[i] = (score - low) / (high - low)));
    const losses = this.#vector('losses', size);
    if (loss === 'cosent') {
      const whole = cosent(predicted, targets, weights, scale, slopes);
      losses.fill(whole);
      return { sums: { loss: size * whole }, losses, predicted, targets };
    }
    for (let i = 0; i < size; i++) {
      const off = predicted[i]! - targets[i]!;
      losses[i] = off * off;
      if (slopes) slopes[i] = (2 * off * (weights ? weights[i]! : 1)) / size;
    }
    return { sums: sumExamples({ loss: losses }, weights), losses, predicted, targets };
  }

  #vector(name: string, length: number): Float32Array {
    return this.#scratch.matrix(name, length, 1).data;
  }
}

/**
 * Sums of exp(scale c) below each score and of exp(-scale c) above it make it n log n rather than n².
 * @param slopes overwritten with dL/dc
 */
function cosent(
  cosines: Float32Array,
  scores: Float32Array,
  weights: Float32Array | null,
  scale: number,
  slopes: Float32Array | null,
): number {
  const n = cosines.length;
  const order = Uint32Array.from(cosines, (_, i) => i).sort((a, b) => scores[a]! - scores[b]!);
  const weight = (i: number): number => (weights ? weights[i]! : 1);
  /** Σ of `of` over the examples before each one in `order` whose score is another. */
  const sumsBefore = (order: Uint32Array, of: (i: number) => number): Float64Array => {
    const sums = new Float64Array(n);
    let sum = 0;
    for (let begin = 0, end = 0; begin < n; begin = end) {
      let own = 0;
      for (; end < n && scores[order[end]!] === scores[order[begin]!]; end++) {
        sums[order[end]!] = sum;
        own += of(order[end]!);
      }
      sum += own;
    }
    return sums;
  };
  const up = (i: number): number => weight(i) * Math.exp(scale * cosines[i]!);
  const down = (i: number): number => weight(i) * Math.exp(-scale * cosines[i]!);
  const below = sumsBefore(order, up);
  let total = 0;
  for (let i = 0; i < n; i++) total += down(i) * below[i]!;
  if (slopes) {
    const above = sumsBefore(order.reverse(), down);
    for (let i = 0; i < n; i++) slopes[i] = (scale * (up(i) * above[i]! - down(i) * below[i]!)) / (1 + total);
  }
  return Math.log1p(total);
}

function dotRows(x: Matrix, y: Matrix, out: Float32Array): void {
  for (let i = 0, at = 0; i < x.rows; i++) {
    let sum = 0;
    for (let c = 0; c < x.cols; c++, at++) sum += x.data[at]! * y.data[at]!;
    out[i] = sum;
  }
}

/** Row i of `x` times factor i. */
function timesRows(x: Matrix, factors: Float32Array, out: Matrix): void {
  for (let i = 0, at = 0; i < x.rows; i++)
    for (let c = 0; c < x.cols; c++, at++) out.data[at] = factors[i]! * x.data[at]!;
}
