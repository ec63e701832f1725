/** Plans made from a batch's plan: the same rows and places with other weights, and its unique rows one by one. */
import { planPlaces, RandomStream, range, type LookupPlan, type Matrix } from '@finetable/core';

/** The plan with every place's weight multiplied. @param factor of a place */
export function withWeights(plan: LookupPlan, factor: (place: number) => number): LookupPlan {
  const weights = new Float32Array(planPlaces(plan));
  for (let p = 0; p < weights.length; p++) weights[p] = (plan.weights ? plan.weights[p]! : 1) * factor(p);
  return { ...plan, weights };
}

/** The plan's unique rows one by one, a bag each: they are in order already, so nothing is sorted. */
export function rowByRow({ tableRows, uniqueRows }: LookupPlan): LookupPlan {
  const each = range(uniqueRows.length);
  const offsets = range(uniqueRows.length + 1);
  return {
    tableRows,
    offsets,
    weights: null,
    placeRows: uniqueRows,
    uniqueRows,
    placeUnique: each,
    groupOffsets: offsets,
    groupPlaces: each,
    groupBags: each,
  };
}

/** Where the rows of the table stand that a plan's unique rows are: row i of them is row `rows[i]` of `base`. */
export interface BaseRows {
  readonly base: Matrix;
  readonly rows: Int32Array;
}

/** The plan's unique rows in what a lookup of it pooled from the base; null unless every bag is one row as it is. */
export function unpooledRows(plan: LookupPlan, base: Matrix): BaseRows | null {
  const { offsets, uniqueRows, groupOffsets, groupPlaces } = plan;
  if (plan.weights || base.rows !== planPlaces(plan)) return null;
  for (let bag = 0; bag < base.rows; bag++) if (offsets[bag] !== bag) return null;
  const rows = new Int32Array(uniqueRows.length);
  for (let i = 0; i < rows.length; i++) rows[i] = groupPlaces[groupOffsets[i]!]!;
  return { base, rows };
}

/** Those of some of the unique rows. @param members as indices; null: all */
export const membersOf = ({ base, rows }: BaseRows, members: Int32Array | null): BaseRows =>
  members ? { base, rows: members.map((i) => rows[i]!) } : { base, rows };

/** The unique rows of some bags of a plan, ascending. */
export function rowsOfBags({ offsets, placeUnique, uniqueRows }: LookupPlan, bags: readonly number[]): Int32Array {
  const seen = new Uint8Array(uniqueRows.length);
  for (const bag of bags) {
    for (let p = offsets[bag]!; p < offsets[bag + 1]!; p++) seen[placeUnique[p]!] = 1;
  }
  return uniqueRows.filter((_, unique) => seen[unique] === 1);
}

/** Every place is left out with probability `rate`, the others grow so that the mean stays. @param stream of this step */
export function dropPlaces(plan: LookupPlan, rate: number, seed: number, stream: string): LookupPlan {
  const draws = new Float32Array(planPlaces(plan));
  new RandomStream(seed, stream).fillUniform(draws);
  return withWeights(plan, (place) => (draws[place]! < rate ? 0 : 1 / (1 - rate)));
}
