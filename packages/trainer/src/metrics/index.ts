/** All metrics, by name. */
import { f1Macro, f1Micro } from './f1.ts';
import { auc, pearson, spearman } from './lists.ts';
import { accuracy, calibration, logLoss, loss, normalizedEntropy, rmse } from './means.ts';
import type { Metric } from './metric.ts';
import { coverageAt, hitRateAt, ndcgAt, recallAt, reciprocalRankAt } from './retrieval.ts';

const named: ReadonlyMap<string, Metric> = new Map(
  [loss, accuracy, f1Micro, f1Macro, logLoss, calibration, normalizedEntropy, rmse, auc, pearson, spearman].map(
    (metric) => [metric.name, metric],
  ),
);

const atK: ReadonlyMap<string, (k: number) => Metric> = new Map([
  ['recall', recallAt],
  ['hit-rate', hitRateAt],
  ['mrr', reciprocalRankAt],
  ['ndcg', ndcgAt],
  ['coverage', coverageAt],
]);

/** What a metric may be called: `accuracy`, `ndcg@10`. */
export const metricNames: readonly string[] = [...named.keys(), ...[...atK.keys()].map((name) => `${name}@k`)];

/** Null where there is none of that name. */
export function metricOf(name: string): Metric | null {
  const [, base, digits] = /^([a-z-]+)@([1-9]\d{0,6})$/.exec(name) ?? [];
  if (base !== undefined) return atK.get(base)?.(Number(digits)) ?? null;
  return named.get(name) ?? null;
}

/** True where `value` beats `than`; nearer to 1 for calibration. */
export function isBetter(name: string, value: number | undefined, than: number | undefined): boolean {
  if (value === undefined || than === undefined || Number.isNaN(than))
    return value !== undefined && !Number.isNaN(value);
  if (name === 'calibration') return Math.abs(Math.log(value)) < Math.abs(Math.log(than));
  return metricOf(name)?.better === 'lower' ? value < than : value > than;
}
