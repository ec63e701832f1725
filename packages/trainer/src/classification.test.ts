import { matrix, RandomStream, type Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import { loadKernels } from '@finetable/kernels';
import { expect, test } from 'vitest';
import { classification } from './classification.ts';

const size = 5;
const D = 6;

function normals(rows: number, cols: number, stream: string): Matrix {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data);
  return m;
}

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
  files: ['f'],
  fileOf: null,
  unit: 'line',
  lines: new Float64Array(size),
};

function build(normalize: boolean) {
  const objective = classification({ input: 'x', label: 'y', normalize });
  const parameters = objective.initialize({
    kernels: loadKernels(),
    featureDims: { x: D },
    classes: { y: ['a', 'b', 'c', 'd'] },
  });
  parameters.forEach(({ value, name }) => new RandomStream(2, name).fillNormal(value));
  return { objective, parameters };
}

test.each([false, true])('gradients agree with finite differences (normalize: %s)', async (normalize) => {
  const { objective, parameters } = build(normalize);
  const x = normals(size, D, 'x');
  const meanLoss = async (): Promise<number> =>
    (await objective.evaluate({ x: matrix(size, D, x.data.slice()) }, batch)).loss! / size;
  const gradient = matrix(size, D);
  const sums = await objective.train({ x: matrix(size, D, x.data.slice()) }, batch, { x: gradient });
  expect(sums.loss! / size).toBeCloseTo(await meanLoss(), 6);

  const h = 1e-2; // error of a central difference: h² times a third derivative of order 1
  const check = async (values: Float32Array, analytic: Float32Array): Promise<void> => {
    for (const [i, kept] of values.entries()) {
      values[i] = kept + h;
      const up = await meanLoss();
      values[i] = kept - h;
      const down = await meanLoss();
      values[i] = kept;
      expect(analytic[i]).toBeCloseTo((up - down) / (2 * h), 3);
    }
  };
  await check(x.data, gradient.data);
  for (const { value, gradient: analytic } of parameters) await check(value, analytic.slice());
});

test('loss and accuracy of known logits', async () => {
  const objective = classification({ input: 'x', label: 'y' });
  const [weight] = objective.initialize({ kernels: loadKernels(), featureDims: { x: 2 }, classes: { y: ['a', 'b'] } });
  weight!.value.set([1, 0, 0, 1]);
  const two: Batch = { ...batch, size: 2, labels: { y: Int32Array.of(0, 0) } };
  const sums = await objective.evaluate({ x: matrix(2, 2, Float32Array.of(Math.log(3), 0, 0, Math.log(3))) }, two);
  // softmax([ln 3, 0]) = [3/4, 1/4]
  const { loss, accuracy } = objective.metrics(sums, 2);
  expect(loss).toBeCloseTo((-Math.log(3 / 4) - Math.log(1 / 4)) / 2, 6);
  expect(accuracy).toBe(0.5);
});

test('one class is refused', () => {
  const objective = classification({ input: 'x', label: 'y' });
  expect(() =>
    objective.initialize({ kernels: loadKernels(), featureDims: { x: D }, classes: { y: ['only'] } }),
  ).toThrow(/label "y" has 1 class; classification needs 2 or more/);
});

test('of equal logits the first counts', async () => {
  const objective = classification({ input: 'x', label: 'y' });
  objective.initialize({ kernels: loadKernels(), featureDims: { x: 2 }, classes: { y: ['a', 'b', 'c'] } });
  const three: Batch = { ...batch, size: 3, labels: { y: Int32Array.of(0, 1, 2) } };
  const sums = await objective.evaluate({ x: normals(3, 2, 'x') }, three);
  expect(objective.metrics(sums, 3).accuracy).toBeCloseTo(1 / 3, 12);
});
