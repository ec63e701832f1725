/**
 * Word vectors from texts without labels: skip-gram and CBOW with negative sampling (Mikolov et al.: "Distributed representations of words and phrases and
 * their compositionality", NIPS 2013). Pairs and negatives are made of a batch's own tokens, from counter-based random numbers, so that a batch gives the
 * same ones whatever threads and workers there are, and nothing is the size of the vocabulary.
 *
 * Where we differ: a center's words share its negatives (as in Ji et al. 2016), each of which then counts for all of them; and negatives come from the
 * batch's tokens, drawn by count^(exponent - 1), so that they are distributed as count^exponent: a token is there in proportion to its count.
 */
import { checkOptionNames, FinetableError, Scratch, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { checkCounts, rowOfEach, vectorsOfEach } from './bags.ts';
import { sigmoid, softplus } from './logistic.ts';
import { Owned } from './owned.ts';
import { WordPairs, type Tokens } from './word-pairs.ts';

/** Options of {@link skipgram} and {@link cbow}. */
export interface WordVectorOptions {
  /** A feature with the tokens of a text that are not pooled: the vectors that are wanted. */
  readonly input: string;
  /**
   * The same tokens again, from the same table or from another one with an adapter of its own (such as the same file a second time): the vectors that
   * words have as another's context.
   */
  readonly context: string;
  /** Words on each side, at most; for each center a number up to it is drawn. Default 5. */
  readonly window?: number | undefined;
  /** For each center; default 5. */
  readonly negatives?: number | undefined;
  /** Negatives are drawn by count^exponent; default 0.75. */
  readonly exponent?: number | undefined;
  /** `[rows]`: how often each word is in the corpus. Default: what is in the batch stands for it, and nothing is left out. */
  readonly counts?: ArrayLike<number> | undefined;
  /** A word with a share f of the corpus is kept with probability √(t / f) + t / f; needs `counts`. Default: all are. */
  readonly subsample?: number | undefined;
  /** Default 0. */
  readonly seed?: number | undefined;
}

const names: OptionNames<WordVectorOptions> = {
  input: true,
  context: true,
  window: true,
  negatives: true,
  exponent: true,
  counts: true,
  subsample: true,
  seed: true,
};

/** A word predicts each of those around it. Metric: `loss`, the mean over pairs of -log σ(s⁺) - Σ log σ(-s⁻). */
export function skipgram(options: WordVectorOptions): Objective {
  return checked('skipgram', options);
}

/** The mean of the words around it predicts a word. Metric: `loss`, the mean over centers. */
export function cbow(options: WordVectorOptions): Objective {
  return checked('cbow', options);
}

type Architecture = 'skipgram' | 'cbow';

function checked(name: Architecture, options: WordVectorOptions): Objective {
  checkOptionNames(name, options, names);
  const { input, context, window = 5, negatives = 5, exponent = 0.75, counts, subsample } = options;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${name}: ${message}`);
  };
  if (input === context) refuse('input and context are one feature; make one of each over the same column');
  if (!Number.isInteger(window) || window < 1) refuse(`window: found ${window}; allowed: 1 or more`);
  if (!Number.isInteger(negatives) || negatives < 1) refuse(`negatives: found ${negatives}; allowed: 1 or more`);
  if (!Number.isFinite(exponent)) refuse(`exponent: found ${exponent}; allowed: a number`);
  if (subsample !== undefined && !(subsample > 0)) refuse(`subsample: found ${subsample}; allowed: a number above 0`);
  if (subsample !== undefined && !counts) refuse('subsample needs counts');
  return new WordVectors(name, options);
}

class WordVectors implements Objective {
  readonly inputs: readonly string[];
  readonly labels: readonly string[] = [];
  readonly #architecture: Architecture;
  readonly #options: WordVectorOptions;
  readonly #owned: Owned;
  readonly #scratch = new Scratch();
  #kernels!: Kernels;
  readonly #pairs: WordPairs;

  constructor(architecture: Architecture, options: WordVectorOptions) {
    this.#architecture = architecture;
    this.#options = options;
    this.#owned = new Owned(architecture);
    this.inputs = [options.input, options.context];
    this.#pairs = new WordPairs(architecture, options, this.#scratch);
  }

  initialize({ kernels, featureDims }: ObjectiveContext): readonly DenseParameter[] {
    this.#owned.claim();
    this.#kernels = kernels;
    const { input, context } = this.#options;
    if (featureDims[input] !== featureDims[context])
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${this.#architecture}: input has ${featureDims[input]} dims, context ${featureDims[context]}; they must have the same`,
      );
    return [];
  }

  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums {
    const { input, context } = this.#options;
    const of = (name: string): Matrix =>
      gradients[name] ?? this.#scratch.matrix(`${name}/gradient`, inputs[name]!.rows, inputs[name]!.cols);
    return this.#run(inputs, batch, { x: of(input), y: of(context) }).sums;
  }

  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): Evaluated {
    const { sums, losses } = this.#run(inputs, batch, null);
    return { sums, outputs: { losses, weights: batch.weights } };
  }

  metrics({ pairLoss, pairs }: MetricSums): Readonly<Record<string, number>> {
    return { loss: pairs! > 0 ? pairLoss! / pairs! : 0 };
  }

  #run(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: { readonly x: Matrix; readonly y: Matrix } | null,
  ): { sums: MetricSums; losses: Float32Array } {
    const { input, context } = this.#options;
    const kernels = this.#kernels;
    const rows = rowOfEach(batch, context);
    checkCounts(batch, context, this.#options.counts, `${this.#architecture}: counts`);
    const [x, y] = [inputs[input]!, inputs[context]!];
    const tokens = this.#pairs.tokens(batch, vectorsOfEach(batch, input), rows);
    const { offsets, places, times } = this.#pairs.candidates(batch, tokens, rows);
    const mean = this.#architecture === 'cbow' ? new Mean(kernels, this.#scratch, tokens, x.cols) : null;
    const vectors = mean ? mean.of(x) : x;
    const scores = this.#scratch.matrix('scores', 1, places.length).data;
    kernels.bagDots({ x: vectors, y, offsets, places, out: scores });

    const losses = this.#scratch.matrix('losses', 1, batch.size).data.fill(0);
    let [pairLoss, pairs] = [0, 0];
    for (let at = 0; at < x.rows; at++) {
      const text = tokens.textOf[at]!;
      const weight = batch.weights ? batch.weights[text]! : 1;
      let loss = 0;
      for (let j = offsets[at]!; j < offsets[at + 1]!; j++) {
        const [score, factor] = [scores[j]!, times[j]!];
        const truth = factor > 0;
        if (truth) pairs += weight;
        loss += Math.abs(factor) * softplus(truth ? -score : score);
        // -log σ(s) of a truth, -log σ(-s) of a negative, which stands for as many as there are truths.
        scores[j] = weight * factor * (truth ? -sigmoid(-score) : -sigmoid(score));
      }
      losses[text]! += loss;
      pairLoss += weight * loss;
    }
    const share = pairs > 0 ? 1 / pairs : 0;
    for (let text = 0; text < batch.size; text++) losses[text]! *= batch.size * share;
    if (gradients) {
      kernels.scaleInPlace(scores, share);
      const xOut = mean ? mean.gradient : gradients.x;
      kernels.bagDotsBackward({ x: vectors, y, offsets, places, gradient: scores, xOut, yOut: gradients.y });
      mean?.backward(x, gradients.x);
    }
    return { sums: { loss: pairLoss * batch.size * share, pairLoss, pairs }, losses };
  }
}

