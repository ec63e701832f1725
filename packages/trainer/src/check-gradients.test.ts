import { matrix, type Matrix } from '@finetable/core';
import { expect, test } from 'vitest';
import { exampleBatch, checkGradients } from './check-gradients.ts';
import type { DenseParameter, Objective } from './objective.ts';

/** Loss Σ a x² / 2 + x³ / 6, a beginning at 0; `wrong` is added to the gradient of the fourth x, `wrongA` to that of a. */
function cubic({ wrong = 0, wrongA = 0 } = {}): Objective {
  const a: DenseParameter = { name: 'a', shape: [1], value: new Float32Array(1), gradient: new Float32Array(1) };
  return {
    inputs: ['x'],
    labels: [],
    initialize: () => [a],
    train({ x }, { size }, gradients) {
      const scale = a.value[0]!;
      const sum = (of: (value: number) => number): number => x!.data.reduce((total, value) => total + of(value), 0);
      const loss = sum((value) => (scale * value ** 2) / 2 + value ** 3 / 6);
      gradients.x!.data.set(x!.data.map((value, i) => (scale * value + value ** 2 / 2) / size + (i === 3 ? wrong : 0)));
      a.gradient[0] = sum((value) => value ** 2 / 2) / size + wrongA;
      x!.data.fill(NaN); // inputs are the objective's
      return { loss };
    },
    evaluate: () => ({ sums: { loss: 0 } }),
    metrics: () => ({ loss: 0 }),
  };
}

const x = (): Matrix => matrix(2, 3, Float32Array.of(1, -2, 3, 0.5, 0, -1));

test('right gradients pass, of a cubic to rounding; inputs are left as they were', async () => {
  const inputs = { x: x() };
  const checked = await checkGradients(cubic(), inputs, exampleBatch(2));
  expect(checked.map(({ name }) => name).sort()).toEqual(['a', 'x']);
  // Values of 3 are rounded to 1e-7 of them, a step is 0.03: about 1e-5 of slopes near 1.
  for (const { error } of checked) expect(error).toBeLessThan(1e-4);
  expect(inputs.x).toEqual(x());
});

test('a wrong gradient is named, with what was found', async () => {
  await expect(checkGradients(cubic({ wrong: 0.1 }), { x: x() }, exampleBatch(2))).rejects.toThrow(
    /^the gradient of "x" is .* at 3, finite differences give .*: an error of 0\.\d+; allowed: up to 0.01$/,
  );
  await expect(checkGradients(cubic({ wrongA: -1 }), { x: x() }, exampleBatch(2))).rejects.toThrow(/gradient of "a"/);
  await expect(checkGradients(cubic({ wrong: NaN }), { x: x() }, exampleBatch(2))).rejects.toThrow(/"x" is NaN at 3/);
});

test("a tolerance of one's own, and few values", async () => {
  const loose = await checkGradients(cubic({ wrong: 0.1 }), { x: x() }, exampleBatch(2), { tolerance: 1 });
  expect(loose[0]).toMatchObject({ name: 'x', index: 3 });
  // Of six values two are moved: the first and the fourth; of one the first.
  await expect(checkGradients(cubic({ wrong: 0.1 }), { x: x() }, exampleBatch(2), { values: 2 })).rejects.toThrow(
    /at 3/,
  );
  await checkGradients(cubic({ wrong: 0.1 }), { x: x() }, exampleBatch(2), { values: 1 });
});

test('what an objective does not write is seen', async () => {
  const objective = cubic();
  const train = objective.train.bind(objective);
  objective.train = (inputs, batch) => train(inputs, batch, { x: x() });
  await expect(checkGradients(objective, { x: x() }, exampleBatch(2))).rejects.toThrow(/"x" is NaN/);
});
