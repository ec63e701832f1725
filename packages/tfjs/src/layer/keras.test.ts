/** Against Keras 3 and tf-keras themselves, and against the answers that everybody knows. */
import type { Tensor } from '@tensorflow/tfjs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { embedding, type Embedding } from './layer.ts';
import type { EmbeddingOptions } from './options.ts';
import { keras, type Steps } from './testing/keras.ts';

const inputDim = keras.w.length;
const outputDim = keras.w[0]!.length;
/** f32 sums in another order. */
const close = 2e-6;

function plain(options: EmbeddingOptions = {}): Embedding {
  const layer = embedding({ inputDim, outputDim, weights: keras.w, ...options });
  layer.build();
  return layer;
}

function withLora(options: EmbeddingOptions = {}): Embedding {
  const layer = plain(options);
  layer.enableLora(keras.a[0]!.length, { loraAlpha: keras.alpha, weights: [keras.a, keras.b] });
  return layer;
}

function far(found: Tensor, expected: unknown): number {
  const given = (expected as number[]).flat(3);
  expect(found.size).toBe(given.length);
  const data = found.dataSync();
  return Math.max(...given.map((x, i) => Math.abs(x - data[i]!)));
}

const ids = (): Tensor => tf.tensor2d(keras.ids, undefined, 'int32');
const lossOf = (layer: Embedding) => (): ReturnType<typeof tf.scalar> =>
  tf.mean(tf.squaredDifference(layer.apply(ids()) as Tensor, tf.tensor3d(keras.target)));

const optimizers = {
  sgd: () => tf.train.sgd(keras.rates.sgd),
  adam: () => tf.train.adam(keras.rates.adam),
  adagrad: () => tf.train.adagrad(keras.rates.adagrad, 0.1),
};

/** What is warned of, and then not printed. */
const listen = () => vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
afterEach(() => {
  vi.restoreAllMocks();
});

