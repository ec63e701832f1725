import { matrix, range, RandomStream, type Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import { loadKernels } from '@finetable/kernels';
import { classification, type DenseParameter, type Objective } from '@finetable/trainer';
import type { Variable } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { useBackend } from '../backend.ts';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { tfjsModel } from './model.ts';
import { tfjsObjective, type TfjsObjectiveOptions } from './objective.ts';

const size = 5;
const D = 3;
const classes = { y: ['a', 'b', 'c', 'd'] };
const batch: Batch = {
  epoch: 0,
  index: 0,
  size,
  plans: {},
  features: {},
  labels: { y: Int32Array.of(0, 3, 1, 1, 2) },
  targets: {},
  labelSets: {},
  numbers: {},
  weights: null,
  ids: null,
  files: ['train.jsonl'],
  fileOf: null,
  lines: Float64Array.from(range(size), (i) => i + 1),
  unit: 'line',
};

function normals(rows: number, cols: number, stream: string): Matrix {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data);
  return m;
}

const variable = (m: Matrix): Variable => tf.tidy(() => tf.variable(tf.tensor2d(m.data.slice(), [m.rows, m.cols])));

/** Softmax regression, as `classification` has it. */
function linear(more: Partial<TfjsObjectiveOptions> = {}): TfjsObjectiveOptions {
  const weight = variable(normals(4, D, 'weight'));
  const bias = tf.variable(tf.zeros([4]));
  return {
    features: ['x'],
    labels: ['y'],
    variables: { weight, bias },
    loss: ({ x }, { labels: { y } }) => {
      const logits = tf.add(tf.matMul(x!, weight as never, false, true), bias);
      const loss = tf.losses.softmaxCrossEntropy(tf.oneHot(y!, 4), logits).asScalar();
      return { loss, accuracy: tf.mean(tf.cast(tf.equal(tf.argMax(logits, 1), y!), 'float32')) };
    },
    ...more,
  };
}

const start = (objective: Objective): readonly DenseParameter[] =>
  objective.initialize({ kernels: loadKernels(), featureDims: { x: D }, numberDims: {}, classes });

const copyOf = (x: Matrix): Matrix => matrix(x.rows, x.cols, x.data.slice());

onEachBackend(() => {
  test('loss, accuracy and gradients are those of the built-in classification', async () => {
    const x = normals(size, D, 'x');
    const reference = classification({ input: 'x', label: 'y' });
    const objective = tfjsObjective(linear());
    const expected = start(reference);
    const parameters = start(objective);
    expected[0]!.value.set(normals(4, D, 'weight').data);
    const [gradient, expectedGradient] = [matrix(size, D), matrix(size, D)];
    const sums = await objective.train({ x: copyOf(x) }, batch, { x: gradient });
    const expectedSums = await reference.train({ x: copyOf(x) }, batch, { x: expectedGradient });
    expect(sums.loss).toBeCloseTo(expectedSums.loss!, 5);
    const { accuracy } = reference.metrics(expectedSums, size);
    expect(sums.accuracy! / size).toBeCloseTo(accuracy!, 5);
    expect(objective.metrics(sums, size)).toEqual({ loss: sums.loss! / size, accuracy: sums.accuracy! / size });
    expect(await objective.evaluate({ x: copyOf(x) }, batch)).toEqual({ sums });
    close(gradient.data, expectedGradient.data);
    parameters.forEach((parameter, i) => {
      expect(parameter.name).toBe(expected[i]!.name);
      close(parameter.gradient, expected[i]!.gradient);
      close(parameter.value, expected[i]!.value);
    });
  });

  test('gradients of a model agree with finite differences', async () => {
    const model = twoLayers();
    const objective = tfjsModel(model, crossEntropy, { features: ['x'], labels: ['y'] });
    const parameters = start(objective);
    const x = normals(size, D, 'x');
    const gradient = matrix(size, D);
    await objective.train({ x }, batch, { x: gradient });
    const analytic = [gradient.data, ...parameters.map((parameter) => parameter.gradient)].map((a) => a.slice());
    const h = 1e-2; // error of a central difference: h² times a third derivative of order 1
    for (const [i, values] of [x.data, ...parameters.map(({ value }) => value)].entries()) {
      for (const [j, kept] of values.entries()) {
        const losses: number[] = [];
        for (const moved of [kept + h, kept - h]) {
          values[j] = moved;
          objective.updated!();
          losses.push((await objective.evaluate({ x }, batch)).sums.loss! / size);
        }
        values[j] = kept;
        expect(analytic[i]![j]).toBeCloseTo((losses[0]! - losses[1]!) / (2 * h), 3);
      }
    }
    expect(parameters.map(({ name }) => name)).toEqual(['0.kernel', '1.bias', '2.kernel', '3.bias']);
    model.dispose();
  });

  test('1,000 steps and evaluations leave no tensor behind', async () => {
    const optimizer = tf.train.adam(0.01);
    const objective = tfjsObjective(linear({ optimizer }));
    start(objective);
    const x = normals(size, D, 'x');
    const step = async (): Promise<number> => {
      const { loss } = await objective.train({ x: copyOf(x) }, batch, { x: matrix(size, D) });
      objective.update!();
      await objective.evaluate({ x: copyOf(x) }, batch);
      return loss!;
    };
    const first = await step();
    const { numTensors } = tf.memory();
    let last = first;
    for (let i = 1; i < 1000; i++) last = await step();
    await objective.snapshot!();
    expect(last).toBeLessThan(first / 10);
    expect(tf.memory().numTensors).toBe(numTensors);
  });
});

