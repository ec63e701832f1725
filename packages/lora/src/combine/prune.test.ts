import fc from 'fast-check';
import { expect, test } from 'vitest';
import { dropRandomly, keepLargest } from './prune.ts';

test('keepLargest keeps what a sort by magnitude puts first, ties in order', () => {
  const value = fc.oneof(fc.constantFrom(0, -0, 1, -1, 2, -2), fc.float({ noNaN: true, noDefaultInfinity: true }));
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 40 }), fc.nat(), (list, pick) => {
      const values = Float32Array.from(list);
      const count = 1 + (pick % values.length);
      const order = [...values.keys()].sort((i, j) => Math.abs(values[j]!) - Math.abs(values[i]!) || i - j);
      const expected = new Float32Array(values.length);
      for (const i of order.slice(0, count)) expected[i] = values[i]!;
      expect(keepLargest(values, count)).toEqual(expected);
    }),
  );
});

test('keepLargest reads a view from where it begins', () => {
  const values = Float32Array.of(9, 9, 1, 3, 2).subarray(2);
  expect(keepLargest(values, 1)).toEqual(Float32Array.of(0, 3, 0));
  expect([...values]).toEqual([1, 3, 2]);
});

test('dropRandomly keeps the share asked for, scaled up, and tells streams apart', () => {
  const factor = {
    rows: Int32Array.from({ length: 5000 }, (_, i) => i * 7),
    values: new Float32Array(10_000).fill(3),
    cols: 2,
  };
  const kept = dropRandomly(factor, 0.25, 1, 'one');
  const count = kept.filter((value) => value === 12).length;
  expect(kept.filter((value) => value === 0)).toHaveLength(10_000 - count);
  expect(Math.abs(count - 2500)).toBeLessThan(5 * Math.sqrt(10_000 * 0.25 * 0.75));
  const other = dropRandomly(factor, 0.25, 1, 'two');
  const both = kept.filter((value, i) => value > 0 && other[i]! > 0).length;
  expect(Math.abs(both - 625)).toBeLessThan(5 * Math.sqrt(10_000 * 0.0625 * 0.9375));
});
