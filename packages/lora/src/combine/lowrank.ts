/** Deltas of some rows of a table as two factors, their checks, and a walk over the rows that several of them touch. */
import { FinetableError } from '@finetable/core';

/** A low-rank delta of a table's rows: scale · a b for `rows`, zero for all others. Owned by the caller. */
export interface LowRank {
  /** The k touched rows, ascending and distinct. */
  readonly rows: Int32Array;
  /** `[k, rank]`, one row per touched row. */
  readonly a: Float32Array;
  readonly rank: number;
  /** `[rank, D]`. */
  readonly b: Float32Array;
  readonly scale: number;
}

/** A delta and what it counts for in the sum; negative takes it away. */
export interface WeightedDelta {
  readonly delta: LowRank;
  readonly weight: number;
}

/** Rows of a matrix with `cols` columns, of which the rows not listed are zeros. */
export interface SparseRows {
  /** Ascending and distinct. */
  readonly rows: Int32Array;
  readonly values: Float32Array;
  readonly cols: number;
}

/** A as rows of the table. */
export const leftFactor = ({ rows, a, rank }: LowRank): SparseRows => ({ rows, values: a, cols: rank });

/** Every row that at least one factor has, ascending. */
export function unionRows(factors: readonly SparseRows[]): Int32Array {
  const all = new Int32Array(factors.reduce((sum, { rows }) => sum + rows.length, 0));
  let at = 0;
  for (const { rows } of factors) {
    all.set(rows, at);
    at += rows.length;
  }
  all.sort();
  let count = 0;
  for (const row of all) {
    if (count === 0 || all[count - 1] !== row) all[count++] = row;
  }
  return all.slice(0, count);
}

/**
 * Visits the union's rows in order. `starts[p]` is where the row begins in the values of factor p, or -1 where that factor
 * has no such row; the array is used again for the next row.
 */
export function walkRows(
  factors: readonly SparseRows[],
  union: Int32Array,
  visit: (place: number, starts: Float64Array) => void,
): void {
  const cursors = new Int32Array(factors.length);
  const starts = new Float64Array(factors.length); // f64: a start may pass 2^31
  for (let place = 0; place < union.length; place++) {
    for (let p = 0; p < factors.length; p++) {
      const { rows, cols } = factors[p]!;
      const cursor = cursors[p]!;
      const here = cursor < rows.length && rows[cursor] === union[place];
      starts[p] = here ? cursor * cols : -1;
      if (here) cursors[p] = cursor + 1;
    }
    visit(place, starts);
  }
}

/**
 * Refuses what is no list of weighted deltas with D = `dim`.
 * @throws INVALID_ARGUMENT for no parts, shapes that do not fit, rows out of order and numbers that are not finite;
 * NON_FINITE for NaN or infinity in a factor
 */
export function checkParts(parts: readonly WeightedDelta[], dim: number): void {
  if (!Number.isSafeInteger(dim) || dim < 1) refuse(`dim ${dim}; allowed: a whole number from 1`);
  if (parts.length === 0) refuse('no deltas to combine; at least one is needed');
  parts.forEach(({ delta, weight }, p) => {
    const { rows, a, rank, b, scale } = delta;
    const where = `parts[${p}]`;
    if (!Number.isFinite(weight)) refuse(`${where}.weight ${weight}; allowed: a finite number`);
    if (!Number.isFinite(scale)) refuse(`${where}.delta.scale ${scale}; allowed: a finite number`);
    if (!Number.isSafeInteger(rank) || rank < 1) refuse(`${where}.delta.rank ${rank}; allowed: a whole number from 1`);
    if (a.length !== rows.length * rank) {
      refuse(`${where}.delta.a has ${a.length} values; ${rows.length} rows of rank ${rank} need ${rows.length * rank}`);
    }
    if (b.length !== rank * dim) {
      refuse(
        `${where}.delta.b has ${b.length} values; rank ${rank} and ${dim} dims need ${rank * dim}: are the deltas of one table?`,
      );
    }
    checkRows(rows, `${where}.delta.rows`);
    checkFinite(a, `${where}.delta.a`);
    checkFinite(b, `${where}.delta.b`);
  });
}

function checkRows(rows: Int32Array, where: string): void {
  if (rows.length > 0 && rows[0]! < 0) refuse(`${where}[0] is ${rows[0]}; allowed: rows from 0`);
  for (let i = 1; i < rows.length; i++) {
    if (rows[i]! <= rows[i - 1]!) {
      refuse(`${where}[${i}] is ${rows[i]} after ${rows[i - 1]}; allowed: ascending rows, each once`);
    }
  }
}

/** @throws NON_FINITE naming the place of the first NaN or infinity */
export function checkFinite(values: Float32Array | Float64Array, where: string): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new FinetableError('NON_FINITE', `${where}[${i}] is ${values[i]}; allowed: finite numbers`, { where });
    }
  }
}

/** @throws INVALID_ARGUMENT */
export function refuse(message: string): never {
  throw new FinetableError('INVALID_ARGUMENT', `combine: ${message}`);
}
