/** Sums of metrics over batches, and which way is better. */
import type { MetricSums } from './objective.ts';

export const metricNames = ['loss', 'accuracy'] as const;
export type MetricName = (typeof metricNames)[number];

export function addSums(a: MetricSums, b: MetricSums): MetricSums {
  const sums: Record<string, number> = { ...a };
  for (const [name, value] of Object.entries(b)) sums[name] = (sums[name] ?? 0) + value;
  return sums;
}

/** True where `value` beats `than`; a loss is better when lower, everything else when higher. */
export function isBetter(metric: MetricName, value: number | undefined, than: number | undefined): boolean {
  if (value === undefined || than === undefined) return value !== undefined;
  return metric === 'loss' ? value < than : value > than;
}
