/**
 * Contrastive learning of pairs: each anchor is to be nearer to its own positive than to those of the other examples in the batch
 * (Henderson et al.: "Efficient natural language response suggestion for smart reply", 2017), and than to hard negatives.
 */
import { checkOptionNames, FinetableError, rowsOf, Scratch, type Matrix, type OptionNames } from '@finetable/core';
import type { Batch } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { Outputs } from '../metrics/outputs.ts';
import type { DenseParameter, Evaluated, MetricSums, Objective, ObjectiveContext } from '../objective.ts';
import { alike, bagKeys } from './alike.ts';
import { meanExamples, sumExamples } from './examples.ts';
import { InBatchSoftmax } from './in-batch.ts';
import { addToFirstColumns, firstColumns } from './layers.ts';
import { checkNumber, refuse } from './options.ts';

/** Options of {@link contrastive}. */
export interface ContrastiveOptions {
  /** The feature that is looked up with, such as a question. */
  readonly anchor: string;
  /** The feature that belongs to it, such as its answer. */
  readonly positive: string;
  /**
   * Features that do not, though they look as if they did: candidates for the anchors of the whole batch. One vector for each example, or as many
   * as there are ids, of a feature that is not pooled and of sampled negatives.
   */
  readonly negatives?: string | readonly string[] | undefined;
  /** Default `cosine`. */
  readonly similarity?: 'cosine' | 'dot' | undefined;
  /** Multiplies similarities before the softmax, one over its temperature; default 20 for cosine, 1 for dot. */
  readonly scale?: number | undefined;
  /** Each positive is to be nearest to its own anchor too; the loss is the mean of both directions. Default false. */
  readonly symmetric?: boolean | undefined;
  /** Leave out candidates that are as good as the own one, by their ids. Default false: all others are wrong. */
  readonly maskDuplicates?: boolean | undefined;
  /** The first dims alone are to do too: the loss is the weighted sum of those of the first d dims of every vector. */
  readonly matryoshka?: MatryoshkaOptions | undefined;
}

/** Kusupati et al.: "Matryoshka representation learning", NeurIPS 2022. */
export interface MatryoshkaOptions {
  /** Each from 1 to D; D itself counts only where it is named. */
  readonly dims: readonly number[];
  /** Of each; default 1. */
  readonly weights?: readonly number[] | undefined;
}

const names: OptionNames<ContrastiveOptions> = {
  anchor: true,
  positive: true,
  negatives: true,
  similarity: true,
  scale: true,
  symmetric: true,
  maskDuplicates: true,
  matryoshka: true,
};
const matryoshkaNames: OptionNames<MatryoshkaOptions> = { dims: true, weights: true };

/**
 * Multiple negatives ranking: cross-entropy of softmax(scale · s(a, c)) with the own positive, over the candidates c: positives and
 * hard negatives of the batch. Without parameters. Metrics: `loss`, and `accuracy`: own positives that are before all other candidates of
 * their batches, which depends on how large these are. Metrics at k (`recall@10`) look for positives among all of an evaluation.
 * @throws INVALID_ARGUMENT
 */
export function contrastive(options: ContrastiveOptions): Objective {
  const where = 'contrastive';
  checkOptionNames(where, options, names);
  const { anchor, positive, similarity = 'cosine', scale = 1, matryoshka } = options;
  const inputs = [anchor, positive, ...negativesOf(options)];
  const twice = inputs.find((name, i) => inputs.indexOf(name) < i);
  if (twice !== undefined) throw refuse(where, 'features', twice, 'each feature once');
  if (!['cosine', 'dot'].includes(similarity)) throw refuse(where, 'similarity', similarity, '"cosine", "dot"');
  checkNumber(where, 'scale', scale, { above: 0 });
  if (matryoshka) {
    checkOptionNames('contrastive: matryoshka', matryoshka, matryoshkaNames);
    const { dims, weights = dims.map(() => 1) } = matryoshka;
    if (dims.length === 0) throw refuse(where, 'matryoshka.dims', dims, 'one or more');
    dims.forEach((dim, i) => checkNumber(where, `matryoshka.dims[${i}]`, dim, { integer: true, from: 1 }));
    if (new Set(dims).size < dims.length) throw refuse(where, 'matryoshka.dims', dims, 'each once');
    weights.forEach((weight, i) => checkNumber(where, `matryoshka.weights[${i}]`, weight, { from: 0 }));
    if (weights.length !== dims.length) throw refuse(where, 'matryoshka.weights', weights, `${dims.length} of them`);
  }
  return new Contrastive(options);
}

