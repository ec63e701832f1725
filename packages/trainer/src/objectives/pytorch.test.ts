/** Losses and gradients are PyTorch's, by a fixture that tools/fixtures/objectives.py made. */
import { readFileSync } from 'node:fs';
import { jagged, matrix, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { describe, expect, test } from 'vitest';
import { exampleBatch } from '../check-gradients.ts';
import type { Objective } from '../objective.ts';
import { classification, type ClassificationOptions } from './classification.ts';
import { contrastive, type ContrastiveOptions } from './contrastive.ts';
import { similarity, type SimilarityOptions } from './similarity.ts';

interface Case {
  readonly name: string;
  readonly options: ClassificationOptions & ContrastiveOptions & SimilarityOptions;
  readonly batch: {
    readonly weights: number[] | null;
    readonly labels?: number[];
    readonly labelSets?: number[][];
    readonly targets?: number[];
  };
  readonly inputs: Readonly<Record<string, { readonly shape: [number, number]; readonly data: number[] }>>;
  readonly parameters: Readonly<Record<string, { readonly data: number[] }>>;
  readonly loss: number;
  readonly gradients: Readonly<Record<string, number[]>>;
  /** By example. */
  readonly losses?: number[];
  readonly predicted?: number[];
}

const { cases } = JSON.parse(readFileSync(new URL('../testing/pytorch-objectives.json', import.meta.url), 'utf8')) as {
  cases: Record<string, Case[]>;
};
const makers: Record<string, (options: Case['options']) => Objective> = { classification, contrastive, similarity };

const matricesOf = ({ inputs }: Case): Record<string, Matrix> =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, data }]) => [name, matrix(...shape, Float32Array.from(data))]),
  );

/** The largest difference, as a share of the largest value. */
function error(found: ArrayLike<number>, expected: readonly number[]): number {
  const largest = Math.max(...expected.map(Math.abs), 1e-6);
  return Math.max(...expected.map((value, i) => Math.abs(found[i]! - value))) / largest;
}

/** Each is a chain of a few sums of up to 40 products in f32: 1e-6 with room. */
const tolerance = 5e-6;

describe.each(Object.entries(cases))('%s', (type, list) => {
  test.each(list.map((one) => [one.name + (one.batch.weights ? ', weights' : ''), one] as const))(
    '%s',
    async (_, one) => {
      const { weights, labels, labelSets, targets } = one.batch;
      const inputs = matricesOf(one);
      const size = Object.values(inputs)[0]!.rows;
      const objective = makers[type]!(one.options);
      const { label = '' } = one.options as { label?: string };
      const batch = exampleBatch(size, {
        weights: weights && Float32Array.from(weights),
        labels: labels ? { [label]: Int32Array.from(labels) } : {},
        labelSets: labelSets ? { [label]: jagged(labelSets) } : {},
        targets: targets ? { [label]: Float32Array.from(targets) } : {},
      });
      const parameters = objective.initialize({
        kernels: loadKernels(),
        featureDims: Object.fromEntries(Object.entries(inputs).map(([name, { cols }]) => [name, cols])),
        numberDims: {},
        classes: { [label]: [...'abcd'] },
      });
      expect(parameters.map(({ name }) => name)).toEqual(Object.keys(one.parameters));
      for (const { name, value } of parameters) value.set(one.parameters[name]!.data);
      const gradients = matricesOf(one);
      const sums = await objective.train(inputs, batch, gradients);
      expect(error([sums.loss! / size], [one.loss])).toBeLessThan(tolerance);
      for (const [name, expected] of Object.entries(one.gradients)) {
        const found = gradients[name]?.data ?? parameters.find((parameter) => parameter.name === name)!.gradient;
        expect(error(found, expected), name).toBeLessThan(tolerance);
      }
      const { sums: again, outputs } = await objective.evaluate(matricesOf(one), batch);
      expect(again).toEqual(sums);
      if (one.losses) expect(error(outputs!.losses, one.losses)).toBeLessThan(tolerance);
      if (one.predicted) expect(error(outputs!.scores!.predicted, one.predicted)).toBeLessThan(tolerance);
    },
  );
});

test('training one feature alone gives it the same gradient', async () => {
  for (const one of cases.contrastive!) {
    const names = Object.keys(one.inputs);
    for (const name of names) {
      const objective = contrastive(one.options);
      const inputs = matricesOf(one);
      const size = inputs[name]!.rows;
      const featureDims = Object.fromEntries(names.map((other) => [other, inputs[other]!.cols]));
      objective.initialize({ kernels: loadKernels(), featureDims, numberDims: {}, classes: {} });
      const gradient = matrix(size, inputs[name]!.cols);
      gradient.data.fill(NaN);
      const { weights } = one.batch;
      await objective.train(inputs, exampleBatch(size, { weights: weights && Float32Array.from(weights) }), {
        [name]: gradient,
      });
      expect(error(gradient.data, one.gradients[name]!), `${one.name}: ${name}`).toBeLessThan(tolerance);
    }
  }
});
