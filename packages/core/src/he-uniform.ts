/** Random factors by row that need no storage. */
import { matrix, type Matrix } from './matrix.ts';
import { RandomStream } from './random.ts';

/**
 * A factor `[V, r]` of which any row can be made at any time: he-uniform (He et al. 2015) with fan-in V, in
 * [-√(6 / V), √(6 / V)), as Keras' `enable_lora` starts A.
 */
export class HeUniformRows {
  readonly seed: number;
  readonly stream: string;
  /** V. */
  readonly tableRows: number;
  readonly #random: RandomStream;
  readonly #limit: number;
  readonly #rank: number;

  /** @param stream names the random numbers, as in {@link RandomStream} */
  constructor(seed: number, stream: string, tableRows: number, rank: number) {
    this.seed = seed;
    this.stream = stream;
    this.tableRows = tableRows;
    this.#random = new RandomStream(seed, stream);
    this.#limit = Math.sqrt(6 / tableRows);
    this.#rank = rank;
  }

  /** These rows, `[rows.length, r]`, newly allocated. */
  of(rows: Int32Array): Matrix {
    const a = matrix(rows.length, this.#rank);
    rows.forEach((row, i) => {
      const out = a.data.subarray(i * this.#rank, (i + 1) * this.#rank);
      this.#random.fillUniform(out, -this.#limit, this.#limit, row * this.#rank);
    });
    return a;
  }

  /** One column of the rows from `first` on into `out`, `[n]`: the same values as `of` gives, without the other columns. */
  column(column: number, first: number, out: Float32Array): void {
    const scale = (2 * this.#limit) / 2 ** 24;
    for (let i = 0, at = first * this.#rank + column; i < out.length; i++, at += this.#rank)
      out[i] = -this.#limit + (this.#random.uint32(at) >>> 8) * scale;
  }
}
