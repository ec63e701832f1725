/** Ids as a program gives them, made whole numbers in range. */
import { FinetableError } from '@finetable/core';
import type { Tensor, Tensor1D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import { placeOf } from './inputs.ts';
import type { OutOfRange } from './options.ts';
import type { Ids } from './rows.ts';

export interface ReadIds extends Ids {
  /** `[…, 1]` f32: 0 for the ids that were out of range under `zero`, else 1; null where there are none. */
  readonly inside: Tensor | null;
}

export interface IdRules {
  readonly layerName: string;
  /** V. */
  readonly inputDim: number;
  readonly outOfRange: OutOfRange;
  /** Called for ids that are not int32. */
  onCast(dtype: string): void;
}

/** Above it, float32 holds not every whole number. */
const exactFloats = 2 ** 24;

/**
 * Casts to int32 as Keras does, toward zero (3.9 -> 3), and checks every id, on the host: what lies outside a table is an error on one
 * tfjs backend, zeros on another and any row on a third.
 * @throws INVALID_ARGUMENT for a dtype that holds no numbers; NON_FINITE; ID_OUT_OF_RANGE
 */
export function readIds(input: Tensor, rules: IdRules): ReadIds {
  const { layerName, inputDim, outOfRange } = rules;
  const { dtype, shape } = input;
  if (dtype !== 'int32' && dtype !== 'float32' && dtype !== 'bool')
    throw new FinetableError('INVALID_ARGUMENT', `${layerName}: ids are ${dtype}; allowed: int32, or float32`, {
      dtype,
    });
  if (dtype !== 'int32') rules.onCast(dtype);
  const given = input.dataSync<'float32'>() as Float32Array | Int32Array | Uint8Array;
  let values = dtype === 'int32' ? (given as Int32Array) : new Int32Array(given.length);
  let inside: Float32Array | null = null;
  for (let i = 0; i < given.length; i++) {
    // Not yet an int32: 1e10 would wrap into the table.
    const id = Math.trunc(given[i]!);
    if (id >= 0 && id < inputDim && !(dtype === 'float32' && id >= exactFloats)) {
      values[i] = id;
      continue;
    }
    if (!Number.isFinite(id)) refuse(i, 'NON_FINITE', 'is no id');
    if (id >= exactFloats && id < inputDim)
      refuse(
        i,
        'INVALID_ARGUMENT',
        'is float32, which cannot tell ids from 16,777,216 on apart; give int32 (tf.input takes a dtype)',
      );
    if (outOfRange === 'error')
      refuse(
        i,
        'ID_OUT_OF_RANGE',
        `is not in [0, ${inputDim}), the rows of the table; \`outOfRange\` can be 'zero' or 'clip'`,
      );
    // What was read may be the input's own memory.
    if (values === given) values = values.slice();
    values[i] = outOfRange === 'clip' && id < 0 ? 0 : inputDim - 1;
    if (outOfRange === 'zero') (inside ??= new Float32Array(given.length).fill(1))[i] = 0;
  }
  const tensor = (): Tensor1D => (values === given ? input.as1D().toInt() : tf.tensor1d(values, 'int32'));
  return { values, tensor, shape, inside: inside && tf.tensor(inside, [...shape, 1]) };

  function refuse(at: number, code: 'NON_FINITE' | 'ID_OUT_OF_RANGE' | 'INVALID_ARGUMENT', why: string): never {
    const id = given[at]!;
    const position = placeOf(at, shape);
    throw new FinetableError(code, `${layerName}: id ${id} at [${position.join(', ')}] ${why}`, {
      layer: layerName,
      id: String(id),
      position,
      rows: inputDim,
    });
  }
}
