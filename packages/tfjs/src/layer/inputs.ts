/** Ragged and sparse ids, for which tfjs has no tensors, as plain objects with the fields of TensorFlow's. */
import { FinetableError } from '@finetable/core';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';

type Integers = Tensor1D | Int32Array | readonly number[];

/** Row i has `values[rowSplits[i]]` up to `values[rowSplits[i + 1]]`. Values that are ragged themselves have more ragged dimensions. */
export interface Ragged<T = Tensor> {
  readonly values: T | Ragged<T>;
  readonly rowSplits: Integers;
}

/** The entries that are there: `indices` `[n, k]`, `values` `[n]`, in a shape of k dimensions. */
export interface Sparse {
  readonly indices: Tensor2D | readonly (readonly number[])[];
  readonly values: Tensor1D | Int32Array | readonly number[];
  readonly denseShape: readonly number[];
}

export interface SparseResult extends Sparse {
  readonly indices: Tensor2D;
  readonly values: Tensor1D;
}

const has = (input: unknown, ...names: string[]): boolean =>
  typeof input === 'object' && input !== null && !(input instanceof tf.Tensor) && names.every((name) => name in input);

export const isRagged = (input: unknown): input is Ragged => has(input, 'values', 'rowSplits');
export const isSparse = (input: unknown): input is Sparse => has(input, 'indices', 'values', 'denseShape');

/**
 * The same rows with other values.
 * @throws INVALID_ARGUMENT for row splits that do not start at 0, descend, or end elsewhere than the values
 */
export function mapRagged<T>(where: string, ragged: Ragged, map: (values: Tensor) => T): Ragged<T> {
  const splits = integers(ragged.rowSplits);
  const inner = isRagged(ragged.values);
  const values = inner ? mapRagged(where, ragged.values, map) : null;
  if (!inner && !(ragged.values instanceof tf.Tensor)) refuse(`${where}: values of ragged ids are a tensor, or ragged`);
  const rows = isRagged(ragged.values) ? integers(ragged.values.rowSplits).length - 1 : (ragged.values.shape[0] ?? 0);
  const descends = splits.findIndex((split, i) => i > 0 && split < splits[i - 1]!);
  if (splits[0] !== 0 || descends > 0 || splits.at(-1) !== rows)
    refuse(
      `${where}: rowSplits are ${[...splits].slice(0, 8).join(', ')}…; allowed: from 0 ascending to ${rows}, the number of values`,
    );
  return { values: values ?? map(ragged.values as Tensor), rowSplits: ragged.rowSplits };
}

/** Ids of `denseShape`, 0 where there is no entry, as Keras looks them up. New. @throws INVALID_ARGUMENT */
export function densify(where: string, sparse: Sparse): Tensor {
  const { denseShape } = sparse;
  const { values, dtype } = numbers(sparse.values);
  const data = new Float64Array(denseShape.reduce((size, n) => size * n, 1));
  const taken = new Uint8Array(data.length);
  positions(where, sparse, values.length).forEach((at, i) => {
    if (taken[at]) refuse(`${where}: two entries have the index [${placeOf(at, denseShape).join(', ')}]`);
    taken[at] = 1;
    data[at] = values[i]!;
  });
  return tf.tensor(dtype === 'int32' ? Int32Array.from(data) : Float32Array.from(data), [...denseShape], dtype);
}

/** The entries' values as a tensor, new, their places checked. @throws INVALID_ARGUMENT */
export function entriesOf(where: string, sparse: Sparse): { values: Tensor1D; indices: number[][] } {
  const { values, dtype } = numbers(sparse.values);
  const at = [...positions(where, sparse, values.length)];
  return { values: tf.tensor1d([...values], dtype), indices: at.map((place) => placeOf(place, sparse.denseShape)) };
}

/** `[n, D]` rows of n entries as a sparse result, one entry a number. */
export function sparseRows(
  indices: readonly (readonly number[])[],
  rows: Tensor2D,
  denseShape: readonly number[],
): SparseResult {
  const d = rows.shape[1];
  const all = indices.flatMap((index) => Array.from({ length: d }, (_, j) => [...index, j]));
  return {
    indices: tf.tensor2d(all.flat(), [all.length, denseShape.length + 1], 'int32'),
    values: rows.as1D(),
    denseShape: [...denseShape, d],
  };
}

/** The numbers of a dense result that are not 0, as `tf.sparse.from_dense`. */
export function sparseOf(dense: Tensor): SparseResult {
  const data = dense.dataSync();
  const at = Int32Array.from(data.keys()).filter((i) => data[i] !== 0);
  const indices = [...at].flatMap((i) => placeOf(i, dense.shape));
  return {
    indices: tf.tensor2d(indices, [at.length, dense.rank], 'int32'),
    values: tf.tidy(() => tf.gather(dense.as1D(), tf.tensor1d(at, 'int32'))),
    denseShape: dense.shape,
  };
}

function positions(where: string, { indices, denseShape }: Sparse, n: number): Int32Array {
  const rows = indices instanceof tf.Tensor ? indices.arraySync() : indices;
  if (rows.length !== n) refuse(`${where}: sparse ids have ${n} values and ${rows.length} indices`);
  return Int32Array.from(rows, (index) => {
    const inside =
      index.length === denseShape.length && index.every((i, k) => Number.isInteger(i) && i >= 0 && i < denseShape[k]!);
    if (!inside) refuse(`${where}: index [${index.join(', ')}] is not in the shape [${denseShape.join(', ')}]`);
    return index.reduce((at, i, k) => at * denseShape[k]! + i, 0);
  });
}

/** Indices along every dimension of one place in the numbers row by row. */
export function placeOf(place: number, shape: readonly number[]): number[] {
  return shape.reduceRight<number[]>((index, size) => {
    index.unshift(place % size);
    place = Math.floor(place / size);
    return index;
  }, []);
}

function integers(given: Integers): Int32Array {
  return given instanceof tf.Tensor ? (given.dataSync() as Int32Array) : Int32Array.from(given);
}

function numbers(given: Sparse['values']): {
  values: ArrayLike<number> & Iterable<number>;
  dtype: 'int32' | 'float32';
} {
  if (given instanceof tf.Tensor)
    return { values: given.dataSync(), dtype: given.dtype === 'int32' ? 'int32' : 'float32' };
  const whole = given instanceof Int32Array || given.every((value) => Number.isInteger(value));
  return { values: given, dtype: whole ? 'int32' : 'float32' };
}

function refuse(message: string): never {
  throw new FinetableError('INVALID_ARGUMENT', message);
}
