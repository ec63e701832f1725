/** Rows as a dtype stores them, and the error that rounding made. The kernels round, so that files hold what they would. */
import { FinetableError, matrix, range, rowBytes, rowScales, type Matrix, type RowFormat } from '@finetable/core';
import type { Kernels, RowStore } from '@finetable/kernels';
import { chunkRows } from './read-rows.ts';

/** Between rows as they were and as they are stored. Rows with NaN or infinity do not count. */
export interface RoundingError {
  /** Largest difference of two values. */
  readonly maxAbsolute: number;
  /** Root of the mean square difference of values. */
  readonly rms: number;
  /** Of rows, but not of rows of zeros; null where there are no others. */
  readonly meanCosine: number | null;
}

/** Overwritten by the next chunk. */
export interface EncodedRows {
  readonly elements: Uint8Array;
  /** Empty without scales. */
  readonly scales: Uint8Array;
}

export class RowEncoder {
  readonly format: RowFormat;
  readonly #kernels: Kernels;
  readonly #store: RowStore;
  readonly #ids: Int32Array;
  readonly #decoded: Float32Array;
  readonly #elements: Uint8Array;
  readonly #scales: Uint8Array;
  #maxAbsolute = 0;
  #squares = 0;
  #values = 0;
  #cosines = 0;
  #directions = 0;

  constructor(format: RowFormat, kernels: Kernels) {
    const { dim, dtype, groupDims } = format;
    const rows = chunkRows(dim);
    this.format = format;
    this.#kernels = kernels;
    this.#store = kernels.createRows(rows, dim, dtype, groupDims);
    this.#ids = range(rows);
    this.#decoded = new Float32Array(rows * dim);
    this.#elements = new Uint8Array(rows * rowBytes(dtype, dim));
    this.#scales = new Uint8Array(rows * 4 * rowScales(format));
  }

  /**
   * @param values `[up to chunkRows, D]`
   * @param where what an error calls row i of them
   * @throws NON_FINITE for a number that the dtype does not hold; f16 and bf16 do hold NaN and infinity
   */
  encode(values: Matrix, where: (row: number) => string): EncodedRows {
    const { dtype, dim, groupDims } = this.format;
    if (dtype === 'f32') {
      const { buffer, byteOffset, byteLength } = values.data;
      return { elements: new Uint8Array(buffer, byteOffset, byteLength), scales: this.#scales };
    }
    const at = groupDims === 0 ? -1 : this.#kernels.firstNonFinite(values.data);
    if (at >= 0)
      throw new FinetableError(
        'NON_FINITE',
        `${where(Math.floor(at / dim))}: value ${at % dim} is ${values.data[at]}, which ${dtype} cannot hold; keep a float dtype, or mend the row`,
      );
    const { rows } = values;
    const ids = this.#ids.subarray(0, rows);
    const decoded = matrix(rows, dim, this.#decoded.subarray(0, rows * dim));
    this.#kernels.scatterRows(this.#store, ids, values);
    this.#kernels.gatherRows(this.#store, ids, decoded);
    this.#compare(values.data, decoded.data, where);
    const elements = this.#elements.subarray(0, rows * rowBytes(dtype, dim));
    const scales = this.#scales.subarray(0, rows * 4 * rowScales(this.format));
    this.#kernels.readBytes(this.#store, 0, elements);
    if (scales.length > 0) this.#kernels.readBytes(this.#store, this.#elements.length, scales);
    return { elements, scales };
  }

  /** Of all rows so far. */
  get error(): RoundingError {
    return {
      maxAbsolute: this.#maxAbsolute,
      rms: this.#values === 0 ? 0 : Math.sqrt(this.#squares / this.#values),
      meanCosine: this.#directions === 0 ? null : this.#cosines / this.#directions,
    };
  }

  #compare(before: Float32Array, after: Float32Array, where: (row: number) => string): void {
    const { dim, dtype } = this.format;
    for (let begin = 0; begin < before.length; begin += dim) {
      let [largest, squares, dot, normBefore, normAfter] = [0, 0, 0, 0, 0];
      for (let i = begin; i < begin + dim; i++) {
        const x = before[i]!;
        const y = after[i]!;
        const difference = Math.abs(x - y);
        if (difference > largest) largest = difference;
        squares += difference * difference;
        dot += x * y;
        normBefore += x * x;
        normAfter += y * y;
      }
      if (!Number.isFinite(squares)) {
        for (let i = begin; i < begin + dim; i++) {
          if (Number.isFinite(after[i]) || !Number.isFinite(before[i])) continue;
          const allowed = dtype === 'f16' ? '; allowed: up to 65504' : '';
          throw new FinetableError(
            'NON_FINITE',
            `${where(begin / dim)}: ${before[i]} does not fit ${dtype}${allowed}. Keep f32`,
          );
        }
        continue;
      }
      if (largest > this.#maxAbsolute) this.#maxAbsolute = largest;
      this.#squares += squares;
      this.#values += dim;
      if (normBefore === 0) continue;
      this.#cosines += normAfter === 0 ? 0 : dot / (Math.sqrt(normBefore) * Math.sqrt(normAfter));
      this.#directions++;
    }
  }

  close(): void {
    this.#store.close();
  }
}
