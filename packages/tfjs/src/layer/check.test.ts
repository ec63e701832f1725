/** Bad input: each a FinetableError that says where, what was found and what is allowed. */
import { isFinetableError } from '@finetable/core';
import type { Tensor } from '@tensorflow/tfjs';
import { beforeAll, expect, test } from 'vitest';
import { useBackend } from '../backend.ts';
import { tf } from '../load.ts';
import { embedding, type Embedding } from './layer.ts';
import type { EmbeddingOptions } from './options.ts';

beforeAll(() => useBackend('cpu'));

const sizes = { inputDim: 6, outputDim: 3 };

function refused(work: () => unknown, message: string, code = 'INVALID_ARGUMENT'): void {
  let found: unknown;
  const { numTensors } = tf.memory();
  try {
    work();
  } catch (error) {
    found = error;
  }
  expect(isFinetableError(found) && { code: found.code, message: found.message }).toEqual({
    code,
    message: expect.stringContaining(message) as string,
  });
  expect(tf.memory().numTensors).toBe(numTensors);
}

test.each([
  [{}, 'inputDim is missing; allowed: a whole number greater than 0'],
  [{ inputDim: 0, outputDim: 3 }, 'inputDim is 0'],
  [{ inputDim: true, outputDim: 3 }, 'inputDim is true (a boolean)'],
  [{ inputDim: 3.7, outputDim: 3 }, 'inputDim is 3.7'],
  [{ inputDim: '3', outputDim: 3 }, 'inputDim is "3" (a string)'],
  [{ inputDim: 3, outputDim: null }, 'outputDim is missing'],
  [{ inputDim: 3, outputDim: Number.NaN }, 'outputDim is NaN'],
  [{ inputDim: 2 ** 31, outputDim: 3 }, 'ids are int32'],
  [
    { ...sizes, embedingsInitializer: 'zeros' },
    'no argument "embedingsInitializer"; did you mean "embeddingsInitializer"?',
  ],
  [{ ...sizes, lora_rank: 2 }, 'did you mean "loraRank"?'],
  [{ ...sizes, mask_zeros: true }, 'did you mean "maskZero"?'],
  [{ ...sizes, embeddingsInitializer: 'zeroes' }, 'did you mean the initializer "zeros"?'],
  [{ ...sizes, embeddingsRegularizer: 'l3' }, 'Unknown regularizer: l3'],
  [{ ...sizes, embeddingsConstraint: 'positive' }, 'Unknown constraint: positive'],
  [{ ...sizes, dtype: 'int32' }, 'dtype is "int32" (a string); allowed: \'float32\''],
  [{ ...sizes, inputDType: 'string' }, "allowed: 'int32', 'float32'"],
  [{ ...sizes, maskZero: 1 }, 'maskZero is 1; allowed: true or false'],
  [{ ...sizes, trainable: 'yes' }, 'trainable is "yes"'],
  [{ ...sizes, name: 3 }, 'name is 3; allowed: text'],
  [{ ...sizes, inputLength: 0 }, 'inputLength is 0'],
  [{ ...sizes, inputLength: [2, 'x'] }, 'inputLength is [2,"x"] (a list)'],
  [{ ...sizes, inputShape: 3 }, 'inputShape is 3; allowed: a list of sizes'],
  [{ ...sizes, batchInputShape: [2.5] }, 'batchInputShape is [2.5]'],
  [{ ...sizes, batchSize: 0 }, 'batchSize is 0'],
  [{ ...sizes, outOfRange: 'wrap' }, "allowed: 'error', 'zero', 'clip'"],
  [{ ...sizes, device: 'tpu' }, "allowed: 'auto', 'gpu', 'cpu'"],
  [{ ...sizes, threshold: 'much' }, 'threshold: "much" is not a size'],
  [{ ...sizes, quantization: 'int2' }, "allowed: 'int8', 'int4'"],
  [{ ...sizes, optimizer: { type: 'adm', learningRate: 1 } }, 'type'],
  ...[0, 4, 2.5, true, '4', -1, Number.NaN].map((loraRank) => [
    { ...sizes, loraRank },
    'allowed: a whole number from 1 to 3, the smaller of V and D',
  ]),
  ...[0, -1, Number.NaN, Infinity, '3'].map((loraAlpha) => [
    { ...sizes, loraRank: 2, loraAlpha },
    'allowed: a finite number greater than 0',
  ]),
  [{ ...sizes, loraAlpha: 2 }, 'loraAlpha is given without loraRank'],
  [{ ...sizes, loraRank: 2, loraInit: 'pissa' }, "allowed: 'keras', 'sparse'"],
  [{ ...sizes, loraRank: 2, embeddingsConstraint: 'nonNeg' }, 'LoRA and embeddingsConstraint exclude each other'],
  [{ ...sizes, weights: [[1, 2, 3]] }, 'weights: allowed: 6 rows of 3 numbers'],
  [{ ...sizes, weights: 'random' }, 'weights: allowed: 6 rows of 3 numbers'],
  [{ ...sizes, weights: new Float32Array(17) }, 'allowed: 6 rows of 3 numbers'],
] as [EmbeddingOptions, string][])('options %j', (options, message) => {
  refused(() => embedding(options), message);
});