onEachBackend(() => {
  describe.each([
    ['plain', plain, keras.plain],
    ['LoRA', withLora, keras.lora],
  ] as [string, (options?: EmbeddingOptions) => Embedding, Steps][])('%s', (_, make, expected) => {
    test('forward and gradients, with ids that repeat', () => {
      const layer = make();
      expect(far(layer.apply(ids()) as Tensor, expected.output)).toBeLessThan(close);
      const variables = layer.trainableWeights.map((weight) => weight.read() as ReturnType<typeof tf.variable>);
      const { value, grads } = tf.variableGrads(lossOf(layer), variables);
      expect(value.dataSync()[0]).toBeCloseTo(expected.loss, 6);
      expected.gradients.forEach((gradient, i) =>
        expect(far(grads[variables[i]!.name]!, gradient)).toBeLessThan(close),
      );
    });

    test.each(['sgd', 'adam', 'adagrad'] as const)('five steps of %s give what the dense gradient gives', (name) => {
      const layer = make();
      const optimizer = optimizers[name]();
      const losses = expected.dense[name].losses.map(() => optimizer.minimize(lossOf(layer), true)!.dataSync()[0]!);
      losses.forEach((loss, i) => expect(loss).toBeCloseTo(expected.dense[name].losses[i]!, 5));
      const found = layer.getWeights(true);
      // Keras adds Adam's epsilon before it corrects the second moment's bias, tfjs after: 30 times another epsilon in the first step.
      const tolerance = name === 'adam' ? 1e-4 : close;
      expected.dense[name].weights.forEach((w, i) => expect(far(found[i]!, w)).toBeLessThan(tolerance));
    });
  });

  test('LoRA: the table is W + (alpha / r) A B, W is frozen', () => {
    const layer = withLora();
    expect(far(layer.embeddings, keras.loraTable)).toBeLessThan(close);
    expect(layer.nonTrainableWeights.map((w) => w.shape)).toEqual([[inputDim, outputDim]]);
  });

  test('masks are of the ids cast to int32', () => {
    listen();
    const layer = plain({ maskZero: true });
    const mask = layer.computeMask(tf.tensor2d(keras.mask.ids, undefined, 'int32'));
    expect(mask.dtype).toBe('bool');
    expect(mask.arraySync()).toEqual(keras.mask.mask.map((row) => row.map(Number)));
    expect(plain().computeMask(ids())).toBe(keras.mask.none);
    const fractions = tf.tensor2d(keras.mask.fractions);
    expect(far(layer.apply(fractions) as Tensor, keras.mask.fractionsOutput)).toBeLessThan(close);
    // Keras compares before it casts: 0.4 looks up the padding and is not masked. Here it is.
    expect(keras.mask.fractionsMask).toEqual([[true, true, false, true]]);
    expect(layer.computeMask(fractions).arraySync()).toEqual([[0, 0, 0, 1]]);
  });

  test('sparse ids', () => {
    const { input, keras3, tfKeras, tfKerasSparse, denseIds, tfKerasSparseFromDense } = keras.sparse;
    const dense = plain().apply(input) as Tensor;
    expect(dense.shape).toEqual([...input.denseShape, outputDim]);
    expect(far(dense, keras3)).toBeLessThan(close);
    expect(far(dense, tfKeras)).toBeLessThan(close);
    const layer = plain({ sparse: true });
    for (const [given, expected] of [
      [input, tfKerasSparse],
      [tf.tensor2d(denseIds, undefined, 'int32'), tfKerasSparseFromDense],
    ] as const) {
      const sparse = layer.apply(given as typeof input);
      if (sparse instanceof tf.Tensor) throw new Error('dense');
      expect(sparse.indices.arraySync()).toEqual(expected.indices);
      expect(far(sparse.values, expected.values)).toBeLessThan(close);
      expect(sparse.denseShape).toEqual(expected.denseShape);
    }
  });

  test('ragged ids', () => {
    listen();
    const { input, keras3, tfKeras } = keras.ragged;
    const { values, rowSplits } = plain().apply({ values: tf.tensor1d(input.values), rowSplits: input.rowSplits });
    expect(far(values as Tensor, keras3.values)).toBeLessThan(close);
    expect(far(values as Tensor, tfKeras.values)).toBeLessThan(close);
    expect([rowSplits, rowSplits]).toEqual([keras3.rowSplits, tfKeras.rowSplits]);
  });

  test.each(['int8', 'int4'] as const)('%s rows, with LoRA and without', (mode) => {
    const expected = keras.quantized[mode];
    const [layer, lora] = [plain(), withLora()];
    for (const each of [layer, lora]) each.quantize(mode);
    expect(far(layer.apply(ids()) as Tensor, expected.output)).toBeLessThan(close);
    expect(far(lora.apply(ids()) as Tensor, expected.loraOutput)).toBeLessThan(close);
    expect(
      far(
        layer.embeddings,
        expected.codes.map((row, i) => row.map((code) => code / expected.scales[i]!)),
      ),
    ).toBeLessThan(close);
    expect(far(layer.getWeights()[1]!, expected.scales)).toBeLessThan(1e-4);
    expect([layer.trainableWeights.length, lora.trainableWeights.length]).toEqual([0, 2]);
  });

  test('penalties of regularizers', () => {
    const embeddingsRegularizer = tf.regularizers.l1l2({ l1: 0.1, l2: 0.2 });
    const of = (layer: Embedding): number => layer.calculateLosses().reduce((sum, x) => sum + x.dataSync()[0]!, 0);
    expect(of(plain({ embeddingsRegularizer }))).toBeCloseTo(keras.penalties.plain, 5);
    expect(of(withLora({ embeddingsRegularizer }))).toBeCloseTo(keras.penalties.lora, 5);
    const active = plain({ activityRegularizer: embeddingsRegularizer });
    active.apply(ids(), { training: true });
    const [term] = active.calculateLosses();
    expect(term!.dataSync()[0]).toBeCloseTo(keras.penalties.activity, 5);
    expect(keras.penalties.activityTfKeras).toBeCloseTo(keras.penalties.activity, 5);
    expect(of(active)).toBe(0);
  });

  test('a constraint is applied by whatever optimizer writes', () => {
    const layer = plain({ embeddingsConstraint: tf.constraints.maxNorm({ maxValue: 0.8, axis: 1 }) });
    tf.train.sgd(0.5).minimize(lossOf(layer));
    expect(far(layer.embeddings, keras.constrained)).toBeLessThan(close);
  });

  test('the answers that everybody knows', () => {
    const output = embedding({ inputDim: 4, outputDim: 3 }).apply(tf.tensor1d([1, 3], 'int32')) as Tensor;
    expect(output.shape).toEqual([2, 3]);
    const masked = embedding({ inputDim: 5, outputDim: 4, maskZero: true });
    expect((masked.apply(tf.zeros([2, 3], 'int32')) as Tensor).shape).toEqual([2, 3, 4]);
    expect([masked.trainableWeights.length, masked.nonTrainableWeights.length]).toEqual([1, 0]);

    const of = (weights: number[][]): Embedding => embedding({ inputDim: weights.length, outputDim: 2, weights });
    const steps = of([[0, 0], [2, 2], [3, 3]]); // prettier-ignore
    expect((steps.apply(tf.tensor1d([2, 1, 0], 'int32')) as Tensor).arraySync()).toEqual([[3, 3], [2, 2], [0, 0]]); // prettier-ignore
    const sparse = { indices: [[0, 0], [1, 2]], values: [2, 1], denseShape: [2, 3] }; // prettier-ignore
    expect((steps.apply(sparse) as Tensor).arraySync()).toEqual([[[3, 3], [0, 0], [0, 0]], [[0, 0], [0, 0], [2, 2]]]); // prettier-ignore

    const lora = of([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]); // prettier-ignore
    lora.build();
    lora.enableLora(2, { loraAlpha: 3, weights: [[[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]], [[0.5, 0.5], [0.6, 0.6]]] }); // prettier-ignore
    expect(far(lora.embeddings, [[0.265, 0.365], [0.63, 0.73], [0.995, 1.095]])).toBeLessThan(1e-6); // prettier-ignore
  });

  test.each([1, 7, 47])('shapes as in tfjs, D = %i', (D) => {
    for (const shape of [[1], [5], [1, 20], [2, 3, 4]]) {
      const layer = embedding({ inputDim: 7, outputDim: D });
      expect((layer.apply(tf.zeros(shape, 'int32')) as Tensor).shape).toEqual([...shape, D]);
    }
    const lengths = embedding({ inputDim: 7, outputDim: D, inputLength: [null, 4, 5] });
    expect((lengths.apply(tf.zeros([2, 3, 4, 5], 'int32')) as Tensor).shape).toEqual([2, 3, 4, 5, D]);
    const column = embedding({ inputDim: 3, outputDim: D, maskZero: true });
    expect(column.computeMask(tf.tensor2d([[0], [0], [2]], undefined, 'int32')).arraySync()).toEqual([[0], [0], [1]]);
  });
});

test('Keras on TensorFlow gets ids that repeat wrong, where the optimizer is not linear', () => {
  const apart = (name: 'sgd' | 'adam' | 'adagrad'): number => {
    const [dense, slices] = [
      keras.plain.dense[name].weights[0]!.flat(),
      keras.plain.indexedSlices[name].weights[0]!.flat(),
    ];
    return Math.max(...dense.map((x, i) => Math.abs(x - slices[i]!)));
  };
  expect(apart('sgd')).toBeLessThan(1e-6);
  expect(apart('adam')).toBeGreaterThan(0.1);
  expect(apart('adagrad')).toBeGreaterThan(0.03);
});
