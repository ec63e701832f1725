/** Which rows of a table an adapter changes. */
import { lowerBound, range } from '@finetable/core';
import type { Adapter } from '../adapter.ts';

/** Rows `[begin, end)`. */
interface Run {
  readonly begin: number;
  readonly end: number;
}

/** Memory depends on touched rows and on runs, not on V. */
export class ChangedRows {
  /** In all. */
  readonly count: number;
  /** Where every row changes. */
  readonly #runs: readonly Run[];
  /** `[t] i32`, ascending; none in `#runs`. */
  readonly #touched: Int32Array;

  /** @param adapter settled */
  constructor(adapter: Adapter) {
    const { groups, table } = adapter;
    // DoRA scales every row; of a group whose untouched rows of A are not 0, every member moves.
    const whole = adapter.magnitude !== null ? [] : groups.filter((group) => group.untouched !== null);
    const touched = adapter.magnitude !== null ? [] : groups.filter((group) => group.untouched === null);
    const runs = adapter.magnitude === null ? [] : [{ begin: 0, end: table.rows }];
    for (const { members } of whole) {
      for (let i = 0; i < members.bounds.length; i += 2)
        runs.push({ begin: members.bounds[i]!, end: members.bounds[i + 1]! });
    }
    this.#runs = runs;
    this.#touched = new Int32Array(touched.reduce((sum, group) => sum + group.touchedRows, 0));
    let at = 0;
    for (const { slots } of touched) {
      this.#touched.set(slots.rows, at);
      at += slots.size;
    }
    this.#touched.sort();
    this.count = runs.reduce((sum, { begin, end }) => sum + end - begin, this.#touched.length);
  }

  /** Those in `[first, first + count)`, ascending. */
  within(first: number, count: number): Int32Array {
    const end = first + count;
    const parts = [this.#touched.subarray(lowerBound(this.#touched, first), lowerBound(this.#touched, end))];
    for (const run of this.#runs) {
      const begin = Math.max(first, run.begin);
      if (begin < Math.min(end, run.end)) parts.push(range(Math.min(end, run.end) - begin).map((i) => begin + i));
    }
    const found = parts.filter((part) => part.length > 0);
    if (found.length <= 1) return found[0] ?? new Int32Array(0);
    const rows = new Int32Array(found.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of found) {
      rows.set(part, at);
      at += part.length;
    }
    return rows.sort();
  }
}
