import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { matrix, range, RandomStream } from '@finetable/core';
import { adam, createAdapter, saveAdapters, sgd, type OptimizerSpec } from '@finetable/lora';
import { createTable, growTable } from '@finetable/placement';
import type { io, LayersModel, Optimizer, Tensor, Tensor2D } from '@tensorflow/tfjs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { useBackend } from '../backend.ts';
import { embedding, type Embedding, type EmbeddingOptions } from '../layer/index.ts';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { registerTable } from './tables.ts';

const V = 40;
const D = 6;
const length = 5;

let folder: string;
beforeEach(async () => {
  await useBackend('cpu');
  folder = await mkdtemp(join(tmpdir(), 'rows-'));
});
afterEach(() => rm(folder, { recursive: true }));

function values(seed = 1): Float32Array {
  const out = new Float32Array(V * D);
  new RandomStream(seed, 'values').fillNormal(out, 0.5);
  return out;
}

/** Ids with repeats inside and across examples, and classes. */
function data(seed: number): { readonly ids: Tensor2D; readonly classes: Tensor } {
  const random = new RandomStream(seed, 'ids');
  const ids = range(12 * length).map((i) => random.below(i, V / 2));
  const classes = range(12).map((i) => random.below(1000 + i, 3));
  return {
    ids: tf.tensor2d(ids, [12, length], 'int32'),
    classes: tf.tidy(() => tf.oneHot(tf.tensor1d(classes, 'int32'), 3)),
  };
}

interface Made {
  readonly model: LayersModel;
  readonly layer: Embedding;
}

/** The mean of the vectors, and a softmax whose weights are the same in every model. */
function classifier(options: EmbeddingOptions, optimizer: Optimizer = tf.train.sgd(0.5)): Made {
  const layer = embedding({ inputDim: V, outputDim: D, ...options });
  const kernelInitializer = tf.initializers.randomNormal({ stddev: 0.5, seed: 7 });
  const model = tf.sequential({
    layers: [
      layer,
      tf.layers.globalAveragePooling1d({}),
      tf.layers.dense({ units: 3, activation: 'softmax', kernelInitializer }),
    ],
  });
  model.compile({ optimizer, loss: 'categoricalCrossentropy' });
  return { model, layer };
}

async function fit({ model }: Made, steps = 5, first = 0): Promise<void> {
  for (let step = first; step < first + steps; step++) {
    const { ids, classes } = data(step);
    await model.fit(ids, classes, { batchSize: 12, epochs: 1, verbose: 0, shuffle: false });
    tf.dispose([ids, classes]);
  }
}

const rowsOf = ({ layer }: Made): Float32Array => tf.tidy(() => layer.embeddings.dataSync<'float32'>().slice());

/** Products and sums of f32 in another order, over some steps. */
function close(found: Float32Array, expected: Float32Array): void {
  expect(found.length).toBe(expected.length);
  found.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-5));
}

/** Kept in a row store however small. */
const stored: EmbeddingOptions = { threshold: 0 };

onEachBackend(() => {
  const optimizers: [string, OptimizerSpec, () => Optimizer][] = [
    ['SGD', sgd({ learningRate: 0.5 }), () => tf.train.sgd(0.5)],
    // tfjs' own default of epsilon depends on the backend.
    ['Adam', adam({ learningRate: 0.05, epsilon: 1e-7 }), () => tf.train.adam(0.05, 0.9, 0.999, 1e-7)],
  ];
  test.each(optimizers)('five steps of %s end where dense variables do', async (_, optimizer, ofTfjs) => {
    const plain = classifier({ weights: values() }, ofTfjs());
    const ours = classifier({ ...stored, weights: values(), optimizer }, ofTfjs());
    await fit(plain);
    await fit(ours);
    const [found, expected] = [rowsOf(ours), rowsOf(plain)];
    close(found, expected);
    expect(found).not.toEqual(values());
    close(found.subarray((V / 2) * D), values().subarray((V / 2) * D)); // rows that no batch had
    for (const { model } of [plain, ours]) model.dispose();
  });

  test('LoRA ends where A and B as variables do', async () => {
    const ours = classifier({
      ...stored,
      weights: values(),
      loraRank: 2,
      loraAlpha: 4,
      loraInit: 'sparse',
      optimizer: sgd({ learningRate: 0.5 }),
    });
    const plain = classifier({ weights: values() });
    const b = tf.tensor2d(ours.layer.adapter.groups[0]!.b!.data.slice(), [2, D]);
    const a = tf.zeros([V, 2]) as Tensor2D;
    plain.layer.enableLora(2, { loraAlpha: 4, weights: [a, b] });
    plain.model.compile({ optimizer: tf.train.sgd(0.5), loss: 'categoricalCrossentropy' });
    await fit(plain);
    await fit(ours);
    close(rowsOf(ours), rowsOf(plain));
    expect(rowsOf(ours).subarray((V / 2) * D)).toEqual(values().subarray((V / 2) * D));
    for (const { model } of [plain, ours]) model.dispose();
  });

  test('a layer that is applied twice takes one step with the sum of both gradients', async () => {
    const siamese = (options: EmbeddingOptions): Made => {
      const layer = embedding({ inputDim: V, outputDim: D, ...options });
      const inputs = [tf.input({ shape: [length], dtype: 'int32' }), tf.input({ shape: [length], dtype: 'int32' })];
      const pooled = inputs.map((input) => tf.layers.globalAveragePooling1d({}).apply(layer.apply(input)) as never);
      const model = tf.model({ inputs, outputs: tf.layers.dot({ axes: 1 }).apply(pooled) as never });
      model.compile({ optimizer: tf.train.sgd(0.5), loss: 'meanSquaredError' });
      return { model, layer };
    };
    const [plain, ours] = [
      siamese({ weights: values() }),
      siamese({ ...stored, weights: values(), optimizer: sgd({ learningRate: 0.5 }) }),
    ];
    for (const { model } of [plain, ours]) {
      for (let step = 0; step < 4; step++) {
        const [left, right] = [data(step), data(step + 10)];
        await model.fit([left.ids, right.ids], tf.ones([12, 1]), { batchSize: 12, verbose: 0, shuffle: false });
      }
    }
    close(rowsOf(ours), rowsOf(plain));
    expect(ours.layer.adapter.step).toBe(4);
  });

  test('200 steps leave no tensor behind', async () => {
    const made = classifier({ ...stored, weights: values(), optimizer: sgd({ learningRate: 0.1 }) });
    const { ids, classes } = data(1);
    const step = async (): Promise<void> => void (await made.model.trainOnBatch(ids, classes));
    await step();
    const { numTensors } = tf.memory();
    for (let i = 1; i < 200; i++) await step();
    expect(tf.memory().numTensors).toBe(numTensors);
    expect(made.layer.adapter.step).toBe(200);
    made.model.dispose();
  });
});

