/** Triples of a knowledge graph: vectors of entities and relations that make what is true score above what is not. */
import {
  checkOptionNames,
  FinetableError,
  RandomStream,
  Scratch,
  type Matrix,
  type OptionNames,
} from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { rowOfEach, rowsOfExamples } from './bags.ts';
import { meanExamples, sumExamples } from './examples.ts';
import { sigmoid, softplus } from './logistic.ts';
import { Owned } from './owned.ts';

/** Options of {@link graph}. */
export interface GraphOptions {
  /** Features with one id each; head and tail usually share a table. */
  readonly head: string;
  readonly relation: string;
  readonly tail: string;
  /**
   * `transe`: a triple's distance is |h + r - t|, and one that is true is nearer by the margin (Bordes et al.: "Translating embeddings for modeling
   * multi-relational data", NIPS 2013). `distmult`: its score is Σ h r t, with logistic loss (Yang et al., ICLR 2015; Trouillon et al. 2016).
   */
  readonly model: 'transe' | 'distmult';
  /** Triples that are not true for each that is, each with its head or tail changed to one of the batch's. Default 8. */
  readonly corruptions?: number | undefined;
  /** Of `transe`; default 1. */
  readonly margin?: number | undefined;
  /** Of `transe`: 1 for Σ |x|, 2 (default) for √Σ x². */
  readonly norm?: 1 | 2 | undefined;
  /** A feature with the tails that are known to be true of head and relation too: metrics of retrieval pass over them (filtered ranking). */
  readonly known?: string | undefined;
  /** Draws the corruptions; default 0. */
  readonly seed?: number | undefined;
}

const names: OptionNames<GraphOptions> = {
  head: true,
  relation: true,
  tail: true,
  model: true,
  corruptions: true,
  margin: true,
  norm: true,
  known: true,
  seed: true,
};

/**
 * Has no parameters: relations are a table too. Metrics: `loss`; of `distmult` also retrieval of the tail over the whole table (of the other, which
 * no dot product ranks, none).
 */
export function graph(options: GraphOptions): Objective {
  checkOptionNames('graph', options, names);
  const { model, corruptions = 8, margin = 1, norm = 2 } = options;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `graph: ${message}`);
  };
  if (!['transe', 'distmult'].includes(model))
    refuse(`model: found ${JSON.stringify(model)}; allowed: "transe", "distmult"`);
  if (!Number.isInteger(corruptions) || corruptions < 1)
    refuse(`corruptions: found ${corruptions}; allowed: 1 or more`);
  if (!(margin > 0 && margin < Infinity)) refuse(`margin: found ${margin}; allowed: a number above 0`);
  if (![1, 2].includes(norm)) refuse(`norm: found ${String(norm)}; allowed: 1, 2`);
  return new Graph(options);
}

/** The arrays of a triple's vectors, and their gradients. */
interface Vectors {
  readonly h: Float32Array;
  readonly r: Float32Array;
  readonly t: Float32Array;
}

class Graph implements Objective {
  readonly inputs: readonly string[];
  readonly labels: readonly string[] = [];
  readonly #options: GraphOptions;
  readonly #owned = new Owned('graph');
  readonly #scratch = new Scratch();

  constructor(options: GraphOptions) {
    const { head, relation, tail, known } = options;
    this.#options = options;
    this.inputs = [head, relation, tail, ...(known === undefined ? [] : [known])];
  }

