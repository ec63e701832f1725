/** Metrics that depend on the order of all examples. */
import type { ListMetric, ScoredExamples } from './metric.ts';

/** Indices of `values`, ascending. */
function ascending(values: Float64Array): Uint32Array {
  return Uint32Array.from(values, (_, i) => i).sort((a, b) => values[a]! - values[b]!);
}

/**
 * Area under the ROC curve: how likely an example with target 1 is scored above one with target 0, equal scores counting half
 * (the Mann-Whitney statistic). NaN where all targets are the same.
 */
function areaUnderCurve({ predicted, targets, weights }: ScoredExamples): number {
  const order = ascending(predicted);
  let [below, pairs, positives] = [0, 0, 0];
  for (let begin = 0; begin < order.length;) {
    let end = begin;
    let [ones, zeros] = [0, 0];
    for (; end < order.length && predicted[order[end]!] === predicted[order[begin]!]; end++) {
      const weight = weights[order[end]!]!;
      if (targets[order[end]!]! > 0.5) ones += weight;
      else zeros += weight;
    }
    pairs += ones * (below + zeros / 2);
    below += zeros;
    positives += ones;
    begin = end;
  }
  return pairs / (positives * below);
}

/** Ranks from 1; equal values share the mean of theirs. */
function ranksOf(values: Float64Array): Float64Array {
  const order = ascending(values);
  const ranks = new Float64Array(values.length);
  for (let begin = 0; begin < order.length;) {
    let end = begin + 1;
    while (end < order.length && values[order[end]!] === values[order[begin]!]) end++;
    for (let i = begin; i < end; i++) ranks[order[i]!] = (begin + 1 + end) / 2;
    begin = end;
  }
  return ranks;
}

/** Pearson's correlation, weighted; NaN where either side is constant. */
function correlation(x: Float64Array, y: Float64Array, weights: Float64Array): number {
  let [total, xMean, yMean] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    total += weights[i]!;
    xMean += weights[i]! * x[i]!;
    yMean += weights[i]! * y[i]!;
  }
  xMean /= total;
  yMean /= total;
  let [xx, xy, yy] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const [dx, dy] = [x[i]! - xMean, y[i]! - yMean];
    xx += weights[i]! * dx * dx;
    xy += weights[i]! * dx * dy;
    yy += weights[i]! * dy * dy;
  }
  return xy / Math.sqrt(xx * yy);
}

const scored: ListMetric['applies'] = ({ scores }) => scores !== undefined;

export const auc: ListMetric = {
  kind: 'list',
  name: 'auc',
  better: 'higher',
  applies: ({ scores }) => scores?.kind === 'probability',
  value: areaUnderCurve,
};

export const pearson: ListMetric = {
  kind: 'list',
  name: 'pearson',
  better: 'higher',
  applies: scored,
  value: ({ predicted, targets, weights }) => correlation(predicted, targets, weights),
};

/** Pearson's correlation of ranks. */
export const spearman: ListMetric = {
  kind: 'list',
  name: 'spearman',
  better: 'higher',
  applies: scored,
  value: ({ predicted, targets, weights }) => correlation(ranksOf(predicted), ranksOf(targets), weights),
};
