/** Bag lookup, its delta, and the segment sum that is the backward of both. */
import { planBags } from '@finetable/core';
import type { LookupPlan, Matrix } from '@finetable/core';
import type { ChosenDeltas, Delta, LookupArgs, LookupDelta, RowStore, SegmentSumArgs, Shard } from '../kernels.ts';
import { scaleColumns } from './dense.ts';
import type { PortableRows } from './rows.ts';
import { findSlots } from './slots.ts';
import { RowSum } from './sums.ts';
import { addProduct, addScaled } from './vectors.ts';

/** `out = Σ w W[id]`, each bag in the order of its places. */
export function poolBase(args: LookupArgs): void {
  const { base, overlay, out } = args;
  out.data.fill(0);
  // A lookup whose every row has a copy needs no shards.
  if (base.length === 0 && overlay) return poolColumns(args, [], 0, out.cols);
  for (let first = 0; first < base.length;) {
    const { store, firstColumn = 0 } = base[first]!;
    let end = first + 1;
    while (end < base.length && (base[end]!.firstColumn ?? 0) === firstColumn) end++;
    poolColumns(args, base.slice(first, end), firstColumn, store.dim);
    first = end;
  }
}

/** The sums of columns `[firstColumn, firstColumn + columns)`, which are those of `shards`. */
function poolColumns(
  { overlay, plan, out }: LookupArgs,
  shards: readonly Shard[],
  firstColumn: number,
  columns: number,
): void {
  const { offsets, weights, placeRows, uniqueRows, placeUnique } = plan;
  const stores = shards.map((shard) => shard.store as PortableRows);
  const firstRows = shards.map((shard) => shard.firstRow);
  const copies = overlay ? (overlay.rows as PortableRows) : null;
  const slots = overlay ? overlay.slots : null;
  const groups = (copies ? [...stores, copies] : stores).map((store) => store.groupDims || columns);
  const sum = new RowSum(out.data, columns, Math.min(columns, ...groups));
  for (let bag = 0; bag < out.rows; bag++) {
    sum.begin(bag * out.cols + firstColumn);
    for (let place = offsets[bag]!; place < offsets[bag + 1]!; place++) {
      const w = weights ? weights[place]! : 1;
      const copy = slots ? slots[placeUnique[place]!]! : -1;
      if (copy >= 0) {
        sum.add(copies!, copy, firstColumn, w);
        continue;
      }
      // Where there are copies, it is unique rows that were found to have a copy or a shard.
      const row = slots ? uniqueRows[placeUnique[place]!]! : placeRows[place]!;
      let shard = stores.length - 1;
      while (firstRows[shard]! > row) shard--;
      sum.add(stores[shard]!, row - firstRows[shard]!, 0, w);
    }
  }
  sum.finish();
}

/** Bags whose Ā are summed at once: enough that their scattered rows fill a block of `RowSum`. */
const sliceBags = 128;

/** Adds the delta to `out`, which is kept before and multiplied by columns afterwards where the delta asks for it. */
export function addDelta(plan: LookupPlan, delta: LookupDelta, out: Matrix, pooledFactors: Matrix | null): void {
  delta.pooledBase?.data.set(out.data);
  addFactors(plan, delta, out, pooledFactors);
  if (delta.columns) scaleColumns(out, delta.columns);
}

/**
 * Adds the delta to `out`. A bag none of whose rows was touched is left as it is; in the others Ā is summed first, then
 * `s Ā[k] B[k]` is added for k = 0, 1, …, or `s Σ w A[slot]` at once where there is no B.
 */
function addFactors(plan: LookupPlan, delta: Delta, out: Matrix, pooledFactors: Matrix | null): void {
  const { factors, slots } = delta;
  const { placeUnique } = plan;
  const slotOf = (place: number): number => slots[placeUnique[place]!]!;
  const bags = planBags(plan);
  const pooled = pooledFactors?.data ?? new Float32Array(Math.min(bags, sliceBags) * factors.dim);
  const touched = new Uint8Array(sliceBags);
  const sum = new RowSum(pooled, factors.dim);
  for (let first = 0; first < bags; first += sliceBags) {
    const count = Math.min(sliceBags, bags - first);
    const at = pooledFactors ? first * factors.dim : 0;
    pooled.fill(0, at, at + count * factors.dim);
    for (let i = 0; i < count; i++) {
      sum.begin(at + i * factors.dim);
      touched[i] = poolFactors(plan, factors, slotOf, first + i, sum) ? 1 : 0;
    }
    sum.finish();
    for (let i = 0; i < count; i++) {
      if (touched[i] === 1) addPooled(out, first + i, pooled, at + i * factors.dim, delta);
    }
  }
}

/** `out[bag] += s Ā B`. */
function addPooled(
  out: Matrix,
  bag: number,
  pooled: Float32Array,
  at: number,
  { factors, b, scale }: Pick<Delta, 'factors' | 'b' | 'scale'>,
): void {
  const outAt = bag * out.cols;
  if (b === null) addScaled(out.data, outAt, pooled, at, scale, factors.dim);
  else addProduct(out.data, outAt, pooled, at, 1, factors.dim, b.data, b.cols, scale);
}

export function addChosen({ plan, deltas, bagDeltas, out }: ChosenDeltas): boolean {
  const pooled = new Float32Array(Math.max(0, ...deltas.map(({ factors }) => factors.dim)));
  const sums = deltas.map(({ factors }) => new RowSum(pooled, factors.dim));
  const found = new Int32Array(1);
  let good = true;
  for (let bag = 0; bag < planBags(plan); bag++) {
    const which = bagDeltas[bag]!;
    if (which < 0) continue;
    const { factors, slots } = deltas[which]!;
    const slotOf = (place: number): number => {
      findSlots(slots, plan.placeRows.subarray(place, place + 1), found);
      if (found[0]! < factors.rows) return found[0]!;
      good = false;
      return -1;
    };
    pooled.fill(0);
    const sum = sums[which]!;
    sum.begin(0);
    const touched = poolFactors(plan, factors, slotOf, bag, sum);
    sum.finish();
    if (touched) addPooled(out, bag, pooled, 0, deltas[which]!);
  }
  return good;
}

/** Adds `w A[slot]` of one bag's touched rows to the sum; false where there are none. */
function poolFactors(
  { offsets, weights }: LookupPlan,
  factors: RowStore,
  slotOf: (place: number) => number,
  bag: number,
  sum: RowSum,
): boolean {
  let touched = false;
  for (let place = offsets[bag]!; place < offsets[bag + 1]!; place++) {
    const slot = slotOf(place);
    if (slot < 0) continue;
    sum.add(factors as PortableRows, slot, 0, weights ? weights[place]! : 1);
    touched = true;
  }
  return touched;
}

export function segmentSum({ plan, values, uniques, out }: SegmentSumArgs): void {
  const { weights, groupOffsets, groupPlaces, groupBags } = plan;
  const { cols } = values;
  out.data.fill(0);
  for (let row = 0; row < out.rows; row++) {
    const unique = uniques ? uniques[row]! : row;
    for (let i = groupOffsets[unique]!; i < groupOffsets[unique + 1]!; i++) {
      const w = weights ? weights[groupPlaces[i]!]! : 1;
      addScaled(out.data, row * cols, values.data, groupBags[i]! * cols, w, cols);
    }
  }
}
