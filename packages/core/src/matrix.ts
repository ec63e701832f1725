/** Row-major f32 matrices: what batches are made of. Tables are not matrices; they live in row stores. */
import { FinetableError } from './errors.ts';

/** A `[rows, cols]` f32 matrix over `data`, row-major and contiguous; `data.length === rows * cols`. */
export interface Matrix {
  readonly data: Float32Array;
  readonly rows: number;
  readonly cols: number;
}

/** A matrix over `data`, or over new zeros. */
export function matrix(rows: number, cols: number, data: Float32Array = new Float32Array(rows * cols)): Matrix {
  if (data.length !== rows * cols) {
    throw new FinetableError('INVALID_ARGUMENT', `a [${rows}, ${cols}] matrix needs ${rows * cols} values, found ${data.length}`);
  }
  return { data, rows, cols };
}

/** Rows `[first, first + count)` as a view; no copy. */
export function rowsOf(m: Matrix, first: number, count: number): Matrix {
  if (first < 0 || count < 0 || first + count > m.rows) {
    throw new FinetableError('INVALID_ARGUMENT', `rows ${first}..${first + count} of a matrix with ${m.rows} rows`);
  }
  return { data: m.data.subarray(first * m.cols, (first + count) * m.cols), rows: count, cols: m.cols };
}
