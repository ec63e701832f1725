/** Rows by their ids, with the gradient that tfjs has not on every backend. */
import type { GradSaveFunc, Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';

/**
 * `[V, k]` and `[n]` int32 -> `[n, k]`. The gradient in the table is dense, `[V, k]`, what any tfjs optimizer takes, with repeated ids
 * summed. tfjs' own comes from `unsortedSegmentSum`, which the WASM backend lacks and others build from V comparisons; `scatterND` is
 * on all of them.
 */
export function gatherRows(table: Tensor2D, ids: Tensor1D): Tensor2D {
  const [v, k] = table.shape;
  const op = tf.customGrad((...args) => {
    const [given, save] = args as unknown as [Tensor2D, GradSaveFunc];
    // The ids live in a tidy that is over when the gradient's turn comes.
    save([ids]);
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor =>
      ids.size === 0 ? tf.zeros([v, k]) : tf.scatterND(saved[0]!.reshape([ids.size, 1]), dy, [v, k]);
    return { value: tf.gather(given, ids), gradFunc };
  });
  return op(table) as Tensor2D;
}
