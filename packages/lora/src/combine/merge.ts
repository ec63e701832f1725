/** Factors of one width merged value by value, over the rows that any of them stores. */
import { unionRows, walkRows, type SparseRows } from './lowrank.ts';

export const majoritySigns = ['total', 'frequency'] as const;
/** Whose sign a merged value takes: that of the sum of the values, or the one that more of the values have. */
export type MajoritySign = (typeof majoritySigns)[number];

/** Σ weight · factor (task arithmetic: Ilharco et al. 2023). */
export function weightedSum(factors: readonly SparseRows[], weights: readonly number[]): SparseRows {
  const { rows, cols, values } = emptyUnion(factors);
  const sum = new Float64Array(cols);
  walkRows(factors, rows, (place, starts) => {
    sum.fill(0);
    for (let p = 0; p < factors.length; p++) {
      const start = starts[p]!;
      if (start < 0) continue;
      for (let c = 0; c < cols; c++) sum[c]! += weights[p]! * factors[p]!.values[start + c]!;
    }
    values.set(sum, place * cols);
  });
  return { rows, cols, values };
}

/**
 * Elect and merge of TIES (Yadav et al. 2023): of each value the factors elect a sign (+ where undecided), and the result is
 * the mean of weight · value over those factors whose value has it. Zeros have no sign and are in no mean.
 *
 * As in PEFT the election is held before the weights are applied: a negative weight changes no vote.
 */
export function disjointMean(
  factors: readonly SparseRows[],
  weights: readonly number[],
  majoritySign: MajoritySign,
): SparseRows {
  const { rows, cols, values } = emptyUnion(factors);
  const heads = majoritySign === 'frequency';
  walkRows(factors, rows, (place, starts) => {
    for (let c = 0; c < cols; c++) {
      let vote = 0;
      for (let p = 0; p < factors.length; p++) {
        if (starts[p]! < 0) continue;
        const value = factors[p]!.values[starts[p]! + c]!;
        vote += heads ? Math.sign(value) : value;
      }
      const elected = vote >= 0 ? 1 : -1;
      let sum = 0;
      let voters = 0;
      for (let p = 0; p < factors.length; p++) {
        if (starts[p]! < 0) continue;
        const value = factors[p]!.values[starts[p]! + c]!;
        if (value * elected <= 0) continue;
        sum += weights[p]! * value;
        voters++;
      }
      values[place * cols + c] = sum / Math.max(voters, 1);
    }
  });
  return { rows, cols, values };
}

function emptyUnion(factors: readonly SparseRows[]): SparseRows {
  const rows = unionRows(factors);
  const { cols } = factors[0]!;
  return { rows, cols, values: new Float32Array(rows.length * cols) };
}