function negativesOf({ negatives = [] }: ContrastiveOptions): readonly string[] {
  return typeof negatives === 'string' ? [negatives] : negatives;
}

/** The loss of so many of the first dims. */
interface Level {
  readonly dim: number;
  readonly weight: number;
}

/** By query, what is left out among its candidates: anchors look for positives and negatives, positives for anchors. */
interface Masks {
  readonly candidates: readonly (readonly number[])[];
  readonly anchors: readonly (readonly number[])[];
}

type Matrices = Readonly<Record<string, Matrix>>;

class Contrastive implements Objective {
  readonly inputs: readonly string[];
  readonly pooled: readonly string[];
  readonly labels: readonly string[] = [];
  readonly #options: ContrastiveOptions;
  readonly #similarity: 'cosine' | 'dot';
  readonly #scale: number;
  readonly #scratch = new Scratch();
  #kernels: Kernels | null = null;
  #softmax!: InBatchSoftmax;
  #dim = 0;
  /** Ascending, so that the inputs are overwritten last. */
  #levels: readonly Level[] = [];
  /** Whether all dims count and nothing else: gradients need not be added up. */
  #direct = false;

  constructor(options: ContrastiveOptions) {
    const { anchor, positive, similarity = 'cosine', scale = similarity === 'cosine' ? 20 : 1 } = options;
    this.#options = options;
    this.#similarity = similarity;
    this.#scale = scale;
    this.inputs = [anchor, positive, ...negativesOf(options)];
    this.pooled = [anchor, positive];
  }

