import type { Tensor, Variable } from '@tensorflow/tfjs';
import fc from 'fast-check';
import { afterEach, expect, test, vi } from 'vitest';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { embedding, type Embedding } from './layer.ts';
import type { EmbeddingOptions } from './options.ts';

/** Row v holds v + 1, so that a row of zeros is none of them. */
const rows = Array.from({ length: 5 }, (_, v) => [v + 1, v + 1]);
const layerOf = (options: EmbeddingOptions = {}): Embedding =>
  embedding({ inputDim: 5, outputDim: 2, weights: rows, name: 'words', ...options });
const lookedUp = (layer: Embedding, ids: Tensor): number[] => {
  const output = layer.apply(ids) as Tensor;
  expect(output.shape).toEqual([...ids.shape, 2]);
  return [...output.dataSync()].filter((_, i) => i % 2 === 0).map((value) => value - 1);
};
const int = (...ids: number[]): Tensor => tf.tensor1d(ids, 'int32');

/** What is warned of, and then not printed. */
const listen = () => vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
afterEach(() => {
  vi.restoreAllMocks();
});

onEachBackend(() => {
  test('ids of any shape, none of them too', () => {
    expect(lookedUp(layerOf(), tf.scalar(3, 'int32'))).toEqual([3]);
    expect(lookedUp(layerOf(), tf.tensor3d([[[4], [0]]], undefined, 'int32'))).toEqual([4, 0]);
    expect(lookedUp(layerOf(), tf.zeros([2, 0], 'int32'))).toEqual([]);
  });

  test.each([
    [() => int(1, 5), 'words: id 5 at [1] is not in [0, 5)'],
    [() => int(-1), 'words: id -1 at [0] is not in [0, 5)'],
    [() => tf.tensor2d([[0, 1], [2, 7]], undefined, 'int32'), 'words: id 7 at [1, 1] is not in [0, 5)'], // prettier-ignore
    [() => tf.tensor1d([1e10]), 'words: id 10000000000 at [0] is not in [0, 5)'],
    [() => tf.tensor1d([0, Number.NaN]), 'words: id NaN at [1] is no id'],
    [() => tf.tensor1d([-Infinity]), 'words: id -Infinity at [0] is no id'],
    [() => tf.tensor1d(['a']), 'words: ids are string'],
  ] as [() => Tensor, string][])('refused, wherever they are looked up: %#', (ids, message) => {
    listen();
    expect(() => layerOf().apply(ids())).toThrow(message);
    expect(() => layerOf({ maskZero: true }).computeMask(ids())).toThrow(message);
  });

  test('outOfRange zero gives zeros, and no row a gradient for them', () => {
    listen();
    const layer = layerOf({ outOfRange: 'zero' });
    const ids = int(-3, 2, 5);
    expect(lookedUp(layer, ids)).toEqual([-1, 2, -1]);
    expect([...ids.dataSync()]).toEqual([-3, 2, 5]);
    const { grads } = tf.variableGrads(
      () => tf.sum(layer.apply(ids) as Tensor),
      [layer.weights[0]!.read() as Variable],
    );
    const [gradient] = Object.values(grads) as [Tensor];
    expect(gradient.arraySync()).toEqual(rows.map((_, v) => (v === 2 ? [1, 1] : [0, 0])));
    expect(() => layer.apply(tf.tensor1d([Number.NaN]))).toThrow('is no id');
  });

  test('outOfRange clip takes the nearest row, and masks what is then padding', () => {
    const layer = layerOf({ outOfRange: 'clip', maskZero: true });
    expect(lookedUp(layer, int(-3, 2, 5))).toEqual([0, 2, 4]);
    expect(layer.computeMask(int(-3, 2, 5)).arraySync()).toEqual([0, 1, 1]);
    expect(
      layerOf({ outOfRange: 'zero', maskZero: true })
        .computeMask(int(-3, 2, 0))
        .arraySync(),
    ).toEqual([1, 1, 0]);
  });

  test('floats and booleans are cast toward zero, with one warning a layer', () => {
    const warn = listen();
    const layer = layerOf();
    expect(lookedUp(layer, int(1, 2))).toEqual([1, 2]);
    expect(warn).toHaveBeenCalledTimes(0);
    expect(lookedUp(layer, tf.tensor1d([3.9, 0.4, -0.9, 2]))).toEqual([3, 0, 0, 2]);
    expect(lookedUp(layer, tf.tensor1d([true, false], 'bool'))).toEqual([1, 0]);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn).toHaveBeenCalledWith(expect.stringContaining('words: ids came as float32'), 'FinetableWarning');
    lookedUp(layerOf(), tf.tensor1d([1]));
    expect(warn).toHaveBeenCalledTimes(2);
  });
});

onEachBackend(() => {
  test('complex ids, which not every backend has, are refused', () => {
    expect(() => layerOf().apply(tf.complex([1], [0]))).toThrow('words: ids are complex64');
  });

  test('float32 ids that cannot be told apart are refused', () => {
    listen();
    const layer = embedding({ inputDim: 2 ** 24 + 2, outputDim: 1, embeddingsInitializer: 'zeros', threshold: '1GiB' });
    expect(() => layer.apply(tf.tensor1d([2 ** 24]))).toThrow(
      'float32, which cannot tell ids from 16,777,216 on apart',
    );
    expect((layer.apply(tf.tensor1d([2 ** 24 + 1], 'int32')) as Tensor).shape).toEqual([1, 1]);
    layer.dispose();
  });

  test('any ids come out at their place, or are all refused', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -2, max: 6 }), { minLength: 1 }), (ids) => {
        const layer = layerOf();
        const outside = ids.findIndex((id) => id < 0 || id > 4);
        if (outside < 0) expect(lookedUp(layer, int(...ids))).toEqual(ids);
        else expect(() => layer.apply(int(...ids))).toThrow(`id ${ids[outside]} at [${outside}]`);
        if (outside < 0) layer.dispose();
      }),
      { numRuns: 30 },
    );
  });
}, ['cpu']);
