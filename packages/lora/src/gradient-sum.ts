/**
 * Gradients of several batches, added up for one optimiser step: gradient accumulation. Work and memory are those of the rows that the
 * batches have. Sums are made in the order of the batches on one thread, so they are the same for any number of threads.
 */
import type { LookupPlan, Matrix } from '@finetable/core';
import type { Kernels } from '@finetable/kernels';
import type { Adapter, AdapterGradients } from './adapter.ts';
import type { GroupGradients, RowGroup } from './group.ts';
import { SlotMap } from './slots.ts';

/** Of one group. */
interface Sums {
  readonly group: RowGroup;
  /** Where each row's sum is. */
  readonly places: SlotMap;
  /** `[capacity, r]`; null where A is not trained. */
  rows: Float32Array | null;
  b: Float32Array | null;
}

/** Gradients of several batches, added up by row. Its matrices are its own, and used again. */
export class GradientSum {
  readonly #kernels: Kernels;
  readonly #groups: readonly Sums[];
  #magnitude: Float32Array | null = null;
  #weight = 0;

  constructor({ groups, table }: Adapter) {
    this.#kernels = table.kernels;
    this.#groups = groups.map((group) => ({ group, places: new SlotMap(table.kernels), rows: null, b: null }));
  }

  /** Adds the gradients of a batch's mean loss. @param weight of the batch in the mean of all: its examples */
  add({ uniqueRows }: Pick<LookupPlan, 'uniqueRows'>, { groups, magnitude }: AdapterGradients, weight: number): void {
    this.#weight += weight;
    this.#groups.forEach((sums, g) => {
      const { members, rows, b } = groups[g]!;
      if (rows) addRows(sums, members ? members.map((i) => uniqueRows[i]!) : uniqueRows, rows, weight);
      if (b) addTo((sums.b ??= new Float32Array(b.data.length)), b.data, weight);
    });
    if (magnitude) addTo((this.#magnitude ??= new Float32Array(magnitude.length)), magnitude, weight);
  }

  /** What one batch of all the examples has, for `Adapter.update`: its rows, and the mean's gradients. Newly allocated. */
  mean(): { readonly plan: Pick<LookupPlan, 'uniqueRows'>; readonly gradients: AdapterGradients } {
    const uniqueRows = new Int32Array(this.#groups.reduce((count, { places }) => count + places.size, 0));
    let filled = 0;
    for (const { places } of this.#groups) {
      uniqueRows.set(places.rows, filled);
      filled += places.size;
    }
    uniqueRows.sort();
    const magnitude = this.#magnitude;
    if (magnitude) this.#divide(magnitude);
    return {
      plan: { uniqueRows },
      gradients: { groups: this.#groups.map((sums) => this.#groupMean(sums, uniqueRows)), magnitude },
    };
  }

  #groupMean({ group: { rank, table }, places, rows, b }: Sums, uniqueRows: Int32Array): GroupGradients {
    if (b) this.#divide(b);
    const meanOfB = b && { rows: rank, cols: table.dim, data: b };
    const found = new Int32Array(uniqueRows.length);
    places.find(uniqueRows, found);
    const members = Int32Array.from(found.keys()).filter((i) => found[i]! >= 0);
    const all = members.length === uniqueRows.length ? null : members;
    if (!rows) return { members: all, rows: null, b: meanOfB };
    const data = new Float32Array(members.length * rank);
    members.forEach((unique, i) => {
      for (let c = 0, from = found[unique]! * rank; c < rank; c++) data[i * rank + c] = rows[from + c]!;
    });
    this.#divide(data);
    return { members: all, rows: { rows: members.length, cols: rank, data }, b: meanOfB };
  }

  #divide(sum: Float32Array): void {
    this.#kernels.scaleInPlace(sum, 1 / this.#weight);
  }
}

function addRows(sums: Sums, rows: Int32Array, { data, cols }: Matrix, weight: number): void {
  const { places } = sums;
  const at = new Int32Array(rows.length);
  places.find(rows, at);
  places.insertMissing(rows, at);
  sums.rows ??= new Float32Array(0);
  if (sums.rows.length < places.size * cols) {
    const grown = new Float32Array(Math.max(places.size * cols, 1.5 * sums.rows.length));
    grown.set(sums.rows);
    sums.rows = grown;
  }
  const all = sums.rows;
  for (let i = 0; i < at.length; i++) {
    for (let c = 0, to = at[i]! * cols; c < cols; c++) all[to + c]! += weight * data[i * cols + c]!;
  }
}

/** `sum += weight x`. */
export function addTo(sum: Float32Array, x: Float32Array, weight: number): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += weight * x[i]!;
}
