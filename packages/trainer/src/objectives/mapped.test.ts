import { makePlan, matrix, RandomStream, range, type Matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { expect, test } from 'vitest';
import { checkGradients, exampleBatch } from '../check-gradients.ts';
import { mapped } from './mapped.ts';
import { ranking } from './ranking.ts';
import { similarity } from './similarity.ts';

const [size, D] = [6, 5];
const normals = (stream: string): Matrix => {
  const m = matrix(size, D);
  new RandomStream(3, stream).fillNormal(m.data);
  return m;
};
const targets = { score: Float32Array.of(4.5, 0, 2, 2, 5, 1.25) };
const cosines = () => similarity({ first: 'a', second: 'b', label: 'score', range: [0, 5] });
const context = { kernels: loadKernels(), featureDims: { a: D, b: D }, numberDims: {}, classes: {} };

test.each<[string, Record<string, string>, string[]]>([
  ['one map of both', { a: 'words', b: 'words' }, ['a', 'b', 'map/words']],
  ['a map for each', { a: 'users', b: 'items' }, ['a', 'b', 'map/items', 'map/users']],
  ['a map of one', { b: 'items' }, ['a', 'b', 'map/items']],
])('gradients are those of the loss: %s', async (_, maps, names) => {
  const inputs = { a: normals('a'), b: normals('b') };
  const checked = await checkGradients(mapped(cosines(), maps), inputs, exampleBatch(size, { targets }));
  expect(checked.map(({ name }) => name).sort()).toEqual(names);
  for (const { error, name } of checked) expect(error, name).toBeLessThan(2e-3);
});

test('it starts as the identity, and learns where no table does', async () => {
  const [plain, objective] = [cosines(), mapped(cosines(), { a: 'words', b: 'words' })];
  plain.initialize(context);
  const [parameter] = objective.initialize(context);
  const batch = exampleBatch(size, { targets });
  const inputs = () => ({ a: normals('a'), b: normals('b') });
  expect((await objective.evaluate(inputs(), batch)).sums).toEqual((await plain.evaluate(inputs(), batch)).sums);
  await objective.train(inputs(), batch, {});
  expect(Math.hypot(...parameter!.gradient)).toBeGreaterThan(0);
});

test('what queries are compared with goes through the map that the rows have now', async () => {
  const objective = mapped(ranking({ query: 'a', target: 'b' }), { a: 'items', b: 'items' });
  const [parameter] = objective.initialize(context);
  const features = {
    a: { table: 'items', firstBag: 0, bags: size },
    b: { table: 'items', firstBag: size, bags: size },
  };
  const plan = makePlan({ values: range(2 * size), offsets: range(2 * size + 1) }, 2 * size);
  const batch = exampleBatch(size, { features, plans: { items: plan } });
  parameter!.value[1] = 0.5;
  const found = await objective.evaluate({ a: normals('a'), b: normals('b') }, batch);
  const identity = Array.from({ length: D * D }, (_, i) => Number(i % (D + 1) === 0));
  expect([...found.outputs!.queries!.transforms![0]!.data]).toEqual(identity.with(1, 0.5));
  parameter!.value[1] = 2;
  objective.updated!();
  const later = await objective.evaluate({ a: normals('a'), b: normals('b') }, batch);
  expect(later.outputs!.queries!.transforms![0]!.data[1]).toBe(2);
});

test('what cannot be is refused', () => {
  expect(() => mapped(cosines(), { c: 'words' })).toThrow('the objective does not read feature "c"');
  expect(() => mapped(cosines(), { a: 'words' }, { word: {} })).toThrow('options of "word", which is no map');
  expect(() => mapped({ ...cosines(), inputs: ['a'], update: () => undefined }, { a: 'words' })).toThrow(
    'moves its parameters itself',
  );
  const uneven = { ...context, featureDims: { a: 4, b: 5 } };
  expect(() => mapped(cosines(), { a: 'words', b: 'words' }).initialize(uneven)).toThrow('5 and 4 dims share "words"');
});
