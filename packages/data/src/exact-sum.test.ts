import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addExact, addMoment, combineMoments, momentsOf, noMoments, roundExact } from './exact-sum.ts';

const f32s = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { maxLength: 60 });

/** As fractions of 2^-149 · 2^-149, exactly. */
const scale = 2 ** 149;
const exact = (x: number): bigint => BigInt(x * scale);

function sumsOf(values: readonly number[]) {
  const sums = noMoments();
  for (const value of values) addMoment(sums, value);
  return sums;
}

test('the sum is the nearest double to the exact one', () => {
  const sum = (values: readonly number[]): number => {
    const parts: number[] = [];
    for (const value of values) addExact(parts, value);
    return roundExact(parts);
  };
  expect(sum([1e30, 1, -1e30])).toBe(1);
  expect(sum([1, 1e100, 1, -1e100])).toBe(2);
  expect(sum(new Array<number>(10).fill(0.1))).toBe(1);
  expect(sum([1, 2 ** -53])).toBe(1);
  expect(sum([1, 2 ** -53, 2 ** -80])).toBe(1 + 2 ** -52);
  expect(sum([])).toBe(0);
  fc.assert(
    fc.property(f32s, (values) => {
      const total = values.map(exact).reduce((a, b) => a + b, 0n);
      // Number() of a BigInt rounds to the nearest, ties to even.
      expect(sum(values) * scale).toBe(Number(total));
    }),
  );
});

test('moments do not depend on order or grouping, and nothing cancels', () => {
  fc.assert(
    fc.property(f32s, fc.nat(60), (values, cut) => {
      const expected = momentsOf(sumsOf(values));
      expect(momentsOf(sumsOf([...values].reverse()))).toEqual(expected);
      const parts = sumsOf(values.slice(cut));
      combineMoments(parts, sumsOf(values.slice(0, cut)));
      expect(momentsOf(parts)).toEqual(expected);
    }),
  );
  expect(momentsOf(sumsOf([1, 2, 3, 4]))).toEqual({ mean: 2.5, deviation: Math.sqrt(1.25) });
  // E[x²] - E[x]² in doubles gives 0 here, or worse.
  const far = 2 ** 40;
  expect(momentsOf(sumsOf([far, far + 1, far + 2, far + 3]))).toEqual({ mean: far + 1.5, deviation: Math.sqrt(1.25) });
  expect(momentsOf(sumsOf([7, 7, 7]))).toEqual({ mean: 7, deviation: 0 });
  expect(momentsOf(noMoments())).toEqual({ mean: 0, deviation: 0 });
});