test('options that are no object', () => {
  for (const options of [undefined, null, 3, [6, 3]])
    refused(() => embedding(options as never), 'takes an object of arguments');
});

test('weights of another shape or dtype, or with what is no number', () => {
  const [narrow, whole] = [tf.zeros([6, 2]), tf.zeros([6, 3], 'int32')];
  refused(() => embedding({ ...sizes, weights: narrow }), 'found float32 [6, 2]; allowed: float32 [6, 3]');
  refused(() => embedding({ ...sizes, weights: [whole] }), 'found int32 [6, 3]; allowed: float32 [6, 3]');
  const rows = Array.from({ length: 6 }, () => [0, 0, 0]);
  rows[4]![1] = Number.NaN;
  refused(() => embedding({ ...sizes, weights: rows }), 'NaN at [4, 1]', 'NON_FINITE');
  refused(() => embedding({ ...sizes, weights: [rows] }), 'NaN at [4, 1]', 'NON_FINITE');
});

test('weights as a tensor, lists, rows of Float32Array, flat, and each of them in a list', () => {
  const rows = Array.from({ length: 6 }, (_, v) => [v, 1 - v, 0.5]);
  const forms = [rows, rows.map((row) => Float32Array.from(row)), Float32Array.from(rows.flat()), tf.tensor2d(rows)];
  for (const weights of [...forms, ...forms.map((form) => [form])]) {
    const layer = built({ weights: weights as never, embeddingsInitializer: 'ones' });
    expect(layer.embeddings.arraySync()).toEqual(rows);
  }
  // One row is one row, in a list or not.
  for (const weights of [[[1, 2, 3]], [[[1, 2, 3]]]])
    expect(built({ inputDim: 1, weights: weights as never }).embeddings.arraySync()).toEqual([[1, 2, 3]]);
  const lora = built({ weights: rows, loraRank: 2 });
  expect(lora.embeddings.arraySync()).toEqual(rows);
});

function built(options: EmbeddingOptions = {}): Embedding {
  const layer = embedding({ ...sizes, ...options });
  layer.build();
  return layer;
}

test('LoRA at the wrong time', () => {
  const early = embedding(sizes);
  refused(() => early.enableLora(2), 'enableLora needs a layer that is built');
  refused(() => early.embeddings, 'embeddings needs a layer that is built');
  refused(() => early.quantize('int8'), 'quantize needs a layer that is built');
  const layer = built();
  refused(() => layer.disableLora(), 'disableLora: LoRA is not on');
  refused(() => layer.mergeLora(), 'mergeLora: LoRA is not on');
  layer.enableLora(2);
  refused(() => layer.enableLora(2), 'LoRA is on already, with rank 2');
  const constrained = built({ embeddingsConstraint: 'nonNeg' });
  refused(() => constrained.enableLora(2), 'exclude each other');
  refused(() => constrained.quantize('int8'), 'drop embeddingsConstraint');
});

