/** Ragged and sparse ids: shapes, gradients, and what is refused. */
import type { Tensor } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import type { Ragged, Sparse, SparseResult } from './inputs.ts';
import { embedding, type Embedding } from './layer.ts';
import type { EmbeddingOptions } from './options.ts';

const rows = Array.from({ length: 4 }, (_, v) => [v, 10 * v]);
const layerOf = (options: EmbeddingOptions = {}): Embedding =>
  embedding({ inputDim: 4, outputDim: 2, weights: rows, name: 'words', ...options });
const int = (...ids: number[]): ReturnType<typeof tf.tensor1d> => tf.tensor1d(ids, 'int32');

onEachBackend(() => {
  test('ragged ids of two ragged dimensions keep both row splits, and are masked', () => {
    const layer = layerOf({ maskZero: true, inputLength: 3 });
    const ids: Ragged = { values: { values: int(3, 0, 1), rowSplits: int(0, 2, 2, 3) }, rowSplits: [0, 1, 3] };
    const [output, mask] = [layer.apply(ids), layer.computeMask(ids)];
    for (const found of [output, mask]) {
      expect(found.rowSplits).toEqual([0, 1, 3]);
      expect(((found.values as Ragged).rowSplits as Tensor).arraySync()).toEqual([0, 2, 2, 3]);
    }
    const innermost = (found: Ragged): unknown => ((found.values as Ragged).values as Tensor).arraySync();
    expect(innermost(output)).toEqual([[3, 30], [0, 0], [1, 10]]); // prettier-ignore
    expect(innermost(mask)).toEqual([1, 0, 1]);
  });

  test('a sparse result has the gradient of its entries', () => {
    const layer = layerOf({ sparse: true });
    layer.build();
    const ids: Sparse = { indices: [[0, 1], [1, 0], [1, 1]], values: int(2, 3, 2), denseShape: [2, 2] }; // prettier-ignore
    const weights = tf.tensor1d([1, 2, 3, 4, 5, 6]);
    const { grads } = tf.variableGrads(() => tf.sum(tf.mul((layer.apply(ids) as SparseResult).values, weights)));
    expect(Object.values(grads)[0]!.arraySync()).toEqual([[0, 0], [0, 0], [1 + 5, 2 + 6], [3, 4]]); // prettier-ignore
  });

  test('the sparse result of dense ids leaves zeros out', () => {
    const sparse = layerOf({ sparse: true }).apply({ indices: [[0]], values: [1], denseShape: [1] }) as SparseResult;
    expect(sparse.indices.arraySync()).toEqual([[0, 0], [0, 1]]); // prettier-ignore
    const found = layerOf({ sparse: true }).apply(int(0, 2)) as unknown as SparseResult;
    expect(found.indices.arraySync()).toEqual([[1, 0], [1, 1]]); // prettier-ignore
    expect([...found.values.dataSync()]).toEqual([2, 20]);
    expect(found.denseShape).toEqual([2, 2]);
  });
});

onEachBackend(() => {
  test.each([
    [() => ({ values: int(1, 2), rowSplits: [0, 1] }), 'rowSplits are 0, 1'],
    [() => ({ values: int(1, 2), rowSplits: [1, 2] }), 'allowed: from 0 ascending to 2'],
    [() => ({ values: int(1, 2), rowSplits: [0, 2, 1, 2] }), 'from 0 ascending'],
    [() => ({ values: [1, 2], rowSplits: [0, 2] }), 'values of ragged ids are a tensor'],
    [() => ({ values: int(1, 9), rowSplits: [0, 2] }), 'words: id 9 at [1]'],
    [() => ({ indices: [[0, 0]], values: [1, 2], denseShape: [2, 2] }), 'sparse ids have 2 values and 1 indices'],
    [() => ({ indices: [[0, 2]], values: [1], denseShape: [2, 2] }), 'index [0, 2] is not in the shape [2, 2]'],
    [() => ({ indices: [[0]], values: [1], denseShape: [2, 2] }), 'index [0] is not in the shape [2, 2]'],
    [() => ({ indices: [[1, 0], [1, 0]], values: [1, 2], denseShape: [2, 2] }), 'two entries have the index [1, 0]'], // prettier-ignore
    [() => ({ indices: [[1, 0]], values: [4], denseShape: [2, 2] }), 'words: id 4 at [1, 0]'],
  ] as [() => Ragged, string][])('refused: %#', (ids, message) => {
    expect(() => layerOf().apply(ids())).toThrow(message);
  });

  test('a sparse result does not go into a model', () => {
    expect(() => tf.sequential({ layers: [layerOf({ sparse: true })] })).toThrow(
      'sparse rows do not flow through models',
    );
    expect(() => layerOf({ sparse: true, maskZero: true })).toThrow('maskZero and sparse exclude each other');
  });
}, ['cpu']);
