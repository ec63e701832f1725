import { expect, test } from 'vitest';
import { accessCurves, expectedRows } from './frequencies.ts';
import type { Frequencies, TableRequest } from './types.ts';

const table = (rows: number, frequencies?: Frequencies, sortedByFrequency = false): TableRequest => ({
  name: 'items',
  rows,
  dim: 4,
  dtype: 'f32',
  bags: 1,
  idsPerBag: 1,
  frequencies,
  sortedByFrequency,
});

/** Share and distinct rows of the first `k`, row by row. */
function bruteForce(weights: readonly number[], lookups: number, k: number): { share: number; distinct: number } {
  const total = weights.reduce((a, b) => a + b, 0);
  const first = weights.slice(0, k).map((weight) => weight / total);
  return {
    share: first.reduce((a, b) => a + b, 0),
    distinct: first.reduce((a, p) => a + 1 - (1 - p) ** lookups, 0),
  };
}

test.each([0, 0.5, 1, 1.05, 2.5])('Zipf with exponent %d: as summed row by row', (zipf) => {
  const weights = Array.from({ length: 20_000 }, (_, i) => (i + 1) ** -zipf);
  const { byRank } = accessCurves(table(20_000, { zipf }), 3000);
  for (const k of [0, 1, 10, 64, 65, 70, 200, 1234, 19_999, 20_000]) {
    const { share, distinct } = bruteForce(weights, 3000, k);
    const found = byRank.first(k);
    // Relative error of the midpoint rule from rank 64 on.
    expect(Math.abs(found.share - share)).toBeLessThan(2e-5);
    expect(Math.abs(found.distinct - distinct)).toBeLessThan(2e-5 * distinct + 1e-9);
  }
});

test('Zipf over the largest table takes some hundred sums, not 2^31', () => {
  const { byRank } = accessCurves(table(2 ** 31 - 1, { zipf: 1 }), 5000);
  expect(byRank.bounds.length).toBeLessThan(300);
  // The harmonic number of 2^31 - 1 is ln(2^31 - 1) + 0.5772 = 22.065; the 1,000th 7.4855.
  expect(byRank.first(1000).share).toBeCloseTo(7.4855 / 22.065, 4);
  expect(byRank.first(2 ** 31 - 1).share).toBeCloseTo(1, 12);
});

test('without frequencies all rows are alike', () => {
  const { byRank, byRow } = accessCurves(table(100), 50);
  expect(byRow).toBe(byRank);
  expect(byRank.first(25).share).toBe(0.25);
  expect(byRank.first(100).distinct).toBeCloseTo(100 * (1 - 0.99 ** 50), 10);
  expect(expectedRows(table(100), 0)).toBe(0);
  expect(expectedRows(table(1), 7)).toBe(1);
});

test('counts: exact in both orders', () => {
  const counts = Array.from({ length: 3000 }, (_, i) => (i * 7919) % 101);
  const sorted = [...counts].sort((a, b) => b - a);
  const { byRank, byRow } = accessCurves(table(3000, { counts }), 500);
  expect([byRank.hotFirst, byRow.hotFirst]).toEqual([true, false]);
  for (const k of [0, 1, 100, 1500, 2999, 3000]) {
    for (const [curve, weights] of [
      [byRank, sorted],
      [byRow, counts],
    ] as const) {
      const { share, distinct } = bruteForce(weights, 500, k);
      expect(curve.first(k).share).toBeCloseTo(share, 10);
      expect(curve.first(k).distinct).toBeCloseTo(distinct, 7);
    }
  }
  expect(accessCurves(table(3000, { counts: sorted }), 500).byRow.hotFirst, 'sorted counts need no flag').toBe(true);
});

test('Zipf in no known order: any range of rows serves its share', () => {
  const { byRank, byRow } = accessCurves(table(1000, { zipf: 1 }), 300);
  expect(byRow.first(250).share).toBe(0.25);
  expect(byRow.first(1000).distinct).toBeCloseTo(byRank.first(1000).distinct, 10);
  expect(accessCurves(table(1000, { zipf: 1 }, true), 300).byRow.first(250).share).toBeGreaterThan(0.8);
});

test.each([
  [{ zipf: -1 }, 'zipf -1; allowed: a number of 0 or more'],
  [{ zipf: NaN }, 'zipf NaN'],
  [{ counts: [1, 2] }, "2 counts; allowed: one count of 0 or more for each of the table's 3 rows"],
  [{ counts: [1, -2, 3] }, 'count -2 of row 1'],
  [{ counts: [1, NaN, 3] }, 'count NaN of row 1'],
  [{ counts: [0, 0, 0] }, 'counts that are all 0'],
])('%j is refused', (frequencies, message) => {
  expect(() => accessCurves(table(3, frequencies), 1)).toThrow(message);
});
