import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lowerBound, range, upperBound } from './range.ts';

test('bounds are where a linear search finds them, of typed arrays and others', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -5, max: 5 })), fc.integer({ min: -7, max: 7 }), (values, limit) => {
      values.sort((a, b) => a - b);
      for (const ascending of [values, Int32Array.from(values), Float64Array.from(values)]) {
        expect(lowerBound(ascending, limit)).toBe(values.filter((value) => value < limit).length);
        expect(upperBound(ascending, limit)).toBe(values.filter((value) => value <= limit).length);
      }
    }),
  );
});

test('ranges count from 0', () => {
  expect(range(0)).toEqual(new Int32Array(0));
  expect(range(3)).toEqual(Int32Array.of(0, 1, 2));
});
