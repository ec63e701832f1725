/** Metrics of looking for rows of a table: of the k found, best first, which are relevant. */
import type { SumMetric } from './metric.ts';
import type { Outputs, RetrievalOutputs } from './outputs.ts';

/** Places from 0 of the relevant rows among the first k found. */
function hits({ found, k, relevant }: RetrievalOutputs, i: number, most: number): number[] {
  const rows = new Set(relevant.values.subarray(relevant.offsets[i], relevant.offsets[i + 1]));
  const places: number[] = [];
  for (let place = 0; place < Math.min(k, most); place++) if (rows.has(found[i * k + place]!)) places.push(place);
  return places;
}

const relevantOf = ({ relevant }: RetrievalOutputs, i: number): number =>
  relevant.offsets[i + 1]! - relevant.offsets[i]!;

/** A mean over the examples that have something relevant. */
function mean(name: string, k: number, of: (outputs: RetrievalOutputs, i: number) => number): SumMetric {
  return {
    kind: 'sums',
    name,
    better: 'higher',
    applies: ({ retrieval }) => retrieval !== undefined && retrieval.k >= Math.min(k, retrieval.rows),
    size: () => 2,
    add: (sums, { retrieval }, i, weight) => {
      if (relevantOf(retrieval!, i) === 0) return;
      sums[0]! += weight * of(retrieval!, i);
      sums[1]! += weight;
    },
    value: (sums) => sums[0]! / sums[1]!,
  };
}

/** The share of what is relevant that is among the first k. */
export const recallAt = (k: number): SumMetric =>
  mean(`recall@${k}`, k, (outputs, i) => hits(outputs, i, k).length / relevantOf(outputs, i));

/** Whether anything relevant is among the first k. */
export const hitRateAt = (k: number): SumMetric =>
  mean(`hit-rate@${k}`, k, (outputs, i) => Number(hits(outputs, i, k).length > 0));

/** One over the place of the first relevant row, 0 beyond k. */
export const reciprocalRankAt = (k: number): SumMetric =>
  mean(`mrr@${k}`, k, (outputs, i) => {
    const [first] = hits(outputs, i, k);
    return first === undefined ? 0 : 1 / (first + 1);
  });

/** Discounted cumulative gain with gains of 0 and 1, over that of the best order (Järvelin and Kekäläinen 2002). */
export const ndcgAt = (k: number): SumMetric =>
  mean(`ndcg@${k}`, k, (outputs, i) => {
    const discount = (place: number): number => 1 / Math.log2(place + 2);
    let best = 0;
    for (let place = 0; place < Math.min(k, relevantOf(outputs, i)); place++) best += discount(place);
    return hits(outputs, i, k).reduce((sum, place) => sum + discount(place), 0) / best;
  });

/** The share of the table's rows that are among anybody's first k. */
export const coverageAt = (k: number): SumMetric => ({
  kind: 'sums',
  name: `coverage@${k}`,
  better: 'higher',
  applies: ({ retrieval }) => retrieval !== undefined && retrieval.k >= Math.min(k, retrieval.rows),
  size: ({ retrieval }) => retrieval!.rows,
  add: (sums, { retrieval }: Outputs, i) => {
    const { found, k: width } = retrieval!;
    for (let place = 0; place < Math.min(width, k); place++) sums[found[i * width + place]!] = 1;
  },
  value: (sums) => sums.reduce((sum, seen) => sum + seen, 0) / sums.length,
});

/**
 * The mean popularity of what is among the first k, over that of what is relevant: above 1, popular rows are found more often than they
 * are asked for.
 */
export const popularityBiasAt = (k: number): SumMetric => ({
  kind: 'sums',
  name: `popularity-bias@${k}`,
  // Nearer to 1, as of calibration.
  better: 'lower',
  applies: ({ retrieval }) => retrieval?.popularity !== undefined && retrieval.k >= Math.min(k, retrieval.rows),
  size: () => 4,
  add: (sums, { retrieval }, i, weight) => {
    const { found, k: width, relevant, popularity } = retrieval!;
    for (let place = 0; place < Math.min(width, k); place++) {
      const row = found[i * width + place]!;
      if (row < 0) continue;
      sums[0]! += weight * popularity![row]!;
      sums[1]! += weight;
    }
    for (let at = relevant.offsets[i]!; at < relevant.offsets[i + 1]!; at++) {
      sums[2]! += weight * popularity![relevant.values[at]!]!;
      sums[3]! += weight;
    }
  },
  value: (sums) => sums[0]! / sums[1]! / (sums[2]! / sums[3]!),
});
