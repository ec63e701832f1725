/** The copies that one plan's lookups read instead of a table's parts: rows of the cache, and rows brought from devices. */
import { lowerBound } from '@finetable/core';
import type { LookupPlan } from '@finetable/core';
import type { Overlay } from '@finetable/kernels';
import type { RowRange } from './cache.ts';
import type { OverlayRows } from './overlay.ts';
import type { ShardedTable } from './table.ts';

/** Rows of a plan that were brought from devices, for lookups of that plan until they are released. */
export interface FetchedRows {
  readonly plan: LookupPlan;
  /** Gives their memory back. Safe to call twice. */
  release(): void;
}

/** The copies that stand in for rows of one plan. */
export class Fetched implements FetchedRows {
  readonly table: ShardedTable;
  readonly plan: LookupPlan;
  /** `[u] i32`, as `Overlay` has it. */
  readonly slots: Int32Array;
  /** Of these, in the cache. */
  hits = 0;
  pages: readonly number[] = [];
  released = false;
  readonly #overlay: OverlayRows;
  readonly #memory: Int32Array;
  readonly #spare: Int32Array[];

  constructor(table: ShardedTable, plan: LookupPlan, overlay: OverlayRows, spare: Int32Array[]) {
    const count = plan.uniqueRows.length;
    const memory = spare.pop();
    this.#memory = memory && memory.length >= count ? memory : new Int32Array(Math.ceil(count * 1.25));
    this.#spare = spare;
    this.#overlay = overlay;
    this.table = table;
    this.plan = plan;
    this.slots = this.#memory.subarray(0, count);
  }

  get overlay(): Overlay {
    return { rows: this.#overlay.store, slots: this.slots };
  }

  /** Rows of these ranges without a copy. */
  missing(away: readonly RowRange[]): Int32Array {
    let count = 0;
    this.#each(away, () => count++);
    const rows = new Int32Array(count);
    count = 0;
    this.#each(away, (i) => (rows[count++] = this.plan.uniqueRows[i]!));
    return rows;
  }

  /** The same rows have their copies in `pages` now. */
  staged(away: readonly RowRange[]): void {
    let count = 0;
    this.#each(away, (i) => (this.slots[i] = this.#overlay.slot(this.pages, count++)));
  }

  #each(away: readonly RowRange[], visit: (i: number) => void): void {
    for (const { begin, end } of away) {
      const last = lowerBound(this.plan.uniqueRows, end);
      for (let i = lowerBound(this.plan.uniqueRows, begin); i < last; i++) if (this.slots[i]! < 0) visit(i);
    }
  }

  release(): void {
    if (this.released) return;
    this.released = true;
    this.#overlay.giveBack(this.pages);
    this.#spare.push(this.#memory);
  }
}
