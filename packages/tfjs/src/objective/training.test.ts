import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { matrix, RandomStream } from '@finetable/core';
import { openLoader, type Loader } from '@finetable/data';
import { readSafetensorsHeader, readTensor } from '@finetable/formats';
import { adamw, adapterTensors, createAdapter, type Adapter } from '@finetable/lora';
import { createTable } from '@finetable/placement';
import { classification, Trainer, type FitOptions, type Objective } from '@finetable/trainer';
import type { LayersModel, Optimizer, Tensor, Tensor2D, Variable } from '@tensorflow/tfjs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { useBackend } from '../backend.ts';
import { tf } from '../load.ts';
import { tfjsModel } from './model.ts';
import { tfjsObjective, type TfjsObjectiveOptions } from './objective.ts';

const V = 30;
const D = 4;
let folder: string;
let loader: Loader;

beforeEach(async () => {
  await useBackend('cpu');
  folder = await mkdtemp(join(tmpdir(), 'objective-'));
  const lines = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({ ids: [(i * 7) % V, (i * 11) % V], class: `c${i % 3}` }),
  );
  await writeFile(join(folder, 'train.jsonl'), `${lines.join('\n')}\n`);
  loader = await open();
});
afterEach(async () => {
  await loader.close();
  await rm(folder, { recursive: true });
});

function open(): Promise<Loader> {
  return openLoader(
    {
      source: { file: join(folder, 'train.jsonl') },
      features: { history: { table: 'items', column: 'ids', pooling: 'mean' } },
      labels: { class: { column: 'class' } },
      tables: { items: { rows: V } },
    },
    { batchSize: 8, workers: 0, shuffle: true, seed: 3 },
  );
}

function makeTrainer(objective: Objective): { readonly trainer: Trainer; readonly adapter: Adapter } {
  const rows = matrix(V, D);
  new RandomStream(1, 'items').fillNormal(rows.data);
  const adapter = createAdapter(createTable('items', rows), { rank: 2, alpha: 4 });
  const optimizer = adamw({ learningRate: 0.02 });
  return { trainer: new Trainer({ adapters: { items: adapter }, objective, optimizer }), adapter };
}

const crossEntropy = (logits: Tensor, { labels }: { labels: Readonly<Record<string, Tensor>> }) =>
  tf.losses.softmaxCrossEntropy(tf.oneHot(labels.class!, 3), logits).asScalar();

function linear(more: Partial<TfjsObjectiveOptions> = {}): TfjsObjectiveOptions {
  const weight = tf.variable(tf.zeros([3, D])) as Tensor2D & Variable;
  const bias = tf.variable(tf.zeros([3]));
  return {
    features: ['history'],
    labels: ['class'],
    variables: { weight, bias },
    loss: ({ history }, batch) => crossEntropy(tf.add(tf.matMul(history!, weight, false, true), bias), batch),
    ...more,
  };
}

test('a training ends where the same one with the built-in classification does', async () => {
  const options: FitOptions = { epochs: 3, clipNorm: 0.5 };
  const reference = makeTrainer(classification({ input: 'history', label: 'class' }));
  const ours = makeTrainer(tfjsObjective(linear()));
  const expected = await reference.trainer.fit(loader, options);
  const found = await ours.trainer.fit(loader, options);
  expect(found.train.loss).toBeCloseTo(expected.train.loss!, 5);
  const [a, b] = [ours, reference].map(({ adapter }) => adapterTensors(adapter).groups[0]!);
  expect(a!.rows).toEqual(b!.rows);
  a!.a.forEach((value, i) => expect(Math.abs(value - b!.a[i]!)).toBeLessThan(1e-5));
});

/** Everything that has state: dropout, moving averages, an optimizer. The seed is of the first weights. */
function model(seed: number): LayersModel {
  const kernelInitializer = tf.initializers.randomNormal({ mean: 0, stddev: 0.5, seed });
  return tf.sequential({
    layers: [
      tf.layers.dense({ units: 6, inputShape: [D], activation: 'relu', kernelInitializer }),
      tf.layers.batchNormalization({}),
      tf.layers.dropout({ rate: 0.3 }),
      tf.layers.dense({ units: 3, kernelInitializer }),
    ],
  });
}

const optimizers: Record<string, () => Optimizer | undefined> = {
  "the trainer's optimiser": () => undefined,
  adam: () => tf.train.adam(0.01),
  adamax: () => tf.train.adamax(0.01),
  momentum: () => tf.train.momentum(0.01, 0.9),
  rmsprop: () => tf.train.rmsprop(0.01),
  sgd: () => tf.train.sgd(0.01),
};

