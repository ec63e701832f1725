/** Ranking the rows of a table for a query: a history or a user's vector finds the next item. */
import { checkOptionNames, FinetableError, Scratch, type Jagged, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { checkCounts, rowOfEach, rowsOfExamples, vectorsOfEach } from './bags.ts';
import { meanExamples, scaleRows, sumExamples } from './examples.ts';
import { concatenateColumns, splitColumns } from './layers.ts';
import { sigmoid, softplus } from './logistic.ts';
import { Owned } from './owned.ts';

/** Options of {@link ranking}. */
export interface RankingOptions {
  /** The feature that asks: a history, pooled, or a user. */
  readonly query: string;
  /** The feature with the one row that should be found. It may share its table with the query. */
  readonly target: string;
  /** A feature with any number of rows that should not be found, for each example. Default: none. */
  readonly negatives?: string | undefined;
  /** Take the other examples' targets for negatives too. Default: where there is no feature of them. */
  readonly inBatch?: boolean | undefined;
  /**
   * `softmax` (default): cross-entropy of the target among all candidates. `bpr`: the mean over the negatives of -log σ(s⁺ - s⁻) (Rendle et al.:
   * "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009).
   */
  readonly loss?: 'softmax' | 'bpr' | undefined;
  /** Of the scores; default `dot`. */
  readonly similarity?: 'dot' | 'cosine' | undefined;
  /** Multiplies the scores; default 1, of cosines 20. */
  readonly scale?: number | undefined;
  /**
   * `[rows]` of the target's table: how often each is a target in the data. Of `softmax`, the log of how often a candidate is expected among
   * the candidates is taken off its score, so that rows that are drawn often are not pushed down for it (Bengio and Senécal 2008; Yi et al.:
   * "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019). A row with 0 counts as 1. Also what
   * `popularity-bias@k` is made of.
   */
  readonly frequencies?: ArrayLike<number> | undefined;
  /** How `negatives` were drawn: in proportion to frequency^exponent. Default 0: all rows alike. */
  readonly negativesExponent?: number | undefined;
  /** A feature with rows that metrics of retrieval pass over, such as the history. */
  readonly seen?: string | undefined;
}

const names: OptionNames<RankingOptions> = {
  query: true,
  target: true,
  negatives: true,
  inBatch: true,
  loss: true,
  similarity: true,
  scale: true,
  frequencies: true,
  negativesExponent: true,
  seen: true,
};

/** Below every score: what is no candidate. Finite, so that differences are. */
const excluded = -1e30;

/**
 * Has no parameters: what is learnt is in the tables. A candidate that is the target's own row is passed over. Metrics: `loss`, and
 * `accuracy`: how often no candidate has a higher score than the target; and those of retrieval over the whole table.
 */
export function ranking(options: RankingOptions): Objective {
  checkOptionNames('ranking', options, names);
  const { query, target, negatives, inBatch = negatives === undefined, scale = 1, seen } = options;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `ranking: ${message}`);
  };
  if (query === target) refuse('query and target are one feature; make a feature of each');
  if (negatives === undefined && !inBatch) refuse('inBatch: found false; without negatives there would be none');
  if (!(scale > 0 && scale < Infinity)) refuse(`scale: found ${scale}; allowed: a number above 0`);
  if (seen !== undefined && ![query, target, negatives].includes(seen))
    refuse(`seen: found ${JSON.stringify(seen)}; allowed: a feature that it reads, such as the query`);
  return new Ranking(options);
}

/** What a batch's candidates are: the target first where `inBatch` is false, else that of each example; then its negatives. */
interface Scores {
  /** `[size, targets + most negatives]`. */
  readonly scores: Matrix;
  /** `[size] i32`: the target's column. */
  readonly labels: Int32Array;
}

class Ranking implements Objective {
  readonly inputs: readonly string[];
  readonly labels: readonly string[] = [];
  readonly #options: RankingOptions;
  readonly #inBatch: boolean;
  readonly #scale: number;
  readonly #scratch = new Scratch();
  readonly #owned = new Owned('ranking');
  #kernels!: Kernels;
  /** log p and log Q of each row, where there are frequencies. */
  #logShares: { readonly targets: Float64Array; readonly negatives: Float64Array } | null = null;

  constructor(options: RankingOptions) {
    const { query, target, negatives } = options;
    this.#options = options;
    this.#inBatch = options.inBatch ?? negatives === undefined;
    this.#scale = options.scale ?? (options.similarity === 'cosine' ? 20 : 1);
    this.inputs = negatives === undefined ? [query, target] : [query, target, negatives];
  }

