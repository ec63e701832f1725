/**
 * Several low-rank deltas of one table made into one, for touched rows only: nothing here is as long as V, or k x D.
 *
 * `cat` is the sum itself and `svd` the best approximation of it. The others merge the A factors with each other and the B
 * factors with each other, as PEFT's `add_weighted_adapter` does, and give its result: cheap, of the parts' own rank, and NOT the
 * sum. (Σ uₚ Aₚ)(Σ vₚ Bₚ) has, beside the wanted uₚ vₚ Aₚ Bₚ, the cross terms uₚ v_q Aₚ B_q of every pair, even of
 * parts that touch different rows; they vanish only where the parts use different columns of A and rows of B.
 *
 * Where we differ from PEFT: one delta alone is combined by the method asked for (PEFT takes `linear`), and the result's
 * scale is 1 (PEFT's is sqrt(rank) where the first adapter uses rsLoRA, which makes its result that much too large).
 */
import { range } from '@finetable/core';
import { checkOptions } from './check.ts';
import { checkFinite, checkParts, leftFactor, type LowRank, type SparseRows, type WeightedDelta } from './lowrank.ts';
import { disjointMean, weightedSum, type MajoritySign } from './merge.ts';
import { dropRandomly, keepLargest } from './prune.ts';
import { concatenate } from './stack.ts';
import { truncate } from './svd.ts';

/** Of methods that prune by magnitude. */
export interface Trimmed {
  /**
   * Fraction of values to keep, in (0, 1]: of all V · rank values of A and of all rank · D of B, those of largest magnitude.
   * Untouched rows count, as zeros, so A loses values only where it touches more than `density` of the table.
   */
  readonly density: number;
  /** V. */
  readonly tableRows: number;
}

/** Of DARE (Yu et al. 2023): values are dropped at random. */
export interface Dropped {
  /** Probability with which each value stays, in (0, 1]; what stays is divided by it. */
  readonly density: number;
  /** An integer in [0, 2^53). Draws depend on it, the part's place in the list, row and column. Default 0. */
  readonly seed?: number | undefined;
}

/** Of TIES (Yadav et al. 2023): values that disagree with the elected sign are left out. */
export interface Elected {
  /** Default `total`. */
  readonly majoritySign?: MajoritySign | undefined;
}

/** How adapters become one. The methods after `svd` are PEFT's `add_weighted_adapter`. */
export type CombineOptions =
  /** The exact sum; rank Σ rₚ. */
  | { readonly method: 'cat' }
  /** The sum's best approximation of this rank, from 1 to min(Σ rₚ, D) (Eckart and Young 1936). */
  | { readonly method: 'svd'; readonly rank: number }
  /** Sums of the factors, each weighted by sqrt|w s|; the sign of w s goes to A. */
  | { readonly method: 'linear' }
  /** `linear` of factors without their small values. */
  | ({ readonly method: 'magnitude_prune' } & Trimmed)
  /** Small values go, then each value is the mean of those of the majority's sign (Yadav et al. 2023). */
  | ({ readonly method: 'ties' } & Trimmed & Elected)
  /** `linear` of factors from which values were dropped at random: `linear` in expectation (Yu et al. 2024). */
  | ({ readonly method: 'dare_linear' } & Dropped)
  /** The mean of `ties` after random drops. */
  | ({ readonly method: 'dare_ties' } & Dropped & Elected);

/**
 * One delta from several of the same table. Its rows are those that any part touches, its scale is 1, and its arrays are
 * new; the parts are not changed. All methods but `cat` and `svd` need parts of one rank, which is the result's too.
 *
 * @param dim D, the same for all parts
 * @throws INVALID_ARGUMENT naming the part or option; ID_OUT_OF_RANGE for a row past `tableRows`; NON_FINITE for a factor
 * with NaN or infinity, or a result past the range of f32; UNSUPPORTED for PEFT's `…_svd` methods other than `svd`
 */
export function combineLowRank(parts: readonly WeightedDelta[], dim: number, options: CombineOptions): LowRank {
  checkParts(parts, dim);
  checkOptions(parts, dim, options);
  const combined = combine(parts, dim, options);
  checkFinite(combined.a, `combine: a of the result of ${options.method}`);
  checkFinite(combined.b, `combine: b of the result of ${options.method}`);
  return combined;
}

function combine(parts: readonly WeightedDelta[], dim: number, options: CombineOptions): LowRank {
  switch (options.method) {
    case 'cat':
      return concatenate(parts, dim);
    case 'svd':
      return truncate(parts, dim, options.rank);
    case 'linear':
      return mergeFactors(parts, dim, weightedSum);
    case 'magnitude_prune':
      return mergeFactors(trim(parts, options), dim, weightedSum);
    case 'dare_linear':
      return mergeFactors(drop(parts, dim, options), dim, weightedSum);
    case 'ties':
      return mergeFactors(trim(parts, options), dim, electing(options));
    case 'dare_ties':
      return mergeFactors(drop(parts, dim, options), dim, electing(options));
  }
}

type Merge = (factors: readonly SparseRows[], weights: readonly number[]) => SparseRows;

const electing =
  ({ majoritySign = 'total' }: Elected): Merge =>
  (factors, weights) =>
    disjointMean(factors, weights, majoritySign);

/** A and B merged apart from each other, each with the root of its weight, so that a part's own product has all of it. */
function mergeFactors(parts: readonly WeightedDelta[], dim: number, merge: Merge): LowRank {
  const { rank } = parts[0]!.delta;
  const weights = parts.map(({ delta, weight }) => weight * delta.scale);
  const left = merge(
    parts.map(({ delta }) => leftFactor(delta)),
    weights.map((weight) => Math.sign(weight) * Math.sqrt(Math.abs(weight))),
  );
  const right = merge(
    parts.map(({ delta }) => rightFactor(delta, dim)),
    weights.map((weight) => Math.sqrt(Math.abs(weight))),
  );
  return { rows: left.rows, a: left.values, rank, b: right.values, scale: 1 };
}

function trim(parts: readonly WeightedDelta[], { density, tableRows }: Trimmed): WeightedDelta[] {
  return parts.map(({ delta, weight }) => {
    const a = keepLargest(delta.a, Math.floor(density * (tableRows * delta.rank)));
    const b = keepLargest(delta.b, Math.floor(density * delta.b.length));
    return { delta: { ...delta, a, b }, weight };
  });
}

function drop(parts: readonly WeightedDelta[], dim: number, { density, seed = 0 }: Dropped): WeightedDelta[] {
  return parts.map(({ delta, weight }, p) => {
    const a = dropRandomly(leftFactor(delta), density, seed, `dare/${p}/A`);
    const b = dropRandomly(rightFactor(delta, dim), density, seed, `dare/${p}/B`);
    return { delta: { ...delta, a, b }, weight };
  });
}

const rightFactor = ({ rank, b }: LowRank, dim: number): SparseRows => ({ rows: range(rank), values: b, cols: dim });
