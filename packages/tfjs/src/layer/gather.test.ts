import fc from 'fast-check';
import type { Tensor2D } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { gatherRows } from './gather.ts';

onEachBackend(() => {
  test('rows, and the dense gradient with repeated ids summed', () => {
    const cases = fc
      .record({ v: fc.integer({ min: 1, max: 9 }), k: fc.integer({ min: 1, max: 5 }) })
      .chain(({ v, k }) =>
        fc.record({ v: fc.constant(v), k: fc.constant(k), ids: fc.array(fc.nat(v - 1), { maxLength: 12 }) }),
      );
    fc.assert(
      fc.property(cases, ({ v, k, ids }) => {
        // Whole numbers: sums are exact in any order.
        const table = Array.from({ length: v * k }, (_, i) => i);
        const upstream = Array.from({ length: ids.length * k }, (_, i) => i + 1);
        const expected = new Float32Array(v * k);
        ids.forEach((id, i) => upstream.slice(i * k, (i + 1) * k).forEach((dy, j) => (expected[id * k + j]! += dy)));
        tf.tidy(() => {
          const w = tf.tensor2d(table, [v, k]);
          const rows = tf.tensor1d(ids, 'int32');
          expect([...gatherRows(w, rows).dataSync()]).toEqual(ids.flatMap((id) => table.slice(id * k, (id + 1) * k)));
          const dy = tf.tensor2d(upstream, [ids.length, k]);
          const [gradient] = tf.grads((x) => gatherRows(x as Tensor2D, rows))([w], dy);
          expect(gradient!.dataSync()).toEqual(expected);
        });
      }),
      { numRuns: 40 },
    );
  });
});