/** The mean of the vectors around each token. */
class Mean {
  /** `[tokens, D]`: of the means, for `backward`. */
  readonly gradient: Matrix;
  readonly #kernels: Kernels;
  readonly #mean: Matrix;
  readonly #bags: { readonly offsets: Int32Array; readonly places: Int32Array; readonly gradient: Float32Array };

  constructor(kernels: Kernels, scratch: Scratch, { offsets, around }: Tokens, dim: number) {
    const tokens = offsets.length - 1;
    this.#kernels = kernels;
    this.#mean = scratch.matrix('mean', tokens, dim);
    this.gradient = scratch.matrix('mean/gradient', tokens, dim);
    const shares = scratch.matrix('mean/shares', 1, around.length).data;
    for (let i = 0; i < tokens; i++) shares.fill(1 / (offsets[i + 1]! - offsets[i]!), offsets[i]!, offsets[i + 1]!);
    this.#bags = { offsets, places: around, gradient: shares };
  }

  of(x: Matrix): Matrix {
    // The sum of what is around is the gradient of products with it.
    this.#kernels.bagDotsBackward({ ...this.#bags, x: this.gradient, y: x, xOut: this.#mean });
    return this.#mean;
  }

  /** @param out overwritten */
  backward(x: Matrix, out: Matrix): void {
    this.#kernels.bagDotsBackward({ ...this.#bags, x: this.gradient, y: x, yOut: out });
  }
}
