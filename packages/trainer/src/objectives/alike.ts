/** Examples that have the same ids for a feature. */
import { FinetableError } from '@finetable/core';
import type { Batch } from '@finetable/data';

/** The ids of each example's bag as a text, which differs from those of every other bag and table. @throws INVALID_ARGUMENT */
export function bagKeys({ features, plans }: Batch, feature: string): string[] {
  const bags = features[feature];
  const plan = bags && plans[bags.table];
  if (!plan) throw new FinetableError('INVALID_ARGUMENT', `the batch has no ids of feature "${feature}"`, { feature });
  return Array.from({ length: bags.bags }, (_, i) => {
    const bag = bags.firstBag + i;
    return `${bags.table}:${plan.placeRows.subarray(plan.offsets[bag], plan.offsets[bag + 1]).join()}`;
  });
}

/**
 * By query, the candidates beside its own that are as good: those with its own one's ids, and the own ones of queries with its ids.
 * @param queries `[B]` @param candidates `[N]`, N from B
 */
export function alike(queries: readonly string[], candidates: readonly string[]): number[][] {
  const [byQuery, byCandidate] = [groups(queries), groups(candidates)];
  return queries.map((query, i) => {
    const others = new Set([...byQuery.get(query)!, ...byCandidate.get(candidates[i]!)!]);
    others.delete(i);
    return [...others];
  });
}

function groups(keys: readonly string[]): Map<string, number[]> {
  const out = new Map<string, number[]>();
  keys.forEach((key, i) => {
    const group = out.get(key);
    if (group) group.push(i);
    else out.set(key, [i]);
  });
  return out;
}
