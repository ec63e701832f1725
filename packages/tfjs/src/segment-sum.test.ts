import { expect, test } from 'vitest';
import { tf } from './load.ts';
import { onEachBackend } from './testing/backends.ts';

onEachBackend(() => {
  test('the gradient of gather adds up the places of a row', async () => {
    const table = tf.tensor2d([1, 2, 3, 4, 5, 6], [3, 2]);
    const upstream = tf.tensor2d([1, 10, 2, 20, 4, 40], [3, 2]);
    const gradient = tf.grad((x: InstanceType<typeof tf.Tensor>) => tf.sum(tf.mul(tf.gather(x, [2, 0, 2]), upstream)))(
      table,
    );
    expect(await gradient.array()).toEqual([
      [2, 20],
      [0, 0],
      [5, 50],
    ]);
  });

  test('rows may have any shape, and be whole numbers', async () => {
    const x = tf.tensor3d([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2], 'int32');
    const sums = tf.unsortedSegmentSum(x, tf.tensor1d([1, 1], 'int32'), 2);
    expect(await sums.array()).toEqual([
      [
        [0, 0],
        [0, 0],
      ],
      [
        [6, 8],
        [10, 12],
      ],
    ]);
    expect(await tf.unsortedSegmentSum(tf.tensor1d([1, 2, 4]), tf.tensor1d([0, -1, 0], 'int32'), 1).array()).toEqual([
      5,
    ]);
  });
});

onEachBackend(() => {
  test('sums are the same each time, in order of the rows, and nothing is left behind', async () => {
    const values = Float32Array.from({ length: 999 }, (_, i) => Math.sin(i) * 10 ** (i % 7));
    let sum = 0;
    for (const value of values) sum = Math.fround(sum + value);
    const before = tf.memory().numTensors;
    for (let i = 0; i < 3; i++) {
      const sums = tf.tidy(() =>
        tf.unsortedSegmentSum(tf.tensor2d(values, [999, 1]), tf.zeros([999], 'int32') as never, 1),
      );
      expect(await sums.data()).toEqual(Float32Array.of(sum));
      sums.dispose();
    }
    const none = tf.tidy(() => tf.unsortedSegmentSum(tf.zeros([0, 2], 'int32'), tf.tensor1d([], 'int32'), 2));
    expect({ dtype: none.dtype, values: await none.array() }).toEqual({
      dtype: 'int32',
      values: [
        [0, 0],
        [0, 0],
      ],
    });
    none.dispose();
    expect(() => tf.tidy(() => tf.unsortedSegmentSum(tf.ones([1, 2]), tf.tensor1d([3], 'int32'), 3))).toThrow(
      'unsortedSegmentSum: found segment 3; allowed: below 3',
    );
    expect(tf.memory().numTensors).toBe(before);
  });
}, ['wasm']);