test('LoRA with the wrong things', () => {
  const layer = built();
  for (const rank of [0, 4, true, '2'])
    refused(() => layer.enableLora(rank as number), 'allowed: a whole number from 1 to 3');
  refused(() => layer.enableLora(2, { loraAlpha: 0 }), 'loraAlpha is 0');
  refused(() => layer.enableLora(2, { alpha: 3 } as never), 'did you mean "loraAlpha"?');
  refused(
    () => layer.enableLora(2, { aInitializer: 'he_uniform' as never }),
    'did you mean the initializer "heUniform"?',
  );
  refused(() => layer.enableLora(2, { init: 'sparse', bInitializer: 'ones' }), 'init excludes initializers');
  const a = Array.from({ length: 6 }, () => [1, 1]);
  refused(() => layer.enableLora(2, { weights: [a, [[1, 1, 1]]] }), 'enableLora: B: allowed: 2 rows of 3 numbers');
  refused(() => layer.enableLora(2, { weights: [a] as never }), 'weights are [A, B]');
  expect(layer.loraRank).toBe(null);
  expect(layer.trainableWeights.length).toBe(1);
});

test('setWeights, quantize and inputLength', () => {
  const layer = built();
  const [good, short, nan] = [tf.zeros([6, 3]), tf.zeros([5, 3]), tf.fill([6, 3], Number.NaN)];
  const scales = tf.ones([6]);
  refused(() => layer.setWeights([]), 'embeddings [6, 3]');
  refused(() => layer.setWeights([short]), 'found float32 [5, 3]; allowed: float32 [6, 3]');
  refused(() => layer.setWeights([nan]), 'NaN at [0, 0]', 'NON_FINITE');
  refused(() => layer.quantize('int16' as never), "allowed: 'int8', 'int4'");
  refused(() => layer.quantize(undefined as never), "allowed: 'int8', 'int4'");
  layer.quantize('int8');
  refused(() => layer.quantize('int8'), 'the rows are int8 already');
  refused(() => layer.setWeights([good, scales]), 'found float32 [6, 3]; allowed: int32 [6, 1]');

  const lengths = embedding({ ...sizes, inputLength: [null, 4], name: 'lengths' });
  refused(
    () => lengths.computeOutputShape([2, 3, 5]),
    "lengths: the input's shape is [2, 3, 5], but inputLength is [null, 4]",
  );
  expect(lengths.computeOutputShape([2, 3, 4])).toEqual([2, 3, 4, 3]);
  expect(lengths.computeOutputShape([2, 7, 4])).toEqual([2, 7, 4, 3]);
  expect(lengths.computeOutputShape([null, null, null])).toEqual([null, null, 4, 3]);
  const ids = tf.zeros([2, 4], 'int32');
  refused(() => lengths.apply(ids), "the input's shape is [2, 4]");
  const two = [ids, ids] as Tensor[];
  const other = built();
  refused(() => other.apply(two), '2 inputs; allowed: one tensor of ids');
});

test('what is for row stores is not dropped where there is none', () => {
  refused(
    () => built({ optimizer: { type: 'sgd', learningRate: 1 } }),
    'a `threshold` below its size puts it into a row store',
  );
  refused(() => built({ device: 'gpu' }), "device 'gpu', but the cpu backend computes on the CPU", 'UNSUPPORTED');
  expect(built({ device: 'cpu' }).countParams()).toBe(18);
  expect(embedding({ ...sizes, threshold: '500MB' }).getConfig().threshold).toBe(500e6);
});
