import { matrix, RandomStream, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { expect, test } from 'vitest';
import { exampleBatch, checkGradients } from '../check-gradients.ts';
import type { Objective } from '../objective.ts';
import { concatenateColumns, firstColumns, Linear, Mlp, splitColumns } from './layers.ts';

const normals = (rows: number, cols: number, stream: string): Matrix => {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data);
  return m;
};

/** Loss: half the sum of squares of what the layers make. */
function squares(hidden: readonly number[]): Objective {
  let mlp: Mlp;
  return {
    inputs: ['x'],
    labels: [],
    initialize({ kernels, featureDims }) {
      mlp = new Mlp(kernels, 'hidden.', featureDims.x!, hidden, 3);
      return mlp.parameters;
    },
    train({ x }, { size }, gradients) {
      const out = mlp.forward(x!);
      const gradient = matrix(out.rows, out.cols, out.data.map((value) => value / size)); // prettier-ignore
      mlp.backward(gradient, gradients.x!);
      return { loss: out.data.reduce((sum, value) => sum + value * value, 0) / 2 };
    },
    evaluate: () => ({ sums: { loss: 0 } }),
    metrics: () => ({ loss: 0 }),
  };
}

test.each([[[]], [[5]], [[7, 4, 3]]])('gradients of an MLP with hidden %j', async (hidden) => {
  const checked = await checkGradients(squares(hidden), { x: normals(6, 4, 'x') }, exampleBatch(6), { seed: 1 });
  expect(checked.map(({ name }) => name).sort()).toEqual(
    ['x', ...hidden.flatMap((_, i) => [`hidden.${i}.weight`, `hidden.${i}.bias`])].sort(),
  );
});

test('layers start at random within the bounds of he-uniform, otherwise for another seed; biases at 0', () => {
  const of = (seed: number): readonly Float32Array[] =>
    new Mlp(loadKernels(), 'm.', 6, [50, 3], seed).parameters.map(({ value }) => value);
  const [w0, b0, w1, b1] = of(1) as [Float32Array, Float32Array, Float32Array, Float32Array];
  expect(Math.max(...w0.map(Math.abs))).toBeLessThanOrEqual(1);
  expect(Math.max(...w0.map(Math.abs))).toBeGreaterThan(0.95); // of 300 values
  expect(Math.max(...w1.map(Math.abs))).toBeLessThanOrEqual(Math.fround(Math.sqrt(6 / 50)));
  expect([...b0, ...b1].every((value) => value === 0)).toBe(true);
  expect(of(1)).toEqual([w0, b0, w1, b1]);
  expect(of(2)[0]).not.toEqual(w0);
});

test('a linear layer is x Wᵀ + bias, and starts at 0', () => {
  const layer = new Linear(loadKernels(), 'l.', 2, 3);
  const out = matrix(1, 3, Float32Array.of(9, 9, 9));
  layer.forward(matrix(1, 2, Float32Array.of(1, 2)), out);
  expect([...out.data]).toEqual([0, 0, 0]);
  layer.parameters[0].value.set([1, 0, 0, 1, 1, 1]);
  layer.parameters[1].value.set([10, 20, 30]);
  layer.forward(matrix(1, 2, Float32Array.of(1, 2)), out);
  expect([...out.data]).toEqual([11, 22, 33]);
});

test('columns side by side, and apart again', () => {
  const [a, b] = [matrix(2, 2, Float32Array.of(1, 2, 3, 4)), matrix(2, 1, Float32Array.of(5, 6))];
  const both = matrix(2, 3);
  concatenateColumns([a, b], both);
  expect([...both.data]).toEqual([1, 2, 5, 3, 4, 6]);
  const right = matrix(2, 1);
  splitColumns(both, [2, 1], [null, right]);
  expect(right).toEqual(b);
  const left = matrix(2, 2);
  firstColumns(both, left);
  expect(left).toEqual(a);
});
