/** A layer's variables. */
import type { LayerVariable, Tensor } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import type { Constraint } from './tfjs-types.ts';

/**
 * A variable with a copy of `value`, saved as `layerName/name`. tfjs takes that name from the scope that happens to be open, which
 * differs between `build`, `enableLora` and loading, so that a saved adapter would not find its way back.
 */
export function layerVariable(
  layerName: string,
  name: string,
  value: Tensor,
  trainable: boolean,
  constraint: Constraint | null = null,
): LayerVariable {
  const variable = new tf.LayerVariable(value, value.dtype, `${layerName}/${name}`, trainable);
  (variable as { originalName: string }).originalName = `${layerName}/${name}`;
  if (constraint) projectOnAssign(variable, constraint);
  return variable;
}

/** Optimizers of tfjs write to the `tf.Variable` itself, past `LayerVariable.constraint`, which so is never applied in training. */
function projectOnAssign(layerVariable: LayerVariable, constraint: Constraint): void {
  const variable = layerVariable.read() as Tensor & { assign(value: Tensor): void };
  const assign = variable.assign.bind(variable);
  variable.assign = (value) => {
    const projected = tf.tidy(() => constraint.apply(value).clone());
    assign(projected);
    projected.dispose();
  };
}