  initialize({ kernels, featureDims }: ObjectiveContext): readonly DenseParameter[] {
    this.#owned.claim();
    const dim = featureDims[this.#options.query]!;
    for (const input of this.inputs) {
      if (featureDims[input] === dim) continue;
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `ranking compares feature "${input}", of ${featureDims[input]} dims, with "${this.#options.query}", of ${dim}; they must have the same`,
      );
    }
    this.#kernels = kernels;
    const { frequencies, negativesExponent = 0 } = this.#options;
    if (frequencies)
      this.#logShares = {
        targets: logShares(frequencies, 1),
        negatives: logShares(frequencies, negativesExponent),
      };
    return [];
  }

  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums {
    const kernels = this.#kernels;
    const { query, target, negatives } = this.#options;
    const norms = this.#normalize(inputs);
    const found = this.#score(inputs, batch);
    const sums = this.#sum(found, batch, true).sums;
    const g = found.scores;
    // Of the scores before they were scaled.
    kernels.scaleInPlace(g.data, this.#scale);
    const { size } = batch;
    const x = inputs[query]!;
    const targets = inputs[target]!;
    const dim = x.cols;
    const xGradient = gradients[query] ?? this.#scratch.matrix('queryGradient', size, dim);
    const own = negatives === undefined ? g : this.#scratch.matrix('own', size, this.#inBatch ? size : 1);
    if (own !== g) splitColumns(g, [own.cols], [own]);
    if (this.#inBatch) {
      kernels.matmul({ a: own, b: targets, out: xGradient });
      if (gradients[target]) kernels.matmul({ a: own, b: x, out: gradients[target], transposeA: true });
    } else {
      const one = { x, y: targets, offsets: ones(size), gradient: own.data };
      kernels.bagDotsBackward({ ...one, xOut: xGradient, yOut: gradients[target] ?? null });
    }
    if (negatives !== undefined) {
      const offsets = vectorsOfEach(batch, negatives);
      const y = inputs[negatives]!;
      const gradient = this.#scratch.matrix('negatives', 1, y.rows).data;
      eachNegative(offsets, (i, j, at) => (gradient[at] = g.data[i * g.cols + own.cols + j]!));
      const more = this.#scratch.matrix('more', size, dim);
      kernels.bagDotsBackward({ x, y, offsets, gradient, xOut: more, yOut: gradients[negatives] ?? null });
      add(more.data, xGradient.data);
    }
    for (const [name, norm] of Object.entries(norms)) {
      if (gradients[name]) kernels.normalizeRowsBackward(inputs[name]!, norm, gradients[name]);
    }
    return sums;
  }

  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): Evaluated {
    const { query, target, similarity = 'dot', seen, frequencies } = this.#options;
    this.#normalize(inputs);
    const found = this.#score(inputs, batch);
    const { sums, losses } = this.#sum(found, batch, false);
    const relevant: Jagged = { values: rowOfEach(batch, target), offsets: ones(batch.size) };
    const queries = {
      feature: target,
      vectors: inputs[query]!,
      metric: similarity,
      relevant,
      seen: seen === undefined ? null : rowsOfExamples(batch, seen),
      popularity: frequencies,
    };
    return { sums, outputs: { losses, weights: batch.weights, queries } };
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return meanExamples(sums, examples);
  }

  /** Norms of each input, where cosines are compared. */
  #normalize(inputs: Readonly<Record<string, Matrix>>): Readonly<Record<string, Float32Array>> {
    const norms: Record<string, Float32Array> = {};
    if (this.#options.similarity !== 'cosine') return norms;
    for (const name of this.inputs) {
      const x = inputs[name]!;
      norms[name] = this.#scratch.matrix(`${name}/norms`, 1, x.rows).data;
      this.#kernels.normalizeRows(x, norms[name]);
    }
    return norms;
  }

  #score(inputs: Readonly<Record<string, Matrix>>, batch: Batch): Scores {
    const { query, target, negatives, loss } = this.#options;
    const { size } = batch;
    const x = inputs[query]!;
    const targetRows = rowOfEach(batch, target);
    checkCounts(batch, target, this.#options.frequencies, 'ranking: frequencies');
    const shares = loss === 'bpr' ? null : this.#logShares;
    const offsets = negatives === undefined ? null : vectorsOfEach(batch, negatives);
    const negativeRows = negatives === undefined ? null : rowOfEach(batch, negatives);
    const width = offsets ? mostOf(offsets) : 0;
    const expected = shares && expectations(shares, this.#inBatch ? size : 0, offsets ? offsets[size]! / size : 0);

    const own = this.#scratch.matrix('own', size, this.#inBatch ? size : 1);
    if (this.#inBatch) {
      this.#kernels.matmul({ a: x, b: inputs[target]!, out: own, transposeB: true, scale: this.#scale });
      const taken = expected && Float32Array.from(targetRows, (row) => -expected(row));
      if (taken) this.#kernels.addToRows(own, taken);
      excludeRepeated(own, targetRows);
    } else {
      this.#kernels.bagDots({ x, y: inputs[target]!, offsets: ones(size), out: own.data });
      for (let i = 0; i < size; i++)
        own.data[i] = this.#scale * own.data[i]! - (expected ? expected(targetRows[i]!) : 0);
    }
    const labels = Int32Array.from({ length: size }, (_, i) => (this.#inBatch ? i : 0));
    if (!offsets) return { scores: own, labels };

    const dots = this.#scratch.matrix('negatives', 1, offsets[size]!).data;
    this.#kernels.bagDots({ x, y: inputs[negatives!]!, offsets, out: dots });
    const others = this.#scratch.matrix('others', size, width);
    others.data.fill(excluded);
    eachNegative(offsets, (i, j, at) => {
      const row = negativeRows![at]!;
      if (row !== targetRows[i]!) others.data[i * width + j] = this.#scale * dots[at]! - (expected ? expected(row) : 0);
    });
    const scores = this.#scratch.matrix('scores', size, own.cols + width);
    concatenateColumns([own, others], scores);
    return { scores, labels };
  }

  /** Where `train`, the scores become the gradient of the batch's mean loss. */
  #sum({ scores, labels }: Scores, batch: Batch, train: boolean): { sums: MetricSums; losses: Float32Array } {
    const losses = this.#scratch.matrix('losses', 1, batch.size).data;
    const best = Float32Array.from(labels, (label, i) => Number(isLargest(scores, i, label)));
    if (this.#options.loss === 'bpr') pairwise(scores, labels, losses, train);
    else {
      const gradient = train ? scores : null;
      this.#kernels.softmaxCrossEntropy({ logits: scores, labels, losses, gradient, scale: 1 / batch.size });
    }
    if (train && batch.weights) scaleRows(scores, batch.weights);
    return { sums: sumExamples({ loss: losses, accuracy: best }, batch.weights), losses };
  }
}

const ones = (bags: number): Int32Array => Int32Array.from({ length: bags + 1 }, (_, i) => i);

const mostOf = (offsets: Int32Array): number => {
  let most = 0;
  for (let i = 1; i < offsets.length; i++) most = Math.max(most, offsets[i]! - offsets[i - 1]!);
  return most;
};

function eachNegative(offsets: Int32Array, visit: (i: number, j: number, at: number) => void): void {
  for (let i = 0; i + 1 < offsets.length; i++) {
    for (let at = offsets[i]!; at < offsets[i + 1]!; at++) visit(i, at - offsets[i]!, at);
  }
}

/** log of each row's share of Σ max(1, frequency)^exponent. */
function logShares(frequencies: ArrayLike<number>, exponent: number): Float64Array {
  const shares = Float64Array.from(frequencies, (count) => Math.max(1, count) ** exponent);
  const total = shares.reduce((sum, share) => sum + share, 0);
  return shares.map((share) => Math.log(share / total));
}

/** log of how often a row is expected among the candidates: of `targets` that are drawn as the data has them, and of negatives. */
function expectations(
  { targets: p, negatives: q }: { readonly targets: Float64Array; readonly negatives: Float64Array },
  targets: number,
  negatives: number,
): (row: number) => number {
  const [logTargets, logNegatives] = [Math.log(targets), Math.log(negatives)];
  if (negatives === 0) return (row) => logTargets + p[row]!;
  if (targets === 0) return (row) => logNegatives + q[row]!;
  return (row) => Math.log(targets * Math.exp(p[row]!) + negatives * Math.exp(q[row]!));
}

/** Candidates of other examples that are the example's own target. */
function excludeRepeated({ data, cols }: Matrix, rows: Int32Array): void {
  const places = new Map<number, number[]>();
  rows.forEach((row, i) => {
    const same = places.get(row);
    if (same) same.push(i);
    else places.set(row, [i]);
  });
  for (const same of places.values()) {
    if (same.length === 1) continue;
    for (const i of same) for (const j of same) if (i !== j) data[i * cols + j] = excluded;
  }
}

function isLargest({ data, cols }: Matrix, i: number, column: number): boolean {
  const first = i * cols;
  const own = data[first + column]!;
  for (let c = 0; c < cols; c++) if (data[first + c]! > own) return false;
  return true;
}

/** Mean over an example's negatives of log(1 + e^(s⁻ - s⁺)); 0 of none. */
function pairwise({ data, rows, cols }: Matrix, labels: Int32Array, losses: Float32Array, train: boolean): void {
  for (let i = 0; i < rows; i++) {
    const first = i * cols;
    const target = first + labels[i]!;
    const own = data[target]!;
    let [loss, count, slope] = [0, 0, 0];
    for (let at = first; at < first + cols; at++) {
      if (at === target || data[at] === excluded32) continue;
      loss += softplus(data[at]! - own);
      count++;
    }
    losses[i] = count === 0 ? 0 : loss / count;
    if (!train) continue;
    for (let at = first; at < first + cols; at++) {
      if (at === target) continue;
      const g = data[at] === excluded32 ? 0 : sigmoid(data[at]! - own) / (count * rows);
      data[at] = g;
      slope -= g;
    }
    data[target] = slope;
  }
}

const excluded32 = Math.fround(excluded);

function add(from: Float32Array, to: Float32Array): void {
  for (let i = 0; i < to.length; i++) to[i]! += from[i]!;
}
