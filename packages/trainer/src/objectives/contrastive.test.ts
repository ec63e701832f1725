import { jagged, makeSharedPlan, matrix, RandomStream, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { describe, expect, test } from 'vitest';
import { exampleBatch, checkGradients } from '../check-gradients.ts';
import type { Objective } from '../objective.ts';
import { contrastive, type ContrastiveOptions } from './contrastive.ts';
import { InBatchSoftmax } from './in-batch.ts';

const [size, D] = [5, 6];
const normals = (rows: number, cols: number, stream: string): Matrix => {
  const m = matrix(rows, cols);
  new RandomStream(3, stream).fillNormal(m.data);
  return m;
};
/** Examples 1 and 3 have the same positive, 0 and 4 the same anchor; the negative of 2 is the positive of 0. */
const plan = makeSharedPlan(
  [
    { ids: jagged([[0], [1], [2, 3], [3, 2], [0]]), pooling: 'mean' },
    { ids: jagged([[10], [11, 12], [13], [11, 12], []]), pooling: 'mean' },
    { ids: jagged([[20], [21], [10], [23], [24]]), pooling: 'mean' },
  ],
  30,
  'words',
);
const bags = (first: number) => ({ table: 'words', firstBag: first * size, bags: size });
const ids = { plans: { words: plan }, features: { a: bags(0), p: bags(1), n: bags(2) } };

describe.each<[string, Partial<ContrastiveOptions>]>([
  ['cosine', { scale: 5 }],
  ['dot', { similarity: 'dot', scale: 0.5 }],
  ['symmetric', { scale: 4, symmetric: true }],
  ['hard negatives', { scale: 4, negatives: 'n' }],
  ['hard negatives, symmetric, dot', { similarity: 'dot', scale: 0.3, negatives: ['n', 'm'], symmetric: true }],
  ['Matryoshka', { scale: 4, matryoshka: { dims: [6, 2, 4], weights: [1, 0.5, 2] } }],
  ['Matryoshka without all dims', { scale: 4, negatives: 'n', matryoshka: { dims: [3] } }],
  ['duplicates', { scale: 4, negatives: 'n', symmetric: true, maskDuplicates: true }],
])('%s', (_, options) => {
  test.each([[null], [Float32Array.of(1, 0, 2, 0.5, 1)]])(
    'gradients are those of the loss, weights %j',
    async (weights) => {
      const objective = contrastive({ anchor: 'a', positive: 'p', ...options });
      const inputs = Object.fromEntries(objective.inputs.map((name) => [name, normals(size, D, name)]));
      const checked = await checkGradients(objective, inputs, exampleBatch(size, { ...ids, weights }));
      expect(checked).toHaveLength(objective.inputs.length);
      // The loss is rounded to 1e-7 of 1, a step is 0.03, and the largest gradients are 0.1.
      for (const { error, name } of checked) expect(error, name).toBeLessThan(2e-3);
    },
  );
});

function start(options: Partial<ContrastiveOptions>) {
  const objective = contrastive({ anchor: 'a', positive: 'p', ...options });
  const featureDims = Object.fromEntries(objective.inputs.map((name) => [name, 2]));
  objective.initialize({ kernels: loadKernels(), featureDims, numberDims: {}, classes: {} });
  return objective;
}

test('loss and accuracy of known vectors, and what is looked for', async () => {
  const objective = start({ scale: 1 });
  const a = matrix(2, 2, Float32Array.of(2, 0, 0, 3));
  const p = matrix(2, 2, Float32Array.of(1, 0, 5, 0));
  const { sums, outputs } = await objective.evaluate({ a, p }, exampleBatch(2));
  // Cosines [[1, 1], [0, 0]]: a tie is not right.
  expect(sums).toEqual({ loss: expect.closeTo(2 * Math.LN2, 6) as number, accuracy: 0 });
  expect(objective.metrics(sums, 2).loss).toBeCloseTo(Math.LN2, 6);
  expect(outputs!.pairs).toEqual({ queries: a, candidates: p, metric: 'cosine' });
  const apart = matrix(2, 2, Float32Array.of(1, 0, 0, 1));
  expect(objective.metrics((await objective.evaluate({ a, p: apart }, exampleBatch(2))).sums, 2).accuracy).toBe(1);
});

test('candidates that are as good as the own one are left out, of both directions', async () => {
  const objective = start({ scale: 1, similarity: 'dot', negatives: 'n', maskDuplicates: true, symmetric: true });
  const ones = (): Matrix => matrix(size, 2, new Float32Array(2 * size).fill(1));
  const { outputs } = await objective.evaluate({ a: ones(), p: ones(), n: ones() }, exampleBatch(size, ids));
  // All scores are equal: the loss is the logarithm of how many candidates are left. Of ten, example 0 loses positive 4 (its own anchor
  // again) and negative 2 (its positive again); 1 and 3 each other's positives; 4 positive 0. Backward, of five: 0 and 4, 1 and 3.
  const left = [8, 9, 10, 9, 9];
  const back = [4, 4, 5, 4, 4];
  left.forEach((count, i) => expect(outputs!.losses[i]).toBeCloseTo((Math.log(count) + Math.log(back[i]!)) / 2, 5));
});

test.each<Partial<ContrastiveOptions>>([{}, { symmetric: true, matryoshka: { dims: [6, 3] } }])(
  'any number of hard negatives for an example: %j',
  async (options) => {
    const objective = contrastive({ anchor: 'a', positive: 'p', negatives: ['n', 'm'], scale: 4, ...options });
    const inputs = { a: normals(size, D, 'a'), p: normals(size, D, 'p'), n: normals(7, D, 'n'), m: normals(0, D, 'm') };
    const checked = await checkGradients(objective, inputs, exampleBatch(size));
    for (const { error, name } of checked) expect(error, name).toBeLessThan(2e-3);
    const three = contrastive({ anchor: 'a', positive: 'p', negatives: 'n', scale: 4, ...options });
    const kernels = loadKernels();
    const lossOf = async (objective: Objective, more: Record<string, Matrix>): Promise<number> => {
      const given = { a: normals(size, D, 'a'), p: normals(size, D, 'p'), ...more };
      const featureDims = Object.fromEntries(objective.inputs.map((name) => [name, D]));
      objective.initialize({ kernels, featureDims, numberDims: {}, classes: {} });
      return (await objective.evaluate(given, exampleBatch(size))).sums.loss!;
    };
    const halves = contrastive({ anchor: 'a', positive: 'p', negatives: ['m', 'n'], scale: 4, ...options });
    const n = normals(7, D, 'n');
    expect(await lossOf(three, { n: normals(7, D, 'n') })).toBeCloseTo(
      await lossOf(halves, {
        m: matrix(2, D, n.data.slice(0, 2 * D)),
        n: matrix(5, D, n.data.slice(2 * D)),
      }),
      5,
    );
  },
);

test('large batches are worked on in parts, with the same results', () => {
  const kernels = loadKernels();
  const [B, N, d] = [2300, 4600, 3];
  const [queries, candidates] = [normals(B, d, 'q'), normals(N, d, 'c')];
  const shared = { queries, candidates, scale: 2, leftOut: null, factor: 1 / B, weights: null, add: false };
  const run = (rows: number) => {
    const [losses, correct] = [new Float32Array(rows), new Float32Array(rows)];
    const [queryGradient, candidateGradient] = [matrix(rows, d), matrix(N, d)];
    new InBatchSoftmax(kernels).run({ ...shared, queries: matrix(rows, d, queries.data.subarray(0, rows * d)), losses, correct, queryGradient, candidateGradient }); // prettier-ignore
    return { losses, correct, queryGradient, candidateGradient };
  };
  // 4600 candidates: 911 queries at a time. A query's own results do not depend on the others.
  const [all, few] = [run(B), run(911)];
  expect(all.losses.subarray(0, 911)).toEqual(few.losses);
  expect(all.correct.subarray(0, 911)).toEqual(few.correct);
  expect(all.queryGradient.data.subarray(0, 911 * d)).toEqual(few.queryGradient.data);
  // Gradients of the scores add up to 0 by query; so do those of candidates, weighted with the queries, only if all parts are there:
  // Σ_c G[c]·c = Σ_q g[q]·q, both being Σ ∂L/∂s · s.
  const along = (g: Matrix, x: Matrix): number => g.data.reduce((sum, value, i) => sum + value * x.data[i]!, 0);
  expect(along(all.candidateGradient, candidates)).toBeCloseTo(along(all.queryGradient, queries), 4);
});

test('what cannot be is refused', () => {
  const of = (options: Partial<ContrastiveOptions>) => () =>
    contrastive({ anchor: 'a', positive: 'p', ...options } as ContrastiveOptions);
  expect(of({ positive: 'a' })).toThrow('contrastive: features: found "a"; allowed: each feature once');
  expect(of({ scale: 0 })).toThrow('contrastive: scale: found 0; allowed: a number above 0');
  expect(of({ similarity: 'l2' as 'dot' })).toThrow('similarity: found "l2"; allowed: "cosine", "dot"');
  expect(of({ matryoshka: { dims: [] } })).toThrow('matryoshka.dims: found []; allowed: one or more');
  expect(of({ matryoshka: { dims: [2, 2] } })).toThrow('matryoshka.dims: found [2,2]; allowed: each once');
  expect(of({ matryoshka: { dims: [2], weights: [] } })).toThrow('matryoshka.weights: found []; allowed: 1 of them');
  expect(of({ negative: 'n' } as Partial<ContrastiveOptions>)).toThrow('there is no option "negative"');
  const initialize = (options: Partial<ContrastiveOptions>, p: number) => () =>
    of(options)().initialize({ kernels: loadKernels(), featureDims: { a: 4, p }, numberDims: {}, classes: {} });
  expect(initialize({}, 5)).toThrow('contrastive: "a" has 4 dims, "p" 5; allowed: as many for all');
  expect(initialize({ matryoshka: { dims: [5] } }, 4)).toThrow(
    "matryoshka.dims: found 5; allowed: up to the vectors' 4",
  );
  const used = start({});
  expect(() => used.initialize({ kernels: loadKernels(), featureDims: {}, numberDims: {}, classes: {} })).toThrow(
    /in use/,
  );
  expect(() => start({ maskDuplicates: true }).evaluate({ a: matrix(1, 2), p: matrix(1, 2) }, exampleBatch(1))).toThrow(
    'the batch has no ids of feature "a"',
  );
});
