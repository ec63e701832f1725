/** All metrics, by name. */
import { f1Macro, f1Micro } from './f1.ts';
import { auc, pearson, spearman } from './lists.ts';
import { accuracy, calibration, logLoss, loss, normalizedEntropy, rmse } from './means.ts';
import type { Metric, Sums } from './metric.ts';
import { coverageAt, hitRateAt, ndcgAt, popularityBiasAt, recallAt, reciprocalRankAt } from './retrieval.ts';

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
  ['popularity-bias', popularityBiasAt],
]);

/** What a metric may be called: `accuracy`, `ndcg@10`. */
export const metricNames: readonly string[] = [...named.keys(), ...[...atK.keys()].map((name) => `${name}@k`)];

/** Null where there is none of that name. */
export function metricOf(name: string): Metric | null {
  const [, base, digits] = /^([a-z-]+)@([1-9]\d{0,6})$/.exec(name) ?? [];
  if (base !== undefined) return atK.get(base)?.(Number(digits)) ?? null;
  return named.get(name) ?? null;
}

/** What is best known at which name: that of all examples, or of a slice. */
export const sliceName = (metric: string, label: string, value: string): string => `${metric}/${label}=${value}`;

export function addSums(a: Sums, b: Sums): Sums {
  const sums: Record<string, number> = { ...a };
  for (const [name, value] of Object.entries(b)) sums[name] = (sums[name] ?? 0) + value;
  return sums;
}

/**
 * True where `value` beats `than`: a lower loss, a calibration nearer to 1, a higher accuracy; of a metric that is not known here, such as an
 * objective's own, the higher.
 */
export function isBetter(name: string, value: number | undefined, than: number | undefined): boolean {
  if (value === undefined || than === undefined || Number.isNaN(than))
    return value !== undefined && !Number.isNaN(value);
  if (/^(calibration|popularity-bias@)/.test(name)) return Math.abs(Math.log(value)) < Math.abs(Math.log(than));
  return metricOf(name.split('/')[0]!)?.better === 'lower' ? value < than : value > than;
}
