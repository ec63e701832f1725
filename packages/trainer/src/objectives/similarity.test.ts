import { matrix, RandomStream, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { describe, expect, test } from 'vitest';
import { exampleBatch, checkGradients } from '../check-gradients.ts';
import { similarity, type SimilarityOptions } from './similarity.ts';

const [size, D] = [6, 5];
const normals = (stream: string): Matrix => {
  const m = matrix(size, D);
  new RandomStream(3, stream).fillNormal(m.data);
  return m;
};
const targets = { score: Float32Array.of(4.5, 0, 2, 2, 5, 1.25) };
const options: SimilarityOptions = { first: 'a', second: 'b', label: 'score' };

describe.each<[string, Partial<SimilarityOptions>]>([
  ['mse', { range: [0, 5] }],
  ['cosent', { loss: 'cosent', scale: 5 }],
])('%s', (_, more) => {
  test.each([[null], [Float32Array.of(1, 0, 2, 0.5, 1, 1)]])(
    'gradients are those of the loss, weights %j',
    async (weights) => {
      const batch = exampleBatch(size, { targets, weights });
      const checked = await checkGradients(similarity({ ...options, ...more }), { a: normals('a'), b: normals('b') }, batch); // prettier-ignore
      expect(checked).toHaveLength(2);
      for (const { error, name } of checked) expect(error, name).toBeLessThan(2e-3);
    },
  );
});

const start = (more: Partial<SimilarityOptions>) => {
  const objective = similarity({ ...options, ...more });
  objective.initialize({ kernels: loadKernels(), featureDims: { a: 2, b: 2 }, numberDims: {}, classes: {} });
  return objective;
};
/** Cosines 1, 0 and -1. */
const known = () => ({
  a: matrix(3, 2, Float32Array.of(2, 0, 1, 0, 0, 3)),
  b: matrix(3, 2, Float32Array.of(1, 0, 0, 1, 0, -1)),
});

test('loss of known vectors, and scores for metrics', async () => {
  const objective = start({ range: [1, 5] });
  const weights = Float32Array.of(1, 1, 2);
  const batch = exampleBatch(3, { targets: { score: Float32Array.of(5, 3, 1) }, weights });
  const { sums, outputs } = await objective.evaluate(known(), batch);
  // Scores become 1, 1/2 and 0.
  expect([...outputs!.losses]).toEqual([0, 0.25, 1]);
  expect(objective.metrics(sums, 3)).toEqual({ loss: (0.25 + 2) / 4 });
  expect(outputs!.scores).toEqual({
    predicted: Float32Array.of(1, 0, -1),
    targets: Float32Array.of(1, 0.5, 0),
    kind: 'value',
  });
});

test('cosines in the order of the scores cost little, in the reverse order much; equal scores have none', async () => {
  const loss = async (...score: number[]): Promise<number> => {
    const objective = start({ loss: 'cosent', scale: 2 });
    const batch = exampleBatch(3, { targets: { score: Float32Array.from(score) } });
    return objective.metrics((await objective.evaluate(known(), batch)).sums, 3).loss!;
  };
  expect(await loss(3, 2, 1)).toBeCloseTo(Math.log(1 + 2 * Math.exp(-2) + Math.exp(-4)), 6);
  expect(await loss(1, 2, 3)).toBeCloseTo(Math.log(1 + 2 * Math.exp(2) + Math.exp(4)), 6);
  expect(await loss(1, 1, 1)).toBe(0);
  // Only the last is below the two others.
  expect(await loss(1, 1, 0)).toBeCloseTo(Math.log(1 + Math.exp(-4) + Math.exp(-2)), 6);
});

test('what cannot be is refused', () => {
  const of = (more: Partial<SimilarityOptions>) => () => similarity({ ...options, ...more });
  expect(of({ second: 'a' })).toThrow('similarity: second: found "a"; allowed: another feature than the first');
  expect(of({ range: [1, 1] })).toThrow('range: found [1,1]; allowed: the lowest and the highest score');
  expect(of({ scale: 301 })).toThrow('scale: found 301; allowed: a number above 0 to 300');
  expect(of({ loss: 'l1' as 'mse' })).toThrow('loss: found "l1"; allowed: "mse", "cosent"');
  expect(() =>
    similarity(options).initialize({
      kernels: loadKernels(),
      featureDims: { a: 2, b: 3 },
      numberDims: {},
      classes: {},
    }),
  ).toThrow('similarity: "a" has 2 dims, "b" 3; allowed: as many for both');
});
