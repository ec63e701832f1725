import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { bucketSegments, SegmentSums } from './segments.ts';
import { Traffic } from './traffic.ts';

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

onEachBackend(() => {
  test.each([false, true])('sums as they are defined, as on a GPU: %s', async (gpu) => {
    const backend = tf.backend() as { isUsingGpuDevice?: boolean };
    const before = backend.isUsingGpuDevice;
    const { numTensors } = tf.memory();
    const offsets = Int32Array.of(0, 3, 3, 4, 9, 11, 11);
    const items = Int32Array.of(4, 2, 4, 0, 1, 1, 3, 2, 0, 4, 3);
    const values = Float32Array.from({ length: 10 }, (_, i) => 2 ** i);
    const through = Int32Array.of(3, 0, 4, 1, 2);
    const expected = (weights: ArrayLike<number>, map: ArrayLike<number>): number[] =>
      [...offsets.subarray(1)].flatMap((end, s) =>
        [0, 1].map((c) => {
          let sum = 0;
          for (let p = offsets[s]!; p < end; p++) sum += weights[p]! * values[2 * map[items[p]!]! + c]!;
          return sum;
        }),
      );
    const same = Int32Array.of(0, 1, 2, 3, 4);
    const [ones, own, others] = [1, 2, 3].map((k) => items.map((_, p) => 1 + (((k - 1) * p) % 5)));
    try {
      backend.isUsingGpuDevice = gpu;
      for (const weights of [null, Float32Array.from(own!)]) {
        const sums = new SegmentSums(offsets, items, weights, new Traffic());
        const found = tf.tidy(() => {
          const x = tf.tensor2d(values, [5, 2]);
          const other = Float32Array.from(others!);
          return [
            sums.of(x).dataSync(),
            sums.of(x, { weights: other }).dataSync(),
            sums.of(x, { through: tf.tensor1d(through, 'int32') }).dataSync(),
          ].map((result) => [...result]);
        });
        sums.dispose();
        const used = weights ?? ones!;
        expect(found).toEqual([expected(used, same), expected(others!, same), expected(used, through)]);
      }
    } finally {
      backend.isUsingGpuDevice = before!;
    }
    expect(tf.memory().numTensors).toBe(numTensors);
  });
});
