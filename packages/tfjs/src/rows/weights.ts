/** What tfjs takes for the weights of a layer whose rows live elsewhere. None is as long as the table. */
import type { LayerVariable, Tensor, Variable } from '@tensorflow/tfjs';
import { layerVariable } from '../layer/variable.ts';
import { tf } from '../load.ts';

/**
 * A scalar 0 that stands for an array of `shape`, which `summary()` counts. A trainable one is what makes tfjs call the backward pass
 * of a lookup: gradients flow to variables only. Its own gradient is 0, so no optimizer moves it.
 */
export function anchor(layerName: string, name: string, shape: readonly number[], trainable: boolean): LayerVariable {
  const zero = tf.scalar(0);
  const variable = layerVariable(layerName, name, zero, trainable);
  zero.dispose();
  (variable as { shape: readonly number[] }).shape = shape;
  return variable;
}

/**
 * An int32 list that is made when it is read, as `model.save` and `getWeights` do, and taken when it is written, as
 * `tf.loadLayersModel` and `setWeights` do. It counts as empty.
 */
export function packedWeight(
  layerName: string,
  name: string,
  pack: () => Int32Array,
  unpack: (packed: Int32Array) => void,
): LayerVariable {
  const empty = tf.tensor1d([], 'int32');
  const variable = layerVariable(layerName, name, empty, false);
  empty.dispose();
  const own = variable as unknown as { val: Variable };
  variable.read = () => {
    const packed = tf.tensor1d(pack(), 'int32');
    own.val.dispose();
    own.val = tf.variable(packed, false);
    packed.dispose();
    return own.val;
  };
  variable.write = (value: Tensor) => {
    unpack(value.dataSync<'int32'>());
    return variable;
  };
  return variable;
}
