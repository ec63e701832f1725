/** Which rows of a table something is about: a row group, the rows that may be trained. */
import { checkOptionNames, FinetableError, type OptionNames } from '@finetable/core';

/** Rows as people name them: a range `[from, to)` (defaults: 0 and V), a list in any order, or a set. */
export type RowSelection = RowRange | Int32Array | readonly number[] | RowSet;

/** Rows from `from` (default 0) up to `to` (default: all), exclusive. */
export interface RowRange {
  readonly from?: number | undefined;
  readonly to?: number | undefined;
}

const rangeNames: OptionNames<RowRange> = { from: true, to: true };

/** Ascending ranges that do not touch. Memory and time depend on their number, not on V. */
export class RowSet {
  /** `[2 m] i32`: range i is `[bounds[2 i], bounds[2 i + 1])`. */
  readonly bounds: Int32Array;
  /** Rows in the set. */
  readonly count: number;

  /** @param bounds as in the field; not copied */
  constructor(bounds: Int32Array) {
    this.bounds = bounds;
    let count = 0;
    for (let i = 0; i < bounds.length; i += 2) count += bounds[i + 1]! - bounds[i]!;
    this.count = count;
  }

  /** @throws INVALID_ARGUMENT naming `where`: rows outside `[0, tableRows)`, a row twice, no row at all */
  static of(selection: RowSelection, tableRows: number, where: string): RowSet {
    const refuse = (found: string): never => {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${where}: ${found}; allowed: integers from 0 to ${tableRows - 1}, each once, or a range { from, to } with from below to`,
      );
    };
    if (selection instanceof RowSet) {
      const end = selection.bounds.at(-1) ?? 0;
      return end <= tableRows ? selection : refuse(`found row ${end - 1}`);
    }
    if (!Array.isArray(selection) && !(selection instanceof Int32Array)) {
      if (typeof selection !== 'object' || (selection as RowRange | null) === null)
        return refuse(`found ${typeof selection === 'string' ? JSON.stringify(selection) : String(selection)}`);
      checkOptionNames(where, selection, rangeNames);
      if (Object.keys(selection).length === 0) return refuse('found an object without from and to');
      const { from = 0, to = tableRows } = selection as RowRange;
      const good = Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from < to && to <= tableRows;
      return good ? new RowSet(Int32Array.of(from, to)) : refuse(`found { from: ${from}, to: ${to} }`);
    }
    const wrong = (selection as readonly number[]).find((r) => !Number.isInteger(r) || r < 0 || r >= tableRows);
    if (wrong !== undefined) refuse(`found row ${typeof wrong === 'number' ? wrong : JSON.stringify(wrong)}`);
    if (selection.length === 0) refuse('found no rows');
    const rows = Int32Array.from(selection as readonly number[]).sort();
    const bounds: number[] = [];
    rows.forEach((row, i) => {
      if (i > 0 && row === rows[i - 1]) refuse(`found row ${row} twice`);
      if (bounds.at(-1) === row) bounds[bounds.length - 1] = row + 1;
      else bounds.push(row, row + 1);
    });
    return new RowSet(Int32Array.from(bounds));
  }

  /** Whether a row is in it. */
  has(row: number): boolean {
    return this.#boundsUpTo(row, 0, this.bounds.length) % 2 === 1;
  }

  /** How many bounds are `row` or below, which is odd inside a range. @param low known to be no more, `high` no fewer */
  #boundsUpTo(row: number, low: number, high: number): number {
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.bounds[middle]! <= row) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The rows that are in `other` too. */
  and(other: RowSet): RowSet {
    return this.without(this.without(other));
  }

  /** The rows that are not in `other`. */
  without(other: RowSet): RowSet {
    const bounds: number[] = [];
    let at = 0;
    for (let i = 0; i < this.bounds.length; i += 2) {
      let begin = this.bounds[i]!;
      const end = this.bounds[i + 1]!;
      while (at < other.bounds.length && other.bounds[at + 1]! <= begin) at += 2;
      for (let j = at; j < other.bounds.length && other.bounds[j]! < end; j += 2) {
        if (other.bounds[j]! > begin) bounds.push(begin, other.bounds[j]!);
        begin = Math.max(begin, other.bounds[j + 1]!);
      }
      if (begin < end) bounds.push(begin, end);
    }
    return new RowSet(Int32Array.from(bounds));
  }

  /** Which of these ascending rows are in the set, as indices; null where all are. */
  indicesOf(rows: Int32Array): Int32Array | null {
    const { bounds } = this;
    if (bounds.length === 2 && (rows.length === 0 || (bounds[0]! <= rows[0]! && rows.at(-1)! < bounds[1]!)))
      return null;
    const found = new Int32Array(rows.length);
    let count = 0;
    // Each search begins where the one before ended and strides ahead: rows and ranges may be many, and lie apart.
    let at = 0;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      let stride = 1;
      for (; at + stride <= bounds.length && bounds[at + stride - 1]! <= row; stride *= 2) at += stride;
      at = this.#boundsUpTo(row, at, Math.min(at + stride, bounds.length));
      if (at % 2 === 1) found[count++] = i;
    }
    return count === rows.length ? null : found.subarray(0, count);
  }
}
