import { jagged, matrix, RandomStream, type Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import { loadKernels } from '@finetable/kernels';
import { describe, expect, test } from 'vitest';
import { exampleBatch, checkGradients } from '../check-gradients.ts';
import type { Objective } from '../objective.ts';
import { classification, type ClassificationOptions } from './classification.ts';

const size = 5;
const D = 6;

function normals(rows: number, cols: number, stream: string): Matrix {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data);
  return m;
}

const labels = { y: Int32Array.of(0, 3, 1, 1, 2) };
const labelSets = { y: jagged([[0, 2], [], [1], [0, 1, 2, 3], [3]]) };
const batch = exampleBatch(size, { labels, labelSets });
const classes = { y: ['a', 'b', 'c', 'd'] };

describe.each<[string, Partial<ClassificationOptions>]>([
  ['linear', {}],
  ['normalised', { normalize: true }],
  ['several inputs', { input: ['x', 'z'] }],
  ['several inputs, normalised, an MLP', { input: ['x', 'z'], normalize: true, hidden: [7, 5] }],
  ['class weights', { classWeights: { b: 0.25, d: 3 } }],
  ['label smoothing', { labelSmoothing: 0.2 }],
  ['label smoothing and class weights', { labelSmoothing: 0.2, classWeights: { b: 0.25, c: 0 } }],
  ['several classes', { activation: 'sigmoid' }],
  ['several classes, with all else', { activation: 'sigmoid', labelSmoothing: 0.1, classWeights: { a: 2, b: 0 }, hidden: [6] }], // prettier-ignore
])('%s', (_, options) => {
  const build = (): Objective => classification({ input: 'x', label: 'y', ...options });
  const inputs = { x: normals(size, D, 'x'), ...(options.input ? { z: normals(size, 3, 'z') } : {}) };

  test.each([[null], [Float32Array.of(1, 0, 2, 0.5, 1)]])(
    'gradients are those of the loss, weights %j',
    async (weights) => {
      const checked = await checkGradients(build(), inputs, { ...batch, weights }, { classes });
      // The loss is rounded to 1e-7 of 1, a step is 0.03, and the largest gradients are 0.01: 1e-3 at most.
      for (const { error, name } of checked) expect(error, name).toBeLessThan(5e-3);
    },
  );
});

test('training and evaluating tell the same, the weighted mean over examples', async () => {
  const objective = classification({ input: 'x', label: 'y' });
  const parameters = objective.initialize({ kernels: loadKernels(), featureDims: { x: D }, numberDims: {}, classes });
  for (const { name, value } of parameters) new RandomStream(2, name).fillNormal(value);
  const weights = Float32Array.of(1, 0, 2, 0.5, 1);
  const weighted = { ...batch, weights };
  const x = (): Matrix => normals(size, D, 'x');
  const { sums, outputs } = await objective.evaluate({ x: x() }, weighted);
  expect(await objective.train({ x: x() }, weighted, {})).toEqual(sums);
  const mean = (of: (i: number) => number): number =>
    weights.reduce((sum, weight, i) => sum + weight * of(i), 0) / weights.reduce((sum, weight) => sum + weight, 0);
  const { loss, accuracy } = objective.metrics(sums, size);
  expect(loss).toBeCloseTo(
    mean((i) => outputs!.losses[i]!),
    12,
  );
  expect(accuracy).toBeCloseTo(
    mean((i) => Number(outputs!.classes!.predicted[i] === labels.y[i])),
    12,
  );
  expect(outputs!.weights).toBe(weights);
});

test('of several classes, whole sets are right or wrong', async () => {
  const objective = classification({ input: 'x', label: 'y', activation: 'sigmoid' });
  const [weight] = objective.initialize({ kernels: loadKernels(), featureDims: { x: 2 }, numberDims: {}, classes: { y: ['a', 'b'] } }); // prettier-ignore
  weight!.value.set([1, 0, 0, 1]);
  const two = exampleBatch(2, { labelSets: { y: jagged([[0], [0]]) } });
  const { sums, outputs } = await objective.evaluate({ x: matrix(2, 2, Float32Array.of(2, -1, 3, 0.5)) }, two);
  const cross = (z: number, target: number): number => Math.log1p(Math.exp(z)) - z * target;
  expect(outputs!.losses[0]).toBeCloseTo((cross(2, 1) + cross(-1, 0)) / 2, 6);
  expect(outputs!.losses[1]).toBeCloseTo((cross(3, 1) + cross(0.5, 0)) / 2, 6);
  expect(objective.metrics(sums, 2).accuracy).toBe(0.5);
  expect([...outputs!.labelSets!.logits.data]).toEqual([2, -1, 3, 0.5]);
});

