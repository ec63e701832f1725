/** LoRA on, off, merged, exchanged, over f32 and over quantised rows. */
import type { Tensor } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { embedding, type Embedding } from './layer.ts';
import type { EmbeddingOptions } from './options.ts';

const all = (): Tensor => tf.tensor1d([0, 1, 2, 3, 4, 5], 'int32');
const rowsOf = (layer: Embedding): number[] => [...(layer.apply(all()) as Tensor).dataSync()];
const a = [[1, 0], [0, 1], [1, 1], [2, 0], [0, 2], [0, 0]]; // prettier-ignore
const b = [
  [1, 2, 3],
  [-1, 0, 1],
];

function built(options: EmbeddingOptions = {}): Embedding {
  const layer = embedding({ inputDim: 6, outputDim: 3, ...options });
  layer.build();
  return layer;
}

const apart = (x: readonly number[], y: readonly number[]): number =>
  Math.max(...x.map((value, i) => Math.abs(value - y[i]!)));

onEachBackend(() => {
  test('disableLora brings the base back, and trains it again', () => {
    const layer = built();
    const before = rowsOf(layer);
    layer.enableLora(2, { weights: [a, b] });
    expect(apart(rowsOf(layer), before)).toBeGreaterThan(1);
    layer.disableLora();
    expect(rowsOf(layer)).toEqual(before);
    expect([layer.trainableWeights.length, layer.nonTrainableWeights.length]).toEqual([1, 0]);
    expect(layer.loraRank).toBe(null);
    expect(layer.getConfig()).not.toHaveProperty('loraRank');
    expect(layer.trainableWeights[0]!.trainable).toBe(true);
  });

  test('one adapter out, another in', () => {
    const layer = built();
    layer.enableLora(2, { weights: [a, b], loraAlpha: 4 });
    const first = rowsOf(layer);
    const kept = layer.getWeights(true).map((weight) => weight.clone());
    layer.disableLora();
    layer.enableLora(1, { init: 'sparse' });
    expect(apart(rowsOf(layer), first)).toBeGreaterThan(1);
    layer.disableLora();
    layer.enableLora(2, { weights: kept as [Tensor, Tensor], loraAlpha: 4 });
    expect(rowsOf(layer)).toEqual(first);
  });

  test('mergeLora changes no row, and drops the factors', () => {
    const layer = built();
    layer.enableLora(2, { weights: [a, b], loraAlpha: 3 });
    const before = rowsOf(layer);
    const { numTensors } = tf.memory();
    layer.mergeLora();
    expect(tf.memory().numTensors).toBe(numTensors - 2);
    expect(apart(rowsOf(layer), before)).toBeLessThan(1e-6);
    expect(layer.getWeights().map((weight) => weight.shape)).toEqual([[6, 3]]);
    layer.enableLora(1);
    expect(apart(rowsOf(layer), before)).toBeLessThan(1e-6);
  });

  test('merged into quantised rows, they are quantised again', () => {
    const layer = built({ weights: [...a.map((row) => [...row, 0.5])] });
    layer.quantize('int8');
    layer.enableLora(2, { weights: [a, b] });
    const before = rowsOf(layer);
    layer.mergeLora();
    expect(layer.quantization).toBe('int8');
    expect(layer.trainableWeights).toEqual([]);
    // Half a step of the largest row's scale.
    expect(apart(rowsOf(layer), before)).toBeLessThan(Math.max(...before.map(Math.abs)) / 127 / 2 + 1e-6);
    expect(apart(rowsOf(layer), before)).toBeGreaterThan(0);
  });

  test.each(['keras', 'sparse'] as const)(
    'weights of a layer without LoRA load into one with it, and back: %s',
    (init) => {
      const plain = built();
      const lora = built();
      lora.enableLora(2, { init });
      // An adapter that has trained.
      const factors = [tf.tensor2d(a), tf.tensor2d(b)];
      lora.setWeights([...factors, lora.getWeights()[2]!]);
      lora.setWeights(plain.getWeights());
      expect(rowsOf(lora)).toEqual(rowsOf(plain));
      const [foundA, foundB] = lora.getWeights().map((weight) => weight.arraySync());
      expect([foundA, foundB]).toEqual(init === 'sparse' ? [a.map(() => [0, 0]), b] : [a, b.map(() => [0, 0, 0])]);
      lora.setWeights([...factors, lora.getWeights()[2]!]);
      plain.setWeights([lora.embeddings]);
      expect(apart(rowsOf(plain), rowsOf(lora))).toBeLessThan(1e-6);
    },
  );

  test('initializers of A and B', () => {
    const layer = built();
    layer.enableLora(2, { aInitializer: 'ones', bInitializer: tf.initializers.constant({ value: 2 }) });
    expect(layer.getWeights(true).map((weight) => new Set(weight.dataSync()))).toEqual([new Set([1]), new Set([2])]);
  });

  test('int8 and int4 rows take a byte, and half a byte, a number', () => {
    for (const [mode, words] of [
      ['int8', 4],
      ['int4', 2],
    ] as const) {
      // prettier-ignore
      const layer = embedding({ inputDim: 6, outputDim: 13, quantization: mode });
      layer.build();
      const [codes, scales] = layer.getWeights();
      expect({ dtype: codes!.dtype, shape: codes!.shape }).toEqual({ dtype: 'int32', shape: [6, words] });
      expect(scales!.shape).toEqual([6]);
      const table = layer.embeddings.arraySync();
      // What was rounded once is not rounded again.
      const again = embedding({ inputDim: 6, outputDim: 13, weights: table, quantization: mode });
      again.build();
      expect(apart(again.embeddings.arraySync().flat(), table.flat())).toBeLessThan(1e-6);
      expect(new Set(table.flat()).size).toBeGreaterThan(13);
    }
  });

  test('what is disposed is gone', () => {
    const { numTensors } = tf.memory();
    const layer = embedding({
      inputDim: 6,
      outputDim: 3,
      loraRank: 2,
      weights: a.map((row) => [...row, 1]),
    });
    tf.dispose(layer.apply(tf.tensor1d([1], 'int32')) as Tensor);
    layer.quantize('int8');
    layer.dispose();
    // The ids.
    expect(tf.memory().numTensors).toBe(numTensors + 1);
  });
});
