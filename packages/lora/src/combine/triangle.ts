/**
 * R of the QR decomposition of a tall matrix that is never held: rows come in blocks, and each block is folded into the
 * R x R triangle of those before it by Householder reflections. (Tall-skinny QR with a flat tree: Demmel, Grigori,
 * Hoemmen and Langou, "Communication-optimal parallel and sequential QR and LU factorizations", 2012.)
 *
 * Unlike a Cholesky factor of AᵀA this does not square the condition number, so small singular values keep their digits.
 */

/** Rows in a block: with 32 columns they take 64 KiB, which stays in cache. */
const blockRows = 256;

export class Triangle {
  readonly columns: number;
  /** `[columns, columns]`, row-major and upper triangular. */
  readonly #triangle: Float64Array;
  /** `[columns, blockRows]`: a block lies by columns, which reflections read one after the other. */
  readonly #block: Float64Array;
  #filled = 0;

  constructor(columns: number) {
    this.columns = columns;
    this.#triangle = new Float64Array(columns * columns);
    this.#block = new Float64Array(columns * blockRows);
  }

  /** Adds one row of the tall matrix; copied. */
  add(row: Float64Array): void {
    for (let c = 0; c < this.columns; c++) this.#block[c * blockRows + this.#filled] = row[c]!;
    if (++this.#filled === blockRows) this.#fold();
  }

  /** `[columns, columns]` upper triangular with RᵀR = AᵀA for the rows so far; the signs of its rows are not specified. Not a copy. */
  factor(): Float64Array {
    if (this.#filled > 0) this.#fold();
    return this.#triangle;
  }

  /**
   * Reflects away the block, column by column. The vector of column k is v = (R_kk - α, block_k): rows of the triangle
   * other than k are zero in it.
   */
  #fold(): void {
    const { columns } = this;
    const triangle = this.#triangle;
    const block = this.#block;
    const filled = this.#filled;
    for (let k = 0; k < columns; k++) {
      const column = k * blockRows;
      let below = 0;
      for (let i = 0; i < filled; i++) below += block[column + i]! ** 2;
      if (below === 0) continue; // the column is zero already
      const diagonal = triangle[k * columns + k]!;
      const norm = Math.sqrt(diagonal * diagonal + below);
      const alpha = diagonal > 0 ? -norm : norm; // the sign that does not cancel
      const head = diagonal - alpha;
      const scale = 1 / (norm * Math.abs(head)); // 2 / vᵀv
      triangle[k * columns + k] = alpha;
      for (let j = k + 1; j < columns; j++) {
        const other = j * blockRows;
        let dot = head * triangle[k * columns + j]!;
        for (let i = 0; i < filled; i++) dot += block[column + i]! * block[other + i]!;
        dot *= scale;
        triangle[k * columns + j]! -= dot * head;
        for (let i = 0; i < filled; i++) block[other + i]! -= dot * block[column + i]!;
      }
    }
    this.#filled = 0;
  }
}