  initialize({ kernels, featureDims }: ObjectiveContext): readonly DenseParameter[] {
    if (this.#kernels) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        'the objective is in use by another trainer; make one for each with contrastive()',
      );
    }
    const [anchor, ...others] = this.inputs as [string, ...string[]];
    const dim = featureDims[anchor]!;
    for (const name of others) {
      if (featureDims[name] === dim) continue;
      const found = `"${anchor}" has ${dim} dims, "${name}" ${featureDims[name]}`;
      throw new FinetableError('INVALID_ARGUMENT', `contrastive: ${found}; allowed: as many for all`);
    }
    const { dims, weights = dims?.map(() => 1) ?? [] } = this.#options.matryoshka ?? { dims: [dim], weights: [1] };
    const beyond = dims.find((level) => level > dim);
    if (beyond !== undefined) throw refuse('contrastive', 'matryoshka.dims', beyond, `up to the vectors' ${dim}`);
    this.#levels = dims.map((level, i) => ({ dim: level, weight: weights[i]! })).sort((a, b) => a.dim - b.dim);
    this.#dim = dim;
    this.#direct = dims.length === 1 && dims[0] === dim;
    this.#kernels = kernels;
    this.#softmax = new InBatchSoftmax(kernels);
    return [];
  }

  train(inputs: Matrices, batch: Batch, gradients: Matrices): MetricSums {
    const { losses, correct } = this.#run(inputs, batch, gradients);
    return sumExamples({ loss: losses, accuracy: correct }, batch.weights);
  }

  evaluate(inputs: Matrices, batch: Batch): Evaluated {
    const { losses, correct } = this.#run(inputs, batch, {});
    const { anchor, positive } = this.#options;
    const pairs = { queries: inputs[anchor]!, candidates: inputs[positive]!, metric: this.#similarity };
    const outputs: Outputs = { losses, weights: batch.weights, pairs };
    return { sums: sumExamples({ loss: losses, accuracy: correct }, batch.weights), outputs };
  }

  metrics(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
    return meanExamples(sums, examples);
  }

  /** `correct` is that of the most dims. */
  #run(inputs: Matrices, batch: Batch, gradients: Matrices): { losses: Float32Array; correct: Float32Array } {
    const losses = this.#vector('losses', batch.size);
    const correct = this.#vector('correct', batch.size);
    const masks = this.#options.maskDuplicates ? this.#masks(batch) : null;
    losses.fill(0);
    if (!this.#direct) for (const name of this.inputs) gradients[name]?.data.fill(0);
    for (const level of this.#levels) this.#level(level, inputs, batch, gradients, masks, losses, correct);
    return { losses, correct };
  }

  /** Adds a level's part to losses and gradients. */
  #level(
    { dim, weight }: Level,
    inputs: Matrices,
    batch: Batch,
    gradients: Matrices,
    masks: Masks | null,
    losses: Float32Array,
    correct: Float32Array,
  ): void {
    const { symmetric = false } = this.#options;
    const [anchor, ...others] = this.inputs as [string, ...string[]];
    const anchors = this.#rows('anchors', [anchor], inputs, dim);
    const candidates = this.#rows('candidates', others, inputs, dim);
    const forward = this.#gradientOf('anchors', [anchor], gradients, anchors);
    const backward = this.#gradientOf('candidates', others, gradients, candidates);
    const share = weight / (symmetric ? 2 : 1);
    const part = this.#vector('part', batch.size);
    const shared = { scale: this.#scale, factor: share / batch.size, weights: batch.weights, losses: part };
    this.#softmax.run({
      ...shared,
      queries: anchors,
      candidates,
      leftOut: masks && masks.candidates,
      correct,
      queryGradient: forward,
      candidateGradient: backward,
      add: false,
    });
    for (let i = 0; i < losses.length; i++) losses[i]! += share * part[i]!;
    if (symmetric) {
      this.#softmax.run({
        ...shared,
        queries: rowsOf(candidates, 0, batch.size),
        candidates: anchors,
        leftOut: masks && masks.anchors,
        correct: this.#vector('anchors/correct', batch.size),
        queryGradient: backward && rowsOf(backward, 0, batch.size),
        candidateGradient: forward,
        add: true,
      });
      for (let i = 0; i < losses.length; i++) losses[i]! += share * part[i]!;
    }
    this.#backward('anchors', [anchor], inputs, anchors, forward, gradients);
    this.#backward('candidates', others, inputs, candidates, backward, gradients);
  }

  /** The first dims of features' vectors, below each other, normalised for cosine: in place where nothing has to be copied. */
  #rows(what: string, features: readonly string[], inputs: Matrices, dim: number): Matrix {
    const inPlace = features.length === 1 && dim === this.#dim;
    const rows = features.reduce((sum, name) => sum + inputs[name]!.rows, 0);
    const x = inPlace ? inputs[features[0]!]! : this.#scratch.matrix(what, rows, dim);
    if (!inPlace) eachPart(x, features, inputs, (part, name) => firstColumns(inputs[name]!, part));
    if (this.#similarity === 'cosine') this.#kernels!.normalizeRows(x, this.#vector(`${what}/norms`, x.rows));
    return x;
  }

  /** Where the gradient of what `rows` gave is made; null where no feature of these wants one. */
  #gradientOf(what: string, features: readonly string[], gradients: Matrices, { rows, cols }: Matrix): Matrix | null {
    if (!features.some((name) => gradients[name])) return null;
    const alone = this.#direct && features.length === 1;
    return alone ? gradients[features[0]!]! : this.#scratch.matrix(`${what}/gradient`, rows, cols);
  }

  /** From the gradient of what `rows` gave to those of the features. */
  #backward(
    what: string,
    features: readonly string[],
    inputs: Matrices,
    y: Matrix,
    gradient: Matrix | null,
    gradients: Matrices,
  ): void {
    if (!gradient) return;
    if (this.#similarity === 'cosine')
      this.#kernels!.normalizeRowsBackward(y, this.#vector(`${what}/norms`, y.rows), gradient);
    eachPart(gradient, features, inputs, (own, name) => {
      const wanted = gradients[name];
      if (!wanted || wanted === gradient) return;
      if (this.#direct) wanted.data.set(own.data);
      else addToFirstColumns(wanted, own);
    });
  }

  #masks(batch: Batch): Masks {
    const [anchors, ...others] = this.inputs.map((name) => bagKeys(batch, name)) as [string[], ...string[][]];
    return { candidates: alike(anchors, others.flat()), anchors: alike(others[0]!, anchors) };
  }

  #vector(name: string, length: number): Float32Array {
    return this.#scratch.matrix(name, length, 1).data;
  }
}

/** The rows of each feature in what has those of all, below each other. */
function eachPart(
  whole: Matrix,
  features: readonly string[],
  inputs: Matrices,
  visit: (part: Matrix, name: string) => void,
): void {
  let first = 0;
  for (const name of features) {
    const { rows } = inputs[name]!;
    visit(rowsOf(whole, first, rows), name);
    first += rows;
  }
}