test('predict and evaluate change nothing, nor does a layer that is not trainable', async () => {
  const made = classifier({ ...stored, weights: values() });
  const { ids, classes } = data(1);
  await fit(made, 2);
  const before = rowsOf(made);
  tf.dispose([made.model.predict(ids), made.model.evaluate(ids, classes)]);
  expect(rowsOf(made)).toEqual(before);
  expect(made.layer.adapter.step).toBe(2);

  made.layer.trainable = false;
  made.model.compile({ optimizer: tf.train.sgd(0.5), loss: 'categoricalCrossentropy' });
  await fit(made, 2);
  expect(rowsOf(made)).toEqual(before);
  made.layer.trainable = true;
  made.model.compile({ optimizer: tf.train.sgd(0.5), loss: 'categoricalCrossentropy' });
  await fit(made, 1);
  expect(rowsOf(made)).not.toEqual(before);
});

/** What `model.save` would write. */
async function saved({ model }: Made): Promise<io.ModelArtifacts> {
  let found: io.ModelArtifacts | null = null;
  await model.save({
    save: (artifacts) => {
      found = artifacts;
      return Promise.resolve({ modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: 'JSON' } });
    },
  });
  // As through a file.
  return { ...(JSON.parse(JSON.stringify(found)) as io.ModelArtifacts), weightData: found!.weightData! };
}

async function loaded(artifacts: io.ModelArtifacts): Promise<Made> {
  const model = await tf.loadLayersModel({ load: () => Promise.resolve(artifacts) });
  model.compile({ optimizer: tf.train.sgd(0.5), loss: 'categoricalCrossentropy' });
  return { model, layer: model.layers[0] as Embedding };
}

const variants: [string, EmbeddingOptions][] = [
  ['rows in full', {}],
  ['LoRA', { loraRank: 2, loraInit: 'sparse' }],
  ["LoRA as Keras' starts it", { loraRank: 2 }],
];
test.each(variants)('a model that was saved goes on as if it had not been: %s', async (_, options) => {
  const made = classifier({ ...stored, ...options, optimizer: sgd({ learningRate: 0.5 }) });
  await fit(made, 3);
  const artifacts = await saved(made);
  expect((artifacts.weightData as ArrayBuffer).byteLength).toBeLessThan(2000 + (V / 2) * D * 4);
  const again = await loaded(artifacts);
  expect(rowsOf(again)).toEqual(rowsOf(made));
  for (const one of [made, again]) await fit(one, 2, 3);
  expect(rowsOf(again)).toEqual(rowsOf(made));
  expect(again.layer.countParams()).toBe(made.layer.countParams());
  again.layer.setWeights(made.layer.getWeights());
  expect(rowsOf(again)).toEqual(rowsOf(made));
});

test('the table of a saved layer is found by its name, and recognised', async () => {
  const table = createTable('words', matrix(V, D, values()));
  const made = classifier({ table, optimizer: sgd({ learningRate: 0.5 }) });
  await fit(made, 3);
  const artifacts = await saved(made);
  await expect(loaded(artifacts)).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message:
      'embedding: the layer reads the table "words", which is not registered; open it and call registerTable(table) first',
  });
  registerTable(createTable('words', matrix(V, D, values(2))));
  await expect(loaded(artifacts)).rejects.toMatchObject({ code: 'MISMATCH' });
  registerTable(table);
  const again = await loaded(artifacts);
  expect(rowsOf(again)).toEqual(rowsOf(made));
  expect(table.gather(range(V)).data).toEqual(values());
});

