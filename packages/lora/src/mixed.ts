/** One batch for many adapters: every bag has one of its own, or none. */
import { planBags, type LookupPlan, type Matrix } from '@finetable/core';
import type { Kernels } from '@finetable/kernels';
import type { Adapter } from './adapter.ts';
import { rowsOfBags } from './plans.ts';

/**
 * Adds to base vectors (`[b, D]`) each bag's delta: those of a first group of all adapters in one pass, then those of second groups.
 * @param chosen of each bag; all of one table, and none with `maxNorm`
 */
export function addMixed(kernels: Kernels, plan: LookupPlan, chosen: readonly (Adapter | null)[], out: Matrix): void {
  const shares = new Map<Adapter, number[]>();
  for (let bag = 0; bag < chosen.length; bag++) {
    const adapter = chosen[bag];
    if (!adapter) continue;
    const bags = shares.get(adapter);
    if (bags) bags.push(bag);
    else shares.set(adapter, [bag]);
  }
  const most = Math.max(0, ...[...shares.keys()].map(({ groups }) => groups.length));
  for (let g = 0; g < most; g++) {
    const having = [...shares].filter(([{ groups }]) => groups[g]);
    const bagDeltas = new Int32Array(planBags(plan)).fill(-1);
    const deltas = having.map(([adapter, bags], which) => {
      for (const bag of bags) bagDeltas[bag] = which;
      const group = adapter.groups[g]!;
      const slots = group.slotTable(() => rowsOfBags(plan, bags), adapter.step);
      const { factors, b, scale } = group;
      return { factors, slots, b, scale };
    });
    kernels.addChosen({ plan, deltas, bagDeltas, out });
  }
  for (const [adapter, bags] of shares) {
    const factors = adapter.columnFactors();
    if (!factors) continue;
    for (const bag of bags) {
      for (let j = 0, at = bag * out.cols; j < out.cols; j++, at++) out.data[at]! *= factors[j]!;
    }
  }
}