test('what cannot be is refused', () => {
  const of = (options: Partial<ClassificationOptions>) => () => classification({ input: 'x', label: 'y', ...options });
  expect(of({ input: [] })).toThrow('classification: input: found []; allowed: a feature, or several');
  expect(of({ input: ['x', 'x'] })).toThrow('input: found "x"; allowed: each feature once');
  expect(of({ hidden: [0] })).toThrow('hidden[0]: found 0; allowed: an integer from 1');
  expect(of({ labelSmoothing: 1 })).toThrow('labelSmoothing: found 1; allowed: a number from 0 below 1');
  expect(of({ classWeights: { a: -1 } })).toThrow('classWeights.a: found -1; allowed: a number from 0');
  expect(of({ activation: 'relu' as 'softmax' })).toThrow('activation: found "relu"; allowed: "softmax", "sigmoid"');
  const initialize = (options: Partial<ClassificationOptions>) => () =>
    of(options)().initialize({ kernels: loadKernels(), featureDims: { x: D }, numberDims: {}, classes });
  expect(initialize({ classWeights: { e: 1 } })).toThrow('classWeights: found "e"; allowed: classes of "y": "a", "b", "c", "d"'); // prettier-ignore
  const objective = classification({ input: 'x', label: 'y', activation: 'sigmoid' });
  objective.initialize({ kernels: loadKernels(), featureDims: { x: D }, numberDims: {}, classes });
  expect(() => objective.evaluate({ x: normals(size, D, 'x') }, exampleBatch(size, { labels }))).toThrow(
    /with activation "sigmoid" label "y" must have type "classes"/,
  );
});

test('loss and accuracy of known logits', async () => {
  const objective = classification({ input: 'x', label: 'y' });
  const [weight] = objective.initialize({
    kernels: loadKernels(),
    numberDims: {},
    featureDims: { x: 2 },
    classes: { y: ['a', 'b'] },
  });
  weight!.value.set([1, 0, 0, 1]);
  const two: Batch = { ...batch, size: 2, labels: { y: Int32Array.of(0, 0) } };
  const { sums } = await objective.evaluate({ x: matrix(2, 2, Float32Array.of(Math.log(3), 0, 0, Math.log(3))) }, two);
  // softmax([ln 3, 0]) = [3/4, 1/4]
  const { loss, accuracy } = objective.metrics(sums, 2);
  expect(loss).toBeCloseTo((-Math.log(3 / 4) - Math.log(1 / 4)) / 2, 6);
  expect(accuracy).toBe(0.5);
});

test('one class is refused', () => {
  const objective = classification({ input: 'x', label: 'y' });
  expect(() =>
    objective.initialize({ kernels: loadKernels(), numberDims: {}, featureDims: { x: D }, classes: { y: ['only'] } }),
  ).toThrow(/label "y" has 1 class; classification needs 2 or more/);
});

test('of equal logits the first counts', async () => {
  const objective = classification({ input: 'x', label: 'y' });
  objective.initialize({
    kernels: loadKernels(),
    numberDims: {},
    featureDims: { x: 2 },
    classes: { y: ['a', 'b', 'c'] },
  });
  const three: Batch = { ...batch, size: 3, labels: { y: Int32Array.of(0, 1, 2) } };
  const { sums, outputs } = await objective.evaluate({ x: normals(3, 2, 'x') }, three);
  expect(outputs!.classes!.predicted).toEqual(Int32Array.of(0, 0, 0));
  expect(objective.metrics(sums, 3).accuracy).toBeCloseTo(1 / 3, 12);
});
