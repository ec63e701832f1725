/** Row-major f32 matrices: what batches are made of. Tables are not matrices; they live in row stores. */
import { FinetableError } from './errors.ts';

/** A `[rows, cols]` f32 matrix over `data`, row-major and contiguous; `data.length === rows * cols`. */
export interface Matrix {
  readonly data: Float32Array;
  readonly rows: number;
  readonly cols: number;
}

/**
 * A matrix over `data`, or over new zeros.
 * @throws INVALID_ARGUMENT for a shape that is none, or `data` of another length
 */
export function matrix(rows: number, cols: number, data?: Float32Array): Matrix {
  if (!isCount(rows) || !isCount(cols)) {
    throw new FinetableError('INVALID_ARGUMENT', `a [${rows}, ${cols}] matrix; allowed: whole numbers from 0`);
  }
  data ??= new Float32Array(rows * cols);
  if (data.length !== rows * cols) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `a [${rows}, ${cols}] matrix needs ${rows * cols} values, found ${data.length}`,
    );
  }
  return { data, rows, cols };
}

/** Rows `[first, first + count)` as a view; no copy. */
export function rowsOf(m: Matrix, first: number, count: number): Matrix {
  if (!isCount(first) || !isCount(count) || first + count > m.rows) {
    throw new FinetableError('INVALID_ARGUMENT', `rows ${first}..${first + count} of a matrix with ${m.rows} rows`);
  }
  return { data: m.data.subarray(first * m.cols, (first + count) * m.cols), rows: count, cols: m.cols };
}

/**
 * Arrays used again for every batch: a name's memory grows to the largest shape asked for and is never freed. What
 * was returned before under the same name is overwritten.
 */
export class Scratch {
  readonly #arrays = new Map<string, Float32Array>();
  readonly #integers = new Map<string, Int32Array>();

  /** A `[rows, cols]` matrix with unspecified contents, valid until `name` is asked for again. */
  matrix(name: string, rows: number, cols: number): Matrix {
    const length = rows * cols;
    let array = this.#arrays.get(name);
    if (array === undefined || array.length < length) {
      array = matrix(rows, cols).data;
      this.#arrays.set(name, array);
    }
    return matrix(rows, cols, array.subarray(0, length));
  }

  /** `length` integers with unspecified contents, valid until `name` is asked for again; a matrix of that name is another. */
  integers(name: string, length: number): Int32Array {
    let array = this.#integers.get(name);
    if (array === undefined || array.length < length) {
      array = new Int32Array(length);
      this.#integers.set(name, array);
    }
    return array.subarray(0, length);
  }
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
