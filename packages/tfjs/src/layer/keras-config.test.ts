import { beforeAll, expect, test } from 'vitest';
import { useBackend } from '../backend.ts';
import { tf } from '../load.ts';
import { embedding, Embedding, embeddingFromConfig } from './layer.ts';
import { keras } from './testing/keras.ts';

beforeAll(() => useBackend('cpu'));

const base = {
  trainable: true,
  dtype: 'float32',
  inputDim: 7,
  outputDim: 4,
  embeddingsRegularizer: null,
  activityRegularizer: null,
  embeddingsConstraint: null,
  maskZero: false,
};
const l1l2 = (l1: number, l2: number): object => ({ className: 'L1L2', config: { l1, l2 } });
const uniform = { className: 'RandomUniform', config: { minval: -0.05, maxval: 0.05 } };
const oldFull = {
  ...base,
  name: 'full',
  trainable: false,
  maskZero: true,
  inputLength: [3],
  batchInputShape: [null, 3],
  embeddingsInitializer: {
    className: 'VarianceScaling',
    config: { scale: 1, mode: 'fanAvg', distribution: 'uniform', seed: 7 },
  },
  embeddingsRegularizer: l1l2(0.1, 0.3),
  activityRegularizer: l1l2(0, 0.2),
  embeddingsConstraint: { className: 'NonNeg' },
};
const expected: Record<string, Record<string, object>> = {
  keras3: {
    plain: { ...base, name: 'plain', embeddingsInitializer: uniform },
    full: {
      ...base,
      name: 'full',
      trainable: false,
      maskZero: true,
      embeddingsInitializer: { className: 'RandomNormal', config: { mean: 0, stddev: 0.1, seed: 7 } },
      embeddingsRegularizer: l1l2(0, 0.3),
      activityRegularizer: l1l2(0.2, 0),
      embeddingsConstraint: { className: 'MaxNorm', config: { maxValue: 2, axis: 0 } },
    },
    lora: { ...base, name: 'lora', embeddingsInitializer: uniform, loraRank: 2, loraAlpha: 3 },
  },
  tfKeras: { plain: { ...base, name: 'plain', embeddingsInitializer: uniform }, full: oldFull },
  keras2: { plain: { ...base, name: 'plain', embeddingsInitializer: uniform }, full: oldFull },
};

const cases = Object.entries(keras.configs).flatMap(([version, layers]) =>
  Object.entries(layers).flatMap(([name, { config, wrapped }]) => [
    [version, name, 'config', config],
    [version, name, 'wrapped', wrapped],
  ]),
) as [string, string, string, Record<string, unknown>][];

test.each(cases)('%s: %s, %s', (version, name, _, config) => {
  const before = structuredClone(config);
  const layer = embeddingFromConfig(config);
  expect(rounded(layer.getConfig())).toMatchObject(rounded(expected[version]![name]!));
  expect(config).toEqual(before);
  // And ours goes round.
  const again = Embedding.fromConfig(Embedding as never, layer.getConfig()) as unknown as Embedding;
  expect(rounded(again.getConfig())).toEqual(rounded(layer.getConfig()));
  layer.build();
  expect(layer.countParams()).toBe(name === 'lora' ? 28 + 7 * 2 + 2 * 4 : 28);
});

/** f32 numbers of Keras, as people write them; nulls stay. */
const rounded = (config: object): object =>
  JSON.parse(
    JSON.stringify(config, (_, x: unknown) => (typeof x === 'number' ? Number(x.toPrecision(6)) : x)),
  ) as object;

test.each(['int8', 'int4'] as const)('a policy of %s rows', (mode) => {
  const layer = embeddingFromConfig(keras.quantized[mode].config);
  layer.build();
  expect(layer.quantization).toBe(mode);
  expect(embeddingFromConfig({ input_dim: 3, output_dim: 2, dtype: `${mode}_from_float32` }).quantization).toBe(mode);
});

test.each([
  [{ class_name: 'Dense', config: { units: 1 } }, 'a config of the layer "Dense"'],
  [{ input_dim: 3, output_dim: 2, dtype: 'float16' }, 'dtype "float16"'],
  [
    { input_dim: 3, output_dim: 2, dtype: { class_name: 'DTypePolicy', config: { name: 'mixed_bfloat16' } } },
    'mixed_bfloat16',
  ],
  [
    { input_dim: 3, output_dim: 2, dtype: { config: { mode: 'float8', source_name: 'float32' } } },
    'float8_from_float32',
  ],
  [{ input_dim: 3, output_dim: 2, embedding_initializer: 'zeros' }, 'did you mean "embeddingsInitializer"'],
  [
    { input_dim: 3, output_dim: 2, embeddings_regularizer: { class_name: 'Orthogonal2', config: {} } },
    'Unknown regularizer: Orthogonal2',
  ],
])('refused: %j', (config, message) => {
  expect(() => embeddingFromConfig(config as Record<string, unknown>)).toThrow(message);
});

test('names of Keras, by snake and by camel case', () => {
  for (const name of ['uniform', 'normal', 'he_uniform', 'glorot_normal', 'lecun_normal', 'zeros', 'orthogonal'])
    expect(embeddingFromConfig({ input_dim: 3, output_dim: 2, embeddings_initializer: name }).inputDim).toBe(3);
  expect(
    embedding({ inputDim: 3, outputDim: 2, embeddingsInitializer: 'uniform' as never }).getConfig()
      .embeddingsInitializer,
  ).toMatchObject(uniform);
});

test('tfjs reads and writes the layer under its own name, and still has its own', () => {
  expect(embedding({ inputDim: 3, outputDim: 2 }).getClassName()).toBe('FinetableEmbedding');
  expect(tf.layers.embedding({ inputDim: 3, outputDim: 2 })).not.toBeInstanceOf(Embedding);
});
