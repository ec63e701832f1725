/**
 * Sentence vectors without what all of them have in common: E' = E - E Uᵀ U, U `[k, D]` the first principal directions of the training
 * texts' vectors, about 0, of the frozen table (Arora et al., "A simple but tough-to-beat baseline for sentence embeddings", ICLR 2017). They
 * are found once and stay: gradients go through the projection, which is linear and its own transpose.
 */
import { FinetableError, matrix, Scratch, type Matrix } from '@finetable/core';
import type { Loader } from '@finetable/data';
import type { Kernels } from '@finetable/kernels';
import type { ShardedTable } from '@finetable/placement';
import type { DenseParameter, Objective, ObjectiveContext, ObjectiveTensor } from '../objective.ts';
import { addTo } from './layers.ts';
import { SquareSum } from './square-sum.ts';
import { TransformedObjective, type Transform } from './transformed.ts';

/**
 * The objective, reading vectors without their parts along these directions.
 * @param directions by feature, `[k, D]`, orthonormal rows, as `commonDirections` finds them
 * @throws INVALID_ARGUMENT for a feature that the objective does not read
 */
export function withoutCommon(objective: Objective, directions: Readonly<Record<string, Matrix>>): Objective {
  return new TransformedObjective(objective, new Projection(directions));
}

class Projection implements Transform {
  readonly features: readonly string[];
  readonly learns = false;
  /** Kept with the result: another process has to leave out the same. */
  readonly values: readonly ObjectiveTensor[];
  readonly #directions: Readonly<Record<string, Matrix>>;
  readonly #scratch = new Scratch();
  #kernels!: Kernels;

  constructor(directions: Readonly<Record<string, Matrix>>) {
    this.features = Object.keys(directions);
    this.#directions = directions;
    this.values = Object.entries(directions).map(([feature, { rows, cols, data }]) => ({
      name: `common/${feature}`,
      shape: [rows, cols],
      data,
    }));
  }

  initialize({ kernels, featureDims }: ObjectiveContext): readonly DenseParameter[] {
    this.#kernels = kernels;
    for (const [feature, { cols }] of Object.entries(this.#directions)) {
      if (cols === featureDims[feature]) continue;
      const message = `withoutCommon: directions of ${cols} dims for feature "${feature}" of ${featureDims[feature]}`;
      throw new FinetableError('INVALID_ARGUMENT', message, { feature });
    }
    return [];
  }

  forward(feature: string, x: Matrix, out: Matrix): void {
    const directions = this.#directions[feature]!;
    const parts = this.#scratch.matrix('parts', x.rows, directions.rows);
    this.#kernels.matmul({ a: x, b: directions, out: parts, transposeB: true });
    this.#kernels.matmul({ a: parts, b: directions, out, scale: -1 });
    addTo(out.data, x.data);
  }

  backward(feature: string, _x: Matrix, gradient: Matrix, out: Matrix | null): void {
    if (out) this.forward(feature, gradient, out);
  }

  matrixOf(feature: string): Matrix {
    const { cols } = this.#directions[feature]!;
    const identity = matrix(cols, cols);
    for (let d = 0; d < cols; d++) identity.data[d * cols + d] = 1;
    const out = matrix(cols, cols);
    this.forward(feature, identity, out);
    return out;
  }
}

/**
 * The directions that the vectors of features have most in common, over one pass of a loader. Features of one table have the same
 * ones, found over all of their vectors. In memory are D x D sums.
 * @param counts how many, by feature: from 1, below D
 * @returns `[k, D]` for each, orthonormal rows, the strongest first; the same for any number of threads
 * @throws INVALID_ARGUMENT; what iterating the loader throws
 */
export async function commonDirections(
  loader: Loader,
  tables: Readonly<Record<string, ShardedTable>>,
  counts: Readonly<Record<string, number>>,
  signal?: AbortSignal,
): Promise<Record<string, Matrix>> {
  const tableOf = (feature: string): ShardedTable => tables[loader.data.features[feature]!.table]!;
  for (const [feature, count] of Object.entries(counts)) {
    const { dim } = tableOf(feature);
    if (Number.isInteger(count) && count >= 1 && count < dim) continue;
    const message = `removeCommon: found ${count} for feature "${feature}"; allowed: 1 to ${dim - 1}, below the table's dims`;
    throw new FinetableError('INVALID_ARGUMENT', message, { feature });
  }
  const sums = new Map([...new Set(Object.keys(counts).map(tableOf))].map((table) => [table, new SquareSum(table)]));
  for await (const { plans, features } of loader.batches(0)) {
    signal?.throwIfAborted();
    for (const [name, plan] of Object.entries(plans)) {
      const bags = Object.entries(features).filter(([feature, { table }]) => table === name && feature in counts);
      const sum = sums.get(tables[name]!);
      if (sum) await sum.add(plan, bags.map(([, of]) => of), signal); // prettier-ignore
    }
  }
  const found = new Map([...sums].map(([table, sum]) => [table, sum.directions()]));
  return Object.fromEntries(
    Object.entries(counts).map(([feature, count]) => {
      const { dim, name } = tableOf(feature);
      const directions = found.get(tableOf(feature))!;
      if (!directions.every(Number.isFinite))
        throw new FinetableError('NON_FINITE', `removeCommon: vectors of table "${name}" are not finite`, { table: name }); // prettier-ignore
      return [feature, matrix(count, dim, Float32Array.from(directions.subarray(0, count * dim)))];
    }),
  );
}
