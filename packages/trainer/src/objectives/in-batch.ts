/**
 * Cross-entropy of each query with its own candidate among all of a batch: one matrix product for the scores, and two for the gradients.
 * Of large batches it works on some queries at a time, so that the scores take a bounded memory.
 */
import { rowsOf, Scratch, type Matrix } from '@finetable/core';
import type { Kernels, MatmulArgs } from '@finetable/kernels';
import { addTo } from './layers.ts';
import { scaleRows } from './examples.ts';

/** Scores at a time: 16 MiB of them. */
const mostScores = 1 << 22;

/** A score that no softmax sees: exp of it is 0, and differences of it are finite. */
const leftOut = -1e30;

export interface InBatchArgs {
  /** `[B, D]`. */
  readonly queries: Matrix;
  /** `[N, D]`, N from B: candidate i is the one of query i. */
  readonly candidates: Matrix;
  /** Multiplies the inner products. */
  readonly scale: number;
  /** By query, the candidates that are left out; null for none. */
  readonly leftOut: readonly (readonly number[])[] | null;
  /** What gradients are multiplied by: all, and those of each query's loss (`[B]`; null for 1). */
  readonly factor: number;
  readonly weights: Float32Array | null;
  /** `[B]`, overwritten. */
  readonly losses: Float32Array;
  /** `[B]`, overwritten: 1 where the own candidate has the highest score. */
  readonly correct: Float32Array;
  /** Of `factor` times the weighted sum of losses, `[B, D]` and `[N, D]`; null where nobody wants one. */
  readonly queryGradient: Matrix | null;
  readonly candidateGradient: Matrix | null;
  /** Whether gradients are added to what is there, or overwrite it. */
  readonly add: boolean;
}

export class InBatchSoftmax {
  readonly #kernels: Kernels;
  readonly #scratch = new Scratch();

  constructor(kernels: Kernels) {
    this.#kernels = kernels;
  }

  run(args: InBatchArgs): void {
    const { queries, candidates, scale, losses, correct, weights, factor, queryGradient, candidateGradient } = args;
    const most = Math.max(1, Math.floor(mostScores / candidates.rows));
    const gradients = queryGradient !== null || candidateGradient !== null;
    for (let first = 0; first < queries.rows; first += most) {
      const count = Math.min(most, queries.rows - first);
      const own = rowsOf(queries, first, count);
      const scores = this.#scratch.matrix('scores', count, candidates.rows);
      this.#kernels.matmul({ a: own, b: candidates, out: scores, transposeB: true, scale });
      const labels = Int32Array.from({ length: count }, (_, i) => first + i);
      if (args.leftOut) leaveOut(scores, args.leftOut, first);
      findCorrect(scores, labels, correct.subarray(first, first + count));
      this.#kernels.softmaxCrossEntropy({
        logits: scores,
        labels,
        losses: losses.subarray(first, first + count),
        gradient: gradients ? scores : null,
        scale: factor,
      });
      if (!gradients) continue;
      if (weights) scaleRows(scores, weights.subarray(first, first + count));
      if (queryGradient) {
        const out = rowsOf(queryGradient, first, count);
        this.#matmul({ a: scores, b: candidates, out, scale }, args.add);
      }
      if (candidateGradient) {
        const product = { a: scores, b: own, out: candidateGradient, transposeA: true, scale };
        this.#matmul(product, args.add || first > 0);
      }
    }
  }

  #matmul(args: MatmulArgs, add: boolean): void {
    const { out } = args;
    const made = add ? this.#scratch.matrix('product', out.rows, out.cols) : out;
    this.#kernels.matmul({ ...args, out: made });
    if (add) addTo(out.data, made.data);
  }
}

function leaveOut(scores: Matrix, which: readonly (readonly number[])[], first: number): void {
  for (let i = 0; i < scores.rows; i++)
    for (const candidate of which[first + i]!) scores.data[i * scores.cols + candidate] = leftOut;
}

function findCorrect({ data, rows, cols }: Matrix, labels: Int32Array, correct: Float32Array): void {
  for (let i = 0; i < rows; i++) {
    const at = i * cols;
    const own = data[at + labels[i]!]!;
    let others = -Infinity;
    for (let c = 0; c < cols; c++) if (data[at + c]! > others && c !== labels[i]) others = data[at + c]!;
    correct[i] = Number(own > others);
  }
}