test('what cannot be an objective is refused', async () => {
  await useBackend('cpu');
  const v = tf.variable(tf.scalar(1));
  const refused = (change: object): unknown => {
    try {
      tfjsObjective({ ...linear(), ...change });
    } catch (error) {
      return (error as Error).message;
    }
    return null;
  };
  expect(refused({ variabels: [] })).toMatch(/^tfjsObjective: there is no option "variabels"; allowed: /);
  expect(refused({ features: [] })).toBe('tfjsObjective: features: an empty list; allowed: one feature or more');
  expect(refused({ features: 'x' })).toBe('tfjsObjective: features "x"; allowed: a list of names, each once');
  expect(refused({ labels: ['y', 'y'] })).toBe('tfjsObjective: labels ["y","y"]; allowed: a list of names, each once');
  expect(refused({ loss: null })).toBe('tfjsObjective: loss: found object; allowed: a function');
  expect(refused({ variables: [v, v] })).toBe('tfjsObjective: variable "1" is there twice');
  expect(refused({ variables: { w: tf.scalar(1) } })).toMatch(/^tfjsObjective: variable "w" is no tf.Variable/);
  expect(refused({ variables: { 'optimizer.x': v } })).toMatch(/the name is kept for the state of optimisers/);
  expect(refused({ variables: [tf.variable(tf.scalar(1, 'int32'))] })).toBe(
    'tfjsObjective: variable "0" is int32; allowed: float32',
  );
  expect(refused({ optimizer: 'adam' })).toMatch(/^tfjsObjective: optimizer: allowed: one of tfjs/);
  expect(refused({ optimizer: tf.train.sgd(1), learningRate: 1 })).toMatch(
    /^tfjsObjective: learningRate and weightDecay are for/,
  );
  v.dispose();
  expect(refused({ variables: [v] })).toBe('tfjsObjective: variable "0" is disposed');

  const model = twoLayers();
  expect(() => tfjsModel(model, crossEntropy, { features: ['x', 'z'] })).toThrow(
    /allowed: one for each of the model's inputs dense/,
  );
  const wide = tfjsModel(model, crossEntropy, { features: ['x'], labels: ['y'] });
  expect(() => wide.initialize({ kernels: loadKernels(), featureDims: { x: 7 }, numberDims: {}, classes })).toThrow(
    /has shape \[null, 3\]; the vectors of feature "x" have \[null, 7\]$/,
  );
  expect(() => tfjsModel(tf.sequential(), crossEntropy)).toThrow(/^tfjsModel: the model is not built/);
  const objective = tfjsObjective(linear());
  start(objective);
  expect(() => start(objective)).toThrow(/^tfjsObjective: the objective is in use by another trainer/);
});

test.each<[string, () => unknown, RegExp]>([
  ['a promise', () => Promise.resolve(tf.scalar(1)), /^tfjsObjective: loss returned a promise/],
  ['nothing', () => undefined, /^tfjsObjective: loss must return a scalar tensor/],
  ['one loss for each example', () => tf.ones([size]), /^tfjsObjective: loss has shape \[5\]; allowed: a scalar/],
  ['a metric that is a number', () => ({ loss: tf.scalar(1), a: 1 }), /^tfjsObjective: a: found number/],
  ['a whole number', () => tf.scalar(1, 'int32'), /^tfjsObjective: loss is int32; allowed: float32/],
  ['a constant', () => tf.scalar(1), /^tfjsObjective: loss depends neither on the embeddings nor on the variables/],
  [
    'an exception',
    () => tf.matMul(tf.ones([2, 3]), tf.ones([2, 3])),
    /^tfjsObjective: loss failed in epoch 0, batch 0: Error in matMul/,
  ],
])('a loss that gives %s is refused', async (_, loss, message) => {
  await useBackend('cpu');
  const objective = tfjsObjective(linear({ loss: loss as TfjsObjectiveOptions['loss'] }));
  start(objective);
  const x = normals(size, D, 'x');
  await expect(objective.train({ x }, batch, { x: matrix(size, D) })).rejects.toThrow(message);
});

const crossEntropy: Parameters<typeof tfjsModel>[1] = (logits, { labels: { y } }) =>
  tf.losses.softmaxCrossEntropy(tf.oneHot(y!, 4), logits).asScalar();

function twoLayers() {
  const initializer = (seed: number) => tf.initializers.randomNormal({ mean: 0, stddev: 0.5, seed });
  return tf.sequential({
    layers: [
      tf.layers.dense({ units: 6, inputShape: [D], activation: 'tanh', kernelInitializer: initializer(1) }),
      tf.layers.dense({
        units: 4,
        kernelInitializer: initializer(2),
        kernelRegularizer: tf.regularizers.l2({ l2: 0.1 }),
      }),
    ],
  });
}

/** f32 sums in another order: a few units in the last place of numbers of order 1. */
function close(found: Float32Array, expected: Float32Array): void {
  expect(found.length).toBe(expected.length);
  found.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-5));
}