test.each(Object.keys(optimizers))('a resumed training gives the same bytes: %s', async (name) => {
  const run = async (
    where: string,
    seed: number,
    options: FitOptions,
  ): Promise<{ bytes: Buffer; adapter: unknown }> => {
    const layers = model(seed);
    const objective = tfjsModel(layers, crossEntropy, {
      features: ['history'],
      labels: ['class'],
      optimizer: optimizers[name]!(),
    });
    const { trainer, adapter } = makeTrainer(objective);
    const checkpoints = { folder: join(folder, where), everySteps: 4 };
    try {
      await trainer.fit(loader, { epochs: 3, checkpoints, ...options });
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'INTERRUPTED') throw error;
    }
    const path = join(folder, `${where}.safetensors`);
    await trainer.saveObjective(path);
    layers.dispose();
    return { bytes: await readFile(path), adapter: adapterTensors(adapter) };
  };
  const whole = await run('whole', 1, {});
  const abort = new AbortController();
  const onEvent = (event: { type: string; step?: number }): void => {
    if (event.type === 'tick' && event.step === 7) abort.abort();
  };
  const part = await run('part', 1, { signal: abort.signal, onEvent });
  expect(part.bytes.equals(whole.bytes)).toBe(false);
  const resumed = await run('part', 2, { resume: true });
  expect(resumed.bytes.equals(whole.bytes)).toBe(true);
  expect(resumed.adapter).toEqual(whole.adapter);
});

test('the model is left in the state of the best evaluation, moving averages included', async () => {
  const layers = model(1);
  const objective = tfjsModel(layers, crossEntropy, { features: ['history'], labels: ['class'], learningRate: 0.5 });
  const { trainer } = makeTrainer(objective);
  const validation = await open();
  const { best } = await trainer.fit(loader, { epochs: 6, validation });
  await validation.close();
  expect(best!.epoch).toBeLessThan(5); // else the last state would be the best
  expect(await trainer.evaluate(loader)).toEqual(best!.metrics);
  const path = join(folder, 'objective.safetensors');
  await trainer.saveObjective(path);
  const header = await readSafetensorsHeader(path);
  for (const [i, name] of [
    '0.kernel',
    '1.bias',
    '2.gamma',
    '3.beta',
    '4.kernel',
    '5.bias',
    '6.moving_mean',
    '7.moving_variance',
  ].entries()) {
    const { data } = await readTensor(path, header, name);
    expect(layers.weights[i]!.read().dataSync()).toEqual(data);
  }

  const again = makeTrainer(tfjsModel(model(2), crossEntropy, { features: ['history'], labels: ['class'] }));
  await again.trainer.loadObjective(path, loader);
  const reread = join(folder, 'again.safetensors');
  await again.trainer.saveObjective(reread);
  expect((await readFile(reread)).equals(await readFile(path))).toBe(true);
});

test('state of another optimizer is refused', async () => {
  const checkpoints = { folder: join(folder, 'run'), everySteps: 4 };
  const fit = async (optimizer: Optimizer, options: FitOptions) =>
    makeTrainer(tfjsObjective(linear({ optimizer }))).trainer.fit(loader, { checkpoints, ...options });
  await fit(tf.train.adam(0.01), { epochs: 1 });
  await expect(fit(tf.train.adamax(0.01), { epochs: 2, resume: true })).rejects.toThrow(
    /^optimizer Adamax: iterations is missing; the checkpoint is of Adam$/,
  );
});

test('a loss that is no number is named as every objective’s is', async () => {
  const objective = tfjsObjective(linear({ loss: ({ history }) => tf.mul(tf.mean(history!), Number.NaN).asScalar() }));
  await expect(makeTrainer(objective).trainer.fit(loader)).rejects.toMatchObject({
    code: 'NON_FINITE',
    message: expect.stringMatching(/^the loss is not finite in epoch 0, batch 0 \(lines /) as string,
  });
});

test('ids, weights and labels of a batch are tensors of their shapes', async () => {
  const seen: Record<string, unknown>[] = [];
  const objective = tfjsObjective({
    features: ['history'],
    labels: ['class'],
    loss: ({ history }, batch) => {
      const { ids, offsets, weights } = batch.bags('history');
      const tensors = { ids, offsets, weights, class: batch.labels.class! };
      seen.push(
        Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, [t.dtype, ...t.shape, t.arraySync()]])),
      );
      expect(() => batch.bags('other')).toThrow('batch.bags: no feature "other"; there are history');
      return tf.mean(history!).asScalar();
    },
  });
  await makeTrainer(objective).trainer.evaluate(loader);
  // Evaluation is in the order of the loader, whose first batch of epoch 0 it is.
  const { value: batch } = await loader.batches(0)[Symbol.asyncIterator]().next();
  const { placeRows } = batch!.plans.items!;
  expect(seen[0]).toEqual({
    ids: ['int32', 16, [...placeRows]],
    offsets: ['int32', 9, [0, 2, 4, 6, 8, 10, 12, 14, 16]],
    weights: ['float32', 16, new Array(16).fill(0.5)],
    class: ['int32', 8, [...batch!.labels.class!]],
  });
});
