/** Matrices as programs give them. */
import { FinetableError } from '@finetable/core';
import type { DataType, Tensor2D, Tensor } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import type { MatrixLike } from './options.ts';

/**
 * `[rows, columns]` f32, new: the caller disposes.
 * @throws INVALID_ARGUMENT for another shape or dtype; NON_FINITE
 */
export function matrixTensor(what: string, given: unknown, shape: readonly [number, number]): Tensor2D {
  const tensor = toTensor(what, given as MatrixLike, shape);
  try {
    checkMatrix(what, tensor, shape);
  } catch (error) {
    tensor.dispose();
    throw error;
  }
  return tensor as Tensor2D;
}

/** One matrix, or a list of one, as Keras takes them. Else as {@link matrixTensor}. */
export function weightsTensor(what: string, given: unknown, shape: readonly [number, number]): Tensor2D {
  const first: unknown = Array.isArray(given) && given.length === 1 ? given[0] : null;
  // A list of one row is a matrix itself.
  const isRows = Array.isArray(first) && typeof first[0] !== 'number';
  const isFlat = first instanceof Float32Array && first.length === shape[0] * shape[1];
  return matrixTensor(what, isRows || isFlat || first instanceof tf.Tensor ? first : given, shape);
}

/** @throws INVALID_ARGUMENT for another shape or dtype; NON_FINITE, with the first place that is not finite */
export function checkMatrix(what: string, tensor: Tensor, shape: readonly number[], dtype: DataType = 'float32'): void {
  if (tensor.dtype !== dtype || String(tensor.shape) !== String(shape))
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${what}: found ${tensor.dtype} [${tensor.shape.join(', ')}]; allowed: ${dtype} [${shape.join(', ')}]`,
    );
  const data = tensor.dataSync<'float32'>();
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return;
  const columns = shape.at(-1) ?? 1;
  throw new FinetableError(
    'NON_FINITE',
    `${what}: ${data[at]} at [${Math.floor(at / columns)}, ${at % columns}]; allowed: finite numbers`,
    { row: Math.floor(at / columns), column: at % columns },
  );
}

function toTensor(what: string, given: MatrixLike, shape: readonly [number, number]): Tensor {
  if (given instanceof tf.Tensor) return given.clone();
  if (given instanceof Float32Array && given.length === shape[0] * shape[1]) return tf.tensor2d(given, [...shape]);
  const rows: unknown = given;
  const isRow = (row: unknown): row is ArrayLike<number> =>
    (Array.isArray(row) && row.every((x) => typeof x === 'number')) || row instanceof Float32Array;
  if (Array.isArray(rows) && rows.length === shape[0] && rows.every((row) => isRow(row) && row.length === shape[1])) {
    const data = new Float32Array(shape[0] * shape[1]);
    rows.forEach((row: ArrayLike<number>, i) => data.set(row, i * shape[1]));
    return tf.tensor2d(data, [...shape]);
  }
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `${what}: allowed: ${shape[0]} rows of ${shape[1]} numbers, as a tensor, lists, or a Float32Array row by row`,
  );
}
