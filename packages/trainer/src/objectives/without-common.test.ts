import { matrix, RandomStream, type Matrix } from '@finetable/core';
import { openLoader, type DataSpec, type Loader } from '@finetable/data';
import { loadKernels } from '@finetable/kernels';
import { createTable } from '@finetable/placement';
import { expect, onTestFinished, test } from 'vitest';
import { checkGradients, exampleBatch } from '../check-gradients.ts';
import { mapped } from './mapped.ts';
import { similarity } from './similarity.ts';
import { commonDirections, withoutCommon } from './without-common.ts';

const [size, V, D] = [6, 50, 5];
const kernels = loadKernels();
const normals = (stream: string, rows = size): Matrix => {
  const m = matrix(rows, D);
  new RandomStream(3, stream).fillNormal(m.data);
  return m;
};
const targets = { score: Float32Array.of(4.5, 0, 2, 2, 5, 1.25) };
const cosines = () => similarity({ first: 'a', second: 'b', label: 'score', range: [0, 5] });

/** Rows v and v + 1 for every v, as two features. */
async function pairs(): Promise<Loader> {
  const rows = Array.from({ length: V - 1 }, (_, v) => ({ a: [v, v + 1], b: [v + 1] }));
  const feature = (column: string) => ({ table: 'items', column });
  const data: DataSpec = {
    source: { rows },
    features: { a: feature('a'), b: feature('b') },
    labels: {},
    tables: { items: { rows: V } },
  };
  const loader = await openLoader(data, { batchSize: 8, workers: 0 });
  onTestFinished(() => loader.close());
  return loader;
}

test.each([1, 2])('gradients go through the projection, %i directions, and through a map after it', async (count) => {
  const table = createTable('items', normals('rows', V), { kernels });
  const common = await commonDirections(await pairs(), { items: table }, { a: count, b: count });
  const inputs = { a: normals('a'), b: normals('b') };
  for (const objective of [cosines(), mapped(cosines(), { a: 'items', b: 'items' })]) {
    const checked = await checkGradients(withoutCommon(objective, common), inputs, exampleBatch(size, { targets }));
    for (const { error, name } of checked) expect(error, name).toBeLessThan(2e-3);
  }
  table.close();
});

test('the directions are those of all features of a table, and nothing along them is left', async () => {
  // A strong direction (1, 1, 0, 0, 0) and a weaker one (0, 0, 1, 0, 0) beside noise.
  const rows = normals('rows', V);
  const share = normals('share', V).data;
  for (let v = 0; v < V; v++) {
    for (let d = 0; d < D; d++) rows.data[v * D + d]! *= 0.01;
    for (const d of [0, 1]) rows.data[v * D + d]! += 5 + share[v]!;
    rows.data[v * D + 2]! += v % 2 ? 1 : -1;
  }
  const table = createTable('items', rows, { kernels });
  const found = await commonDirections(await pairs(), { items: table }, { a: 2, b: 1 });
  table.close();
  const [first, second] = [found.a!.data.subarray(0, D), found.a!.data.subarray(D)];
  expect(found.b!.data).toEqual(first);
  const expected = [
    [Math.SQRT1_2, Math.SQRT1_2, 0, 0, 0],
    [0, 0, 1, 0, 0],
  ];
  first.forEach((x, d) => expect(x).toBeCloseTo(expected[0]![d]!, 1));
  second.forEach((x, d) => expect(x).toBeCloseTo(expected[1]![d]!, 1));
  const dots = [first, second].map((x) => [first, second].map((y) => x.reduce((sum, value, d) => sum + value * y[d]!, 0))); // prettier-ignore
  [1, 0, 0, 1].forEach((value, i) => expect(dots.flat()[i]).toBeCloseTo(value, 6));

  const seen: Matrix[] = [];
  const spy = { ...cosines(), inputs: ['a', 'b'], labels: [], initialize: () => [], metrics: () => ({}), train: () => ({ loss: 0 }), evaluate: ({ a }: { a: Matrix }) => (seen.push(a), { sums: { loss: 0 } }) }; // prettier-ignore
  const objective = withoutCommon(spy as never, found);
  objective.initialize({ kernels, featureDims: { a: D, b: D }, numberDims: {}, classes: {} });
  await objective.evaluate({ a: normals('a'), b: normals('b') }, exampleBatch(size));
  const left = seen[0]!;
  for (let i = 0; i < size; i++) {
    const e = left.data.subarray(i * D, (i + 1) * D);
    for (const direction of [first, second])
      expect(Math.abs(e.reduce((sum, x, d) => sum + x * direction[d]!, 0))).toBeLessThan(1e-5);
    expect(Math.hypot(...e)).toBeGreaterThan(0);
  }
});

test('what cannot be is refused', async () => {
  const table = createTable('items', normals('rows', V), { kernels });
  await expect(commonDirections(await pairs(), { items: table }, { a: D })).rejects.toThrow(
    'removeCommon: found 5 for feature "a"; allowed: 1 to 4, below the table\'s dims',
  );
  table.close();
  const other = withoutCommon(cosines(), { a: matrix(1, 4) });
  expect(() => other.initialize({ kernels, featureDims: { a: D, b: D }, numberDims: {}, classes: {} })).toThrow(
    'directions of 4 dims for feature "a" of 5',
  );
});
