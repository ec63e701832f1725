/** Bag lookup, its delta, and the segment sum that is the backward of both. */
import { planBags } from '@finetable/core';
import type { LookupPlan, Matrix } from '@finetable/core';
import type { Delta, LookupArgs, SegmentSumArgs } from '../kernels.ts';
import type { PortableRows } from './rows.ts';
import { addProduct, addScaled, RowSum } from './vectors.ts';

/** `out = Σ w W[id]`, each bag in the order of its places. */
export function poolBase({ base, plan, out }: LookupArgs): void {
  const { offsets, weights, uniqueRows, placeUnique } = plan;
  const stores = base.map((shard) => shard.store as PortableRows);
  const firstRows = base.map((shard) => shard.firstRow);
  const sum = new RowSum(out.cols);
  out.data.fill(0);
  for (let bag = 0; bag < out.rows; bag++) {
    const at = bag * out.cols;
    for (let place = offsets[bag]!; place < offsets[bag + 1]!; place++) {
      const row = uniqueRows[placeUnique[place]!]!;
      let shard = stores.length - 1;
      while (firstRows[shard]! > row) shard--;
      sum.add(out.data, at, stores[shard]!, row - firstRows[shard]!, weights ? weights[place]! : 1);
    }
    sum.finish(out.data, at);
  }
}

/**
 * Adds the delta to `out`. A bag none of whose rows was touched is left as it is; in the others Ā is summed first, then
 * `s Ā[k] B[k]` is added for k = 0, 1, …, or `s Σ w A[slot]` at once where there is no B.
 */
export function addDelta(plan: LookupPlan, delta: Delta, out: Matrix, pooledFactors: Matrix | null): void {
  const { b, scale } = delta;
  const rank = delta.factors.dim;
  const pooled = pooledFactors?.data ?? new Float32Array(rank);
  const sum = new RowSum(rank);
  for (let bag = 0; bag < planBags(plan); bag++) {
    const at = pooledFactors ? bag * rank : 0;
    const outAt = bag * out.cols;
    if (!poolFactors(plan, delta, bag, sum, pooled, at)) continue;
    if (b === null) addScaled(out.data, outAt, pooled, at, scale, rank);
    else addProduct(out.data, outAt, pooled, at, 1, rank, b.data, b.cols, scale);
  }
}

/** `pooled[at ..] = Σ w A[slot]` of one bag; false where it has no touched row. */
function poolFactors(
  { offsets, weights, placeUnique }: LookupPlan,
  { slots, factors }: Delta,
  bag: number,
  sum: RowSum,
  pooled: Float32Array,
  at: number,
): boolean {
  pooled.fill(0, at, at + factors.dim);
  let touched = false;
  for (let place = offsets[bag]!; place < offsets[bag + 1]!; place++) {
    const slot = slots[placeUnique[place]!]!;
    if (slot < 0) continue;
    sum.add(pooled, at, factors as PortableRows, slot, weights ? weights[place]! : 1);
    touched = true;
  }
  sum.finish(pooled, at);
  return touched;
}

export function segmentSum({ plan, values, out }: SegmentSumArgs): void {
  const { weights, groupOffsets, groupPlaces, groupBags } = plan;
  const { cols } = values;
  out.data.fill(0);
  for (let unique = 0; unique < out.rows; unique++) {
    for (let i = groupOffsets[unique]!; i < groupOffsets[unique + 1]!; i++) {
      const w = weights ? weights[groupPlaces[i]!]! : 1;
      addScaled(out.data, unique * cols, values.data, groupBags[i]! * cols, w, cols);
    }
  }
}
