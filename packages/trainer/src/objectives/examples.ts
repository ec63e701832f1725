/**
 * What examples count. The loss that gradients are of is Σ w l / n, n being the batch's examples, as in Keras: an example counts the
 * same in every batch. What is told of it is Σ w l / Σ w.
 */
import type { Matrix } from '@finetable/core';
import type { MetricSums } from '../objective.ts';

/** Row i times weight i, in place. */
export function scaleRows({ data, rows, cols }: Matrix, weights: Float32Array): void {
  for (let i = 0, at = 0; i < rows; i++) for (let c = 0; c < cols; c++) data[at++]! *= weights[i]!;
}

/** Σ w x, in f64. @param weights null for 1 */
export function weightedSum(x: ArrayLike<number>, weights: Float32Array | null): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += (weights ? weights[i]! : 1) * x[i]!;
  return sum;
}

/** Sums of values by example; where these have weights, of those too, as `weight`. */
export function sumExamples(
  values: Readonly<Record<string, ArrayLike<number>>>,
  weights: Float32Array | null,
): MetricSums {
  const sums: Record<string, number> = {};
  for (const [name, x] of Object.entries(values)) sums[name] = weightedSum(x, weights);
  return weights ? { ...sums, weight: weightedSum(weights, null) } : sums;
}

/** Means from what `sumExamples` made of `examples` examples: each sum over that of the weights. */
export function meanExamples(sums: MetricSums, examples: number): Readonly<Record<string, number>> {
  const { weight = examples, ...values } = sums;
  return Object.fromEntries(Object.entries(values).map(([name, sum]) => [name, sum / weight]));
}
