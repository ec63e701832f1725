/**
 * Word vectors from texts without labels: skip-gram and CBOW with negative sampling (Mikolov et al.: "Distributed representations of words and phrases and
 * their compositionality", NIPS 2013). Pairs and negatives are made of a batch's own tokens, from counter-based random numbers, so that a batch gives the
 * same ones whatever threads and workers there are, and nothing is the size of the vocabulary.
 *
 * Where we differ: a center's words share its negatives (as in Ji et al. 2016), each of which then counts for all of them; and negatives come from the
 * batch's tokens, drawn by count^(exponent - 1), so that they are distributed as count^exponent: a token is there in proportion to its count.
 */
import {
  checkOptionNames,
  FinetableError,
  RandomStream,
  Scratch,
  upperBound,
  type Matrix,
  type OptionNames,
} from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { checkCounts, rowOfEach, vectorsOfEach } from './bags.ts';
import { sigmoid, softplus } from './logistic.ts';
import { Owned } from './owned.ts';

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
  /** Of all words, 0 without counts. */
  readonly #total: number;

  constructor(architecture: Architecture, options: WordVectorOptions) {
    this.#architecture = architecture;
    this.#options = options;
    this.#owned = new Owned(architecture);
    this.inputs = [options.input, options.context];
    let total = 0;
    for (let row = 0; row < (options.counts?.length ?? 0); row++) total += options.counts![row]!;
    this.#total = total;
  }

  initialize({ featureDims }: ObjectiveContext): readonly DenseParameter[] {
    this.#owned.claim();
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
    const of = (name: string): Float32Array => {
      const { data } =
        gradients[name] ?? this.#scratch.matrix(`${name}/gradient`, inputs[name]!.rows, inputs[name]!.cols);
      return data.fill(0);
    };
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
    gradients: { readonly x: Float32Array; readonly y: Float32Array } | null,
  ): { sums: MetricSums; losses: Float32Array } {
    const { input, context, negatives = 5 } = this.#options;
    const skips = this.#architecture === 'skipgram';
    const rows = rowOfEach(batch, context);
    checkCounts(batch, context, this.#options.counts, `${this.#architecture}: counts`);
    const centers = this.#centers(batch, vectorsOfEach(batch, input), rows);
    const weightOf = (text: number): number => (batch.weights ? batch.weights[text]! : 1);
    let pairs = 0;
    for (const { text, words } of centers) pairs += weightOf(text) * (skips ? words.length : 1);
    const negative = this.#negatives(batch, rows);
    const dim = inputs[input]!.cols;
    const [x, y] = [inputs[input]!.data, inputs[context]!.data];
    const mean = new Float32Array(dim);
    const meanGradient = gradients && new Float32Array(dim);
    const losses = this.#scratch.matrix('losses', 1, batch.size).data.fill(0);
    let pairLoss = 0;
    for (const { text, at, words } of centers) {
      const share = weightOf(text) / pairs;
      if (!skips) average(x, words, dim, mean);
      meanGradient?.fill(0);
      const vector = {
        data: skips ? x : mean,
        at: skips ? at * dim : 0,
        gradient: gradients && (skips ? gradients.x : meanGradient),
      };
      const wanted = skips ? words : [at];
      let loss = 0;
      for (const place of wanted) loss += meet(vector, y, place * dim, gradients && gradients.y, dim, share, true);
      for (let k = 0; k < negatives; k++) {
        const place = negative(at * negatives + k);
        // What is wanted is no negative.
        if (wanted.some((other) => rows[other] === rows[place])) continue;
        const times = wanted.length;
        loss += times * meet(vector, y, place * dim, gradients && gradients.y, dim, share * times, false);
      }
      if (!skips && gradients) spread(meanGradient!, words, dim, gradients.x);
      losses[text]! += (loss * batch.size) / pairs;
      pairLoss += weightOf(text) * loss;
    }
    const loss = pairs > 0 ? (pairLoss * batch.size) / pairs : 0;
    return { sums: { loss, pairLoss, pairs }, losses };
  }

  /** Tokens that are kept, with the kept ones around them. */
  #centers(batch: Batch, offsets: Int32Array, rows: Int32Array): Center[] {
    const { window = 5, seed = 0 } = this.#options;
    const random = new RandomStream(seed, `${this.#architecture}/${batch.epoch}/${batch.index}`);
    const centers: Center[] = [];
    for (let text = 0; text < batch.size; text++) {
      const kept: number[] = [];
      for (let at = offsets[text]!; at < offsets[text + 1]!; at++)
        if (random.uint32(2 * at) < 2 ** 32 * this.#keeps(rows[at]!)) kept.push(at);
      kept.forEach((at, i) => {
        const reach = 1 + random.below(2 * at + 1, window);
        const words = [...kept.slice(Math.max(0, i - reach), i), ...kept.slice(i + 1, i + 1 + reach)];
        if (words.length > 0) centers.push({ text, at, words });
      });
    }
    return centers;
  }

  #keeps(row: number): number {
    const { counts, subsample } = this.#options;
    if (subsample === undefined) return 1;
    const ratio = (subsample * this.#total) / Math.max(1, counts![row]!);
    return Math.sqrt(ratio) + ratio;
  }

  /** The place of the i-th negative. */
  #negatives(batch: Batch, rows: Int32Array): (i: number) => number {
    const { counts, exponent = 0.75, seed = 0 } = this.#options;
    const random = new RandomStream(seed, `${this.#architecture}/negatives/${batch.epoch}/${batch.index}`);
    const here = new Map<number, number>();
    if (!counts) for (const row of rows) here.set(row, (here.get(row) ?? 0) + 1);
    const ends = new Float64Array(rows.length);
    let total = 0;
    rows.forEach((row, place) => {
      total += Math.max(1, counts ? counts[row]! : here.get(row)!) ** (exponent - 1);
      ends[place] = total;
    });
    return (i) => upperBound(ends, (random.uint32(i) / 2 ** 32) * total);
  }
}

/** A token with those around it, by their places in the batch. */
interface Center {
  readonly text: number;
  readonly at: number;
  readonly words: readonly number[];
}

interface Vector {
  readonly data: Float32Array;
  readonly at: number;
  /** Added to, at the same place. */
  readonly gradient: Float32Array | null;
}

/** -log σ of a vector's product with a candidate, or of its opposite; adds `factor` times its gradients. */
function meet(
  { data, at, gradient }: Vector,
  y: Float32Array,
  yAt: number,
  yGradient: Float32Array | null,
  dim: number,
  factor: number,
  truth: boolean,
): number {
  let score = 0;
  for (let c = 0; c < dim; c++) score += data[at + c]! * y[yAt + c]!;
  if (gradient && yGradient) {
    const slope = factor * (truth ? -sigmoid(-score) : sigmoid(score));
    for (let c = 0; c < dim; c++) {
      gradient[at + c]! += slope * y[yAt + c]!;
      yGradient[yAt + c]! += slope * data[at + c]!;
    }
  }
  return softplus(truth ? -score : score);
}

function average(x: Float32Array, places: readonly number[], dim: number, out: Float32Array): void {
  out.fill(0);
  for (const place of places) for (let c = 0; c < dim; c++) out[c]! += x[place * dim + c]! / places.length;
}

function spread(gradient: Float32Array, places: readonly number[], dim: number, out: Float32Array): void {
  for (const place of places) for (let c = 0; c < dim; c++) out[place * dim + c]! += gradient[c]! / places.length;
}