  initialize({ featureDims }: ObjectiveContext): readonly DenseParameter[] {
    this.#owned.claim();
    const { head, relation, tail } = this.#options;
    const dims = [head, relation, tail].map((name) => featureDims[name]);
    if (new Set(dims).size > 1)
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `graph: head, relation and tail have ${dims.join(', ')} dims; they must have the same`,
      );
    return [];
  }

  train(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Readonly<Record<string, Matrix>>,
  ): MetricSums {
    for (const { data } of Object.values(gradients)) data.fill(0);
    const { head, relation, tail } = this.#options;
    const of = (name: string): Float32Array =>
      (gradients[name] ?? this.#scratch.matrix(`${name}/gradient`, batch.size, inputs[name]!.cols)).data;
    return this.#run(inputs, batch, { h: of(head), r: of(relation), t: of(tail) }).sums;
  }

  evaluate(inputs: Readonly<Record<string, Matrix>>, batch: Batch): Evaluated {
    const { sums, losses } = this.#run(inputs, batch, null);
    const { head, relation, tail, model, known } = this.#options;
    if (model !== 'distmult') return { sums, outputs: { losses, weights: batch.weights } };
    const [h, r] = [inputs[head]!, inputs[relation]!];
    const vectors = this.#scratch.matrix('queries', h.rows, h.cols);
    for (let at = 0; at < h.data.length; at++) vectors.data[at] = h.data[at]! * r.data[at]!;
    const queries = {
      feature: tail,
      vectors,
      metric: 'dot' as const,
      relevant: rowsOfExamples(batch, tail),
      seen: known === undefined ? null : this.#knownOf(batch, known),
    };
    return { sums, outputs: { losses, weights: batch.weights, queries } };
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return meanExamples(sums, examples);
  }

  /** What is passed over: all that is known but the one that is asked for. */
  #knownOf(batch: Batch, known: string): { values: Int32Array; offsets: Int32Array } {
    const { values, offsets } = rowsOfExamples(batch, known);
    const tails = rowOfEach(batch, this.#options.tail);
    const kept: number[] = [];
    const ends = offsets.map((end, i) => {
      if (i > 0) for (let at = offsets[i - 1]!; at < end; at++) if (values[at] !== tails[i - 1]) kept.push(values[at]!);
      return kept.length;
    });
    return { values: Int32Array.from(kept), offsets: ends };
  }

  #run(
    inputs: Readonly<Record<string, Matrix>>,
    batch: Batch,
    gradients: Vectors | null,
  ): { sums: MetricSums; losses: Float32Array } {
    const { head, relation, tail, model, corruptions = 8, margin = 1, norm = 2, seed = 0 } = this.#options;
    const { size } = batch;
    const [heads, tails] = [rowOfEach(batch, head), rowOfEach(batch, tail)];
    const vectors: Vectors = { h: inputs[head]!.data, r: inputs[relation]!.data, t: inputs[tail]!.data };
    const dim = inputs[head]!.cols;
    const score = model === 'distmult' ? product : norm === 1 ? distance1 : distance2;
    const slope = model === 'distmult' ? addProductSlope : norm === 1 ? addDistance1Slope : addDistance2Slope;
    const losses = this.#scratch.matrix('losses', 1, size).data;
    const random = new RandomStream(seed, `graph/${batch.epoch}/${batch.index}`);
    for (let i = 0; i < size; i++) {
      const share = (batch.weights ? batch.weights[i]! : 1) / size;
      const own = score(vectors, i, i, i, dim);
      let [loss, ownSlope] = model === 'distmult' ? [softplus(-own), -sigmoid(-own)] : [0, 0];
      for (let k = 0; k < corruptions; k++) {
        // Two numbers each: which side, and whose.
        const drawn = 2 * (i * corruptions + k);
        const changesHead = random.uint32(drawn) % 2 === 0;
        const j = random.below(drawn + 1, size);
        const [a, b] = changesHead ? [j, i] : [i, j];
        // The triple itself is no corruption of it.
        if (heads[a] === heads[i] && tails[b] === tails[i]) continue;
        const other = score(vectors, a, i, b, dim);
        let otherSlope: number;
        if (model === 'distmult') {
          loss += softplus(other) / corruptions;
          otherSlope = sigmoid(other) / corruptions;
        } else {
          const hinge = margin + own - other;
          if (hinge <= 0) continue;
          loss += hinge / corruptions;
          ownSlope += 1 / corruptions;
          otherSlope = -1 / corruptions;
        }
        if (gradients) slope(vectors, gradients, a, i, b, dim, share * otherSlope, other);
      }
      losses[i] = loss;
      if (gradients && ownSlope !== 0) slope(vectors, gradients, i, i, i, dim, share * ownSlope, own);
    }
    return { sums: sumExamples({ loss: losses }, batch.weights), losses };
  }
}

/** Of head a, relation i, tail b. */
type Score = (vectors: Vectors, a: number, i: number, b: number, dim: number) => number;
/** Adds `factor` times the score's gradient. */
type Slope = (
  vectors: Vectors,
  gradients: Vectors,
  a: number,
  i: number,
  b: number,
  dim: number,
  factor: number,
  score: number,
) => void;

const product: Score = ({ h, r, t }, a, i, b, dim) => {
  let sum = 0;
  for (let c = 0; c < dim; c++) sum += h[a * dim + c]! * r[i * dim + c]! * t[b * dim + c]!;
  return sum;
};

const addProductSlope: Slope = ({ h, r, t }, g, a, i, b, dim, factor) => {
  for (let c = 0; c < dim; c++) {
    const [x, y, z] = [h[a * dim + c]!, r[i * dim + c]!, t[b * dim + c]!];
    g.h[a * dim + c]! += factor * y * z;
    g.r[i * dim + c]! += factor * x * z;
    g.t[b * dim + c]! += factor * x * y;
  }
};

const distance1: Score = ({ h, r, t }, a, i, b, dim) => {
  let sum = 0;
  for (let c = 0; c < dim; c++) sum += Math.abs(h[a * dim + c]! + r[i * dim + c]! - t[b * dim + c]!);
  return sum;
};

const addDistance1Slope: Slope = ({ h, r, t }, g, a, i, b, dim, factor) => {
  for (let c = 0; c < dim; c++) {
    const step = factor * Math.sign(h[a * dim + c]! + r[i * dim + c]! - t[b * dim + c]!);
    g.h[a * dim + c]! += step;
    g.r[i * dim + c]! += step;
    g.t[b * dim + c]! -= step;
  }
};

const distance2: Score = ({ h, r, t }, a, i, b, dim) => {
  let sum = 0;
  for (let c = 0; c < dim; c++) sum += (h[a * dim + c]! + r[i * dim + c]! - t[b * dim + c]!) ** 2;
  return Math.sqrt(sum);
};

/** 0 where the distance is 0. */
const addDistance2Slope: Slope = ({ h, r, t }, g, a, i, b, dim, factor, distance) => {
  if (distance === 0) return;
  for (let c = 0; c < dim; c++) {
    const step = (factor * (h[a * dim + c]! + r[i * dim + c]! - t[b * dim + c]!)) / distance;
    g.h[a * dim + c]! += step;
    g.r[i * dim + c]! += step;
    g.t[b * dim + c]! -= step;
  }
};
