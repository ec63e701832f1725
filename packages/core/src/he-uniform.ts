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
}
