import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bucketSegments } from './segments.ts';

test('every segment that is not empty is in one bucket, with its places in order, less than half of them filled up', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(4), fc.nat(70)), { maxLength: 30 }), (counts) => {
      const offsets = Int32Array.of(0, ...counts.map((_, i) => counts.slice(0, i + 1).reduce((a, b) => a + b, 0)));
      const found = new Map<number, number[]>();
      for (const { length, segments, places } of bucketSegments(offsets)) {
        expect(places.length).toBe(segments.length * length);
        segments.forEach((segment, i) => {
          const own = [...places.subarray(i * length, (i + 1) * length)];
          const real = own.filter((p) => p >= 0);
          expect(2 * real.length).toBeGreaterThan(length);
          expect(own.slice(real.length)).toEqual(own.slice(real.length).map(() => -1 - real[0]!));
          expect(found.has(segment)).toBe(false);
          found.set(segment, real);
        });
      }
      counts.forEach((count, i) =>
        expect(found.get(i) ?? []).toEqual(Array.from({ length: count }, (_, j) => offsets[i]! + j)),
      );
    }),
  );
});
