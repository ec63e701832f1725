/** Losses and gradients as PyTorch has them (tools/fixtures/objectives_ranking.py), and as finite differences have them. */
import { readFileSync } from 'node:fs';
import { jagged, makePlan, matrix, type Matrix } from '@finetable/core';
import type { Batch } from '@finetable/data';
import { kernelsStatus, loadKernels } from '@finetable/kernels';
import { expect, test } from 'vitest';
import { exampleBatch, checkGradients } from '../check-gradients.ts';
import type { Objective } from '../objective.ts';
import { ctr, type CtrOptions } from './ctr.ts';
import { graph, type GraphOptions } from './graph.ts';
import { ranking, type RankingOptions } from './ranking.ts';
import { cbow, skipgram, type WordVectorOptions } from './skipgram.ts';

interface Values {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

interface Case {
  readonly name: string;
  readonly kind: 'ranking' | 'ctr' | 'graph' | 'skipgram' | 'cbow';
  readonly options: object;
  readonly size: number;
  readonly ids: Readonly<Record<string, { readonly bags?: number[][]; readonly unpooled?: number[][] }>>;
  readonly inputs: Readonly<Record<string, Values>>;
  readonly parameters: Readonly<Record<string, Values>>;
  readonly weights: readonly number[] | null;
  readonly numbers?: Readonly<Record<string, Values>>;
  readonly targets?: Readonly<Record<string, readonly number[]>>;
  readonly epoch?: number;
  readonly index?: number;
  readonly loss: number;
  readonly gradients: Readonly<Record<string, Values>>;
}

const { cases } = JSON.parse(readFileSync(new URL('../../test/objectives-ranking.json', import.meta.url), 'utf8')) as {
  cases: Case[];
};

const matrixOf = ({ shape, data }: Values): Matrix => matrix(shape[0]!, shape[1]!, Float32Array.from(data));

function build({ kind, options }: Case): Objective {
  switch (kind) {
    case 'ranking':
      return ranking(options as RankingOptions);
    case 'ctr':
      return ctr(options as CtrOptions);
    case 'graph':
      return graph(options as GraphOptions);
    case 'skipgram':
      return skipgram(options as WordVectorOptions);
    case 'cbow':
      return cbow(options as WordVectorOptions);
  }
}

function batchOf({ kind, size, ids, weights, numbers = {}, targets = {}, epoch = 0, index = 0 }: Case): Batch {
  const tableRows = kind === 'ranking' ? 8 : 7;
  const plans: Record<string, Batch['plans'][string]> = {};
  const features: Record<string, Batch['features'][string]> = {};
  for (const [name, { bags, unpooled }] of Object.entries(ids)) {
    const each = bags ?? unpooled!.flat().map((id) => [id]);
    plans[`${name}s`] = makePlan(jagged(each), tableRows);
    const offsets = unpooled && jagged(unpooled).offsets;
    features[name] = { table: `${name}s`, firstBag: 0, bags: each.length, ...(offsets ? { offsets } : {}) };
  }
  return exampleBatch(size, {
    epoch,
    index,
    plans,
    features,
    weights: weights && Float32Array.from(weights),
    numbers: Object.fromEntries(Object.entries(numbers).map(([name, m]) => [name, matrixOf(m)])),
    targets: Object.fromEntries(Object.entries(targets).map(([name, x]) => [name, Float32Array.from(x)])),
  });
}

const each = <T>(from: Readonly<Record<string, Values>>, make: (values: Values) => T): Record<string, T> =>
  Object.fromEntries(Object.entries(from).map(([name, values]) => [name, make(values)]));

for (const kind of ['portable', 'native'] as const) {
  test.for(cases.map((c) => [`${c.kind}: ${c.name}`, c] as const))(`${kind}: %s`, async ([, c], context) => {
    const status = kernelsStatus();
    if (kind === 'native' && !status.native) context.skip(`no native kernels: ${status.reason}`);
    const kernels = loadKernels({ kind });
    const batch = batchOf(c);
    const objective = build(c);
    const inputs = each(c.inputs, matrixOf);
    const parameters = objective.initialize({
      kernels,
      featureDims: each(c.inputs, ({ shape }) => shape[1]!),
      numberDims: each(c.numbers ?? {}, ({ shape }) => shape[1]!),
      classes: {},
    });
    expect(parameters.map(({ name }) => name).sort()).toEqual(Object.keys(c.parameters).sort());
    for (const { name, value } of parameters) value.set(c.parameters[name]!.data);
    const evaluated = await objective.evaluate(each(c.inputs, matrixOf), batch);
    const gradients = each(c.inputs, ({ shape }) =>
      matrix(shape[0]!, shape[1]!, new Float32Array(shape[0]! * shape[1]!).fill(NaN)),
    );
    const sums = await objective.train(inputs, batch, gradients);
    // Sums of some ten f32 roundings of values of order 1 to 10.
    expect(sums.loss! / c.size).toBeCloseTo(c.loss, 5);
    expect(evaluated.sums).toEqual(sums);
    let weighted = 0;
    evaluated.outputs!.losses.forEach((loss, i) => (weighted += (c.weights?.[i] ?? 1) * loss));
    expect(weighted / c.size).toBeCloseTo(c.loss, 5);
    const found: Record<string, Float32Array> = each(c.inputs, () => new Float32Array(0));
    for (const name of Object.keys(found)) found[name] = gradients[name]!.data;
    for (const { name, gradient } of parameters) found[name] = gradient;
    for (const [name, { data }] of Object.entries(c.gradients)) {
      const worst = data.reduce((most, g, i) => Math.max(most, Math.abs(g - found[name]![i]!)), 0);
      expect(worst, name).toBeLessThan(2e-6);
      expect(found[name]!.length, name).toBe(data.length);
    }
  });
}

test.each(cases.map((c) => [`${c.kind}: ${c.name}`, c] as const))('finite differences: %s', async (_, c) => {
  // Kinks of ReLU and of hinges are crossed by larger steps.
  const options = c.kind === 'ctr' || c.kind === 'graph' ? { step: 1e-3, seed: 1, tolerance: 0.02 } : {};
  await checkGradients(build(c), each(c.inputs, matrixOf), batchOf(c), options);
});
