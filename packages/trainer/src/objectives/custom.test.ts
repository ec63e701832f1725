import { matrix, RandomStream, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { expect, test } from 'vitest';
import { exampleBatch, checkGradients } from '../check-gradients.ts';
import { custom, type CustomLoss } from './custom.ts';

const D = 5;
const size = 4;
const normals = (rows: number, cols: number, name: string): Matrix => {
  const m = matrix(rows, cols);
  new RandomStream(1, name).fillNormal(m.data);
  return m;
};

/** Half the squared difference of two vectors, one through a square matrix. */
function distances({ inputs, parameters, shares, gradients, kernels, scratch }: CustomLoss): Float32Array {
  const [left, right, weight] = [inputs['left']!, inputs['right']!, parameters['weight']!];
  const difference = scratch.matrix('difference', left.rows, left.cols);
  kernels.matmul({ a: left, b: weight, out: difference });
  const losses = new Float32Array(left.rows);
  for (let at = 0; at < difference.data.length; at++) {
    const i = Math.floor(at / left.cols);
    const d = difference.data[at]! - right.data[at]!;
    losses[i]! += d ** 2 / 2;
    difference.data[at] = d * shares[i]!;
    if (gradients) gradients['right']!.data[at] = -difference.data[at]!;
  }
  if (gradients) {
    kernels.matmul({ a: left, b: difference, out: gradients['weight']!, transposeA: true });
    kernels.matmul({ a: difference, b: weight, out: gradients['left']!, transposeB: true });
  }
  return losses;
}

const make = () => custom({ inputs: ['left', 'right'], parameters: { weight: [D, D] }, loss: distances });
const inputs = () => ({ left: normals(size, D, 'left'), right: normals(size, D, 'right') });
const context = { kernels: loadKernels(), featureDims: { left: D, right: D }, numberDims: {}, classes: {} };

test('gradients of a function are those of its loss, with weights and without', async () => {
  for (const weights of [null, Float32Array.of(1, 0.5, 0, 2)]) {
    const checked = await checkGradients(make(), inputs(), exampleBatch(size, { weights }));
    expect(checked.map(({ name }) => name).sort()).toEqual(['left', 'right', 'weight']);
  }
});

test('a wrong gradient is found', async () => {
  const objective = custom({
    inputs: ['left', 'right'],
    parameters: { weight: [D, D] },
    loss: (given) => {
      const losses = distances(given);
      given.gradients?.['weight']!.data.fill(0);
      return losses;
    },
  });
  await expect(checkGradients(objective, inputs(), exampleBatch(size))).rejects.toThrow(
    /the gradient of "weight" is 0/,
  );
});

test('a frozen table is not the function’s business; evaluations want no gradients', async () => {
  const objective = make();
  objective.initialize(context);
  const right = matrix(size, D);
  const sums = await objective.train(inputs(), exampleBatch(size), { right });
  expect(right.data.some((g) => g !== 0)).toBe(true);
  const evaluated = await objective.evaluate(inputs(), exampleBatch(size));
  expect(evaluated.sums).toEqual(sums);
  expect(objective.metrics(sums, size)).toEqual({ loss: sums.loss! / size });
});

test('what is predicted beside the loss', async () => {
  const objective = custom({
    inputs: ['left'],
    targets: ['y'],
    loss: ({ inputs, batch }) => {
      const predicted = inputs['left']!.data.slice(0, batch.size);
      return {
        losses: new Float32Array(batch.size),
        scores: { predicted, targets: batch.targets['y']!, kind: 'value' },
      };
    },
  });
  objective.initialize(context);
  const targets = { y: Float32Array.of(1, 2, 3, 4) };
  const { outputs } = await objective.evaluate(inputs(), exampleBatch(size, { targets }));
  expect(outputs!.scores!.targets).toBe(targets.y);
});

test('what is wrong is named', () => {
  const start = (options: object) => () => {
    const objective = custom({ inputs: ['left', 'right'], loss: distances, ...options });
    objective.initialize(context);
    return objective;
  };
  expect(start({ parameters: { left: [2] } })).toThrow(/parameter "left" has the name of a feature/);
  expect(start({ parameters: { w: [2, 0] } })).toThrow(/parameter "w" has shape \[2, 0\]/);
  expect(start({ lose: 1 })).toThrow(/lose/);
  const short = start({ loss: () => new Float32Array(1) })();
  expect(() => short.evaluate(inputs(), exampleBatch(size))).toThrow(
    /loss returned 1 losses; allowed: a Float32Array of 4/,
  );
  const none = start({ loss: () => undefined })();
  expect(() => none.evaluate(inputs(), exampleBatch(size))).toThrow(/loss returned something else/);
  const twice = make();
  twice.initialize(context);
  expect(() => twice.initialize(context)).toThrow(/make one for each with custom\(\)/);
});
