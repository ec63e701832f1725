/** The D x D sum of squares of looked-up vectors, Σ eᵀ e, and its strongest directions. */
import { rowsOf, planBags, Scratch, type LookupPlan } from '@finetable/core';
import type { FeatureBags } from '@finetable/data';
import type { ShardedTable } from '@finetable/placement';
import { EigenvalueDecomposition, Matrix } from 'ml-matrix';

export class SquareSum {
  readonly #table: ShardedTable;
  readonly #scratch = new Scratch();
  /** f64: of many batches. */
  readonly #total: Float64Array;

  constructor(table: ShardedTable) {
    this.#table = table;
    this.#total = new Float64Array(table.dim ** 2);
  }

  /** @param bags of these features, whose vectors count */
  async add(plan: LookupPlan, bags: readonly FeatureBags[], signal?: AbortSignal): Promise<void> {
    const { dim, kernels } = this.#table;
    const e = this.#scratch.matrix('e', planBags(plan), dim);
    await this.#table.pool(plan, e, signal);
    const square = this.#scratch.matrix('square', dim, dim);
    for (const { firstBag, bags: count } of bags) {
      const own = rowsOf(e, firstBag, count);
      kernels.matmul({ a: own, b: own, out: square, transposeA: true });
      for (let i = 0; i < square.data.length; i++) this.#total[i]! += square.data[i]!;
    }
  }

  /** `[D, D]`, orthonormal rows, the strongest first; NaN where a vector was not finite. The largest value of each is positive. */
  directions(): Float64Array {
    const { dim } = this.#table;
    const out = new Float64Array(dim ** 2);
    if (!this.#total.every(Number.isFinite)) return out.fill(NaN);
    const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(
      Matrix.from1DArray(dim, dim, this.#total),
      { assumeSymmetric: true },
    );
    const order = realEigenvalues.map((_, i) => i).sort((a, b) => realEigenvalues[b]! - realEigenvalues[a]!);
    order.forEach((column, row) => {
      const direction = eigenvectorMatrix.getColumn(column);
      const largest = direction.reduce((most, x) => (Math.abs(x) > Math.abs(most) ? x : most), 0);
      const sign = Math.sign(largest) || 1;
      direction.forEach((x, d) => (out[row * dim + d] = sign * x));
    });
    return out;
  }
}