test('an adapter folder is written and read', async () => {
  const made = classifier({ ...stored, weights: values(), loraRank: 2, loraInit: 'sparse' });
  await fit(made, 3);
  await made.layer.saveAdapter(join(folder, 'adapter'));
  const other = classifier({ ...stored, weights: values(), loraRank: 2, loraInit: 'sparse' });
  await other.layer.loadAdapter(join(folder, 'adapter'));
  expect(rowsOf(other)).toEqual(rowsOf(made));
  await fit(other, 1);
  expect(rowsOf(other)).not.toEqual(rowsOf(made));
  const wider = classifier({ ...stored, weights: values(), loraRank: 3, loraInit: 'sparse' });
  await expect(wider.layer.loadAdapter(join(folder, 'adapter'))).rejects.toThrow(
    /it has LoRA of rank 2; the layer trains LoRA of rank 3$/,
  );
  const grown = await growTable(createTable('rows', matrix(V, D, values())), { vectors: matrix(1, D) });
  await saveAdapters(join(folder, 'grown'), [createAdapter(grown, { rank: 2, grown: 'tied' })]);
  await expect(other.layer.loadAdapter(join(folder, 'grown'))).rejects.toThrow(/it adds rows to the table$/);
  const otherRows = classifier({ ...stored, weights: values(2), loraRank: 2, loraInit: 'sparse' });
  await expect(otherRows.layer.loadAdapter(join(folder, 'adapter'))).rejects.toMatchObject({ code: 'MISMATCH' });
});

test('merging keeps the rows as they are looked up, and training goes on from there', async () => {
  const made = classifier({ ...stored, weights: values(), loraRank: 2, loraInit: 'sparse' });
  await fit(made, 3);
  const before = rowsOf(made);
  made.layer.mergeLora();
  expect(made.layer.loraRank).toBe(null);
  close(rowsOf(made), before);
  made.model.compile({ optimizer: tf.train.sgd(0.5), loss: 'categoricalCrossentropy' });
  await fit(made, 1);
  expect(rowsOf(made)).not.toEqual(before);
  expect(() => made.layer.enableLora(2)).toThrow(
    /rows were trained, which LoRA would freeze; allowed: enableLora before training$/,
  );
});

test('a table with millions of rows costs what is touched', async () => {
  const rows = 3_000_000;
  const made = classifier({ inputDim: rows, outputDim: 64, optimizer: sgd({ learningRate: 0.5 }) });
  const { ids, classes } = data(1);
  const spread = tf.tidy(() => tf.mul(ids, tf.scalar(100_000, 'int32'))) as Tensor2D;
  await made.model.trainOnBatch(spread, classes);
  expect(tf.memory().numBytes).toBeLessThan(100_000);
  const { touchedRows, memory } = made.layer.adapter;
  expect(touchedRows).toBe(new Set(spread.dataSync()).size);
  expect(memory.adapterBytes).toBe(touchedRows * 64 * 4);
  expect(made.layer.countParams()).toBe(rows * 64);
});

test('what would need the whole table in every step is refused', () => {
  const refused =
    (options: EmbeddingOptions): (() => unknown) =>
    () =>
      classifier({ ...stored, ...options });
  expect(refused({ embeddingsRegularizer: tf.regularizers.l2({ l2: 0.1 }) })).toThrow(
    /embeddingsRegularizer would read the whole table in every step; allowed: `optimizer` with weightDecay$/,
  );
  expect(refused({ embeddingsConstraint: 'nonNeg' })).toThrow(/embeddingsConstraint would read the whole table/);
  expect(refused({ device: 'gpu' })).toThrow(/device 'gpu', but the \w+ backend computes on the CPU/);
  expect(refused({ quantization: 'int8' })).toThrow(/its rows cannot be made int8 here/);
  expect(refused({ embeddingsInitializer: 'orthogonal' })).toThrow(
    /initializer Orthogonal cannot draw single rows of a table this large; allowed: zeros, /,
  );
  const { layer } = classifier(stored);
  expect(() => layer.enableLora(2, { aInitializer: 'ones' })).toThrow(
    /allowed: init 'keras', 'sparse', or loadAdapter$/,
  );
  const inVariables = classifier({});
  expect(() => inVariables.layer.adapter).toThrow(/its rows are tfjs variables/);
});

test('a gradient that is no number is refused, and nothing is learnt from it', async () => {
  const made = classifier({ ...stored, weights: values() });
  made.model.layers[2]!.setWeights([tf.fill([D, 3], Number.NaN), tf.zeros([3])]);
  const { ids, classes } = data(1);
  await expect(made.model.trainOnBatch(ids, classes)).rejects.toMatchObject({ code: 'NON_FINITE' });
  expect(rowsOf(made)).toEqual(values());
});
