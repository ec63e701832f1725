/** One batch for many adapters: every bag has one of its own, or none. */
import { planBags, planPlaces, type LookupPlan, type Matrix } from '@finetable/core';
import type { Kernels } from '@finetable/kernels';
import type { Adapter } from './adapter.ts';

/** The bags of one adapter, and the unique rows in them. */
interface Share {
  readonly adapter: Adapter;
  readonly bags: readonly number[];
  /** Indices into `plan.uniqueRows`, ascending. */
  readonly uniques: Int32Array;
}

/**
 * Adds to base vectors (`[b, D]`) each bag's delta: those of a first group of all adapters in one pass, then those of second groups.
 * @param chosen of each bag; all of one table, and none with `maxNorm`
 */
export function addMixed(kernels: Kernels, plan: LookupPlan, chosen: readonly (Adapter | null)[], out: Matrix): void {
  const shares = shareOut(plan, chosen);
  const slotOf = new Int32Array(plan.uniqueRows.length);
  const most = Math.max(0, ...shares.map(({ adapter }) => adapter.groups.length));
  for (let g = 0; g < most; g++) {
    const having = shares.filter(({ adapter }) => adapter.groups[g]);
    const bagDeltas = new Int32Array(planBags(plan)).fill(-1);
    const placeSlots = new Int32Array(planPlaces(plan)).fill(-1);
    having.forEach(({ adapter, bags, uniques }, which) => {
      const rows = uniques.map((unique) => plan.uniqueRows[unique]!);
      const slots = adapter.groups[g]!.slotsOf(rows, adapter.step);
      for (let i = 0; i < uniques.length; i++) slotOf[uniques[i]!] = slots[i]!;
      for (const bag of bags) {
        bagDeltas[bag] = which;
        for (let p = plan.offsets[bag]!; p < plan.offsets[bag + 1]!; p++) placeSlots[p] = slotOf[plan.placeUnique[p]!]!;
      }
    });
    const deltas = having.map(({ adapter }) => {
      const { factors, b, scale } = adapter.groups[g]!;
      return { factors, b, scale };
    });
    kernels.addChosen({ plan, deltas, bagDeltas, placeSlots, out });
  }
  for (const { adapter, bags } of shares) {
    const factors = adapter.columnFactors();
    if (!factors) continue;
    for (const bag of bags) {
      for (let j = 0, at = bag * out.cols; j < out.cols; j++, at++) out.data[at]! *= factors[j]!;
    }
  }
}

function shareOut(plan: LookupPlan, chosen: readonly (Adapter | null)[]): Share[] {
  const bagsOf = new Map<Adapter, number[]>();
  chosen.forEach((adapter, bag) => {
    if (!adapter) return;
    const bags = bagsOf.get(adapter);
    if (bags) bags.push(bag);
    else bagsOf.set(adapter, [bag]);
  });
  // The adapter that a unique row was last seen with.
  const seen = new Int32Array(plan.uniqueRows.length).fill(-1);
  return [...bagsOf].map(([adapter, bags], which) => {
    const uniques: number[] = [];
    for (const bag of bags) {
      for (let p = plan.offsets[bag]!; p < plan.offsets[bag + 1]!; p++) {
        const unique = plan.placeUnique[p]!;
        if (seen[unique] === which) continue;
        seen[unique] = which;
        uniques.push(unique);
      }
    }
    return { adapter, bags, uniques: Int32Array.from(uniques).sort() };
  });
}
