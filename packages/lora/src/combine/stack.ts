/**
 * The exact sum of deltas: Σ w s a b = [w₁ s₁ a₁ | w₂ s₂ a₂ | …] · [b₁; b₂; …], whose rank is the sum of the ranks.
 */
import { leftFactor, unionRows, walkRows, type LowRank, type WeightedDelta } from './lowrank.ts';

/** Visits the rows of the stacked left factor in order; `row` holds R f64 values, used again for the next. */
export function walkStacked(
  parts: readonly WeightedDelta[],
  union: Int32Array,
  visit: (place: number, row: Float64Array) => void,
): void {
  const factors = parts.map(({ delta }) => leftFactor(delta));
  const row = new Float64Array(stackedRank(parts));
  walkRows(factors, union, (place, starts) => {
    let to = 0;
    for (let p = 0; p < parts.length; p++) {
      const { delta, weight } = parts[p]!;
      const start = starts[p]!;
      const factor = weight * delta.scale;
      for (let c = 0; c < delta.rank; c++) row[to++] = start < 0 ? 0 : factor * delta.a[start + c]!;
    }
    visit(place, row);
  });
}

/** R, the sum of the ranks. */
export const stackedRank = (parts: readonly WeightedDelta[]): number =>
  parts.reduce((sum, { delta }) => sum + delta.rank, 0);

/** `[R, D]`, the B factors one below the other. */
export function stackedB(parts: readonly WeightedDelta[], dim: number): Float32Array {
  const b = new Float32Array(stackedRank(parts) * dim);
  let at = 0;
  for (const { delta } of parts) {
    b.set(delta.b, at);
    at += delta.b.length;
  }
  return b;
}

/** The sum itself, of rank R. */
export function concatenate(parts: readonly WeightedDelta[], dim: number): LowRank {
  const rows = unionRows(parts.map(({ delta }) => leftFactor(delta)));
  const rank = stackedRank(parts);
  const a = new Float32Array(rows.length * rank);
  walkStacked(parts, rows, (place, row) => {
    a.set(row, place * rank);
  });
  return { rows, a, rank, b: stackedB(parts, dim), scale: 1 };
}
