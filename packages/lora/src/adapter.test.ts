import { jagged, makePlan, matrix, RandomStream, type LookupPlan, type Matrix } from '@finetable/core';
import { createTable, type ShardedTable } from '@finetable/placement';
import { describe, expect, test } from 'vitest';
import { Adapter, createAdapter, type AdapterGradients } from './adapter.ts';
import type { RowGroup } from './group.ts';
import type { AdapterOptions } from './options.ts';
import { adagrad, adamw, rowwiseAdagrad, sgd, type OptimizerSpec } from './optimizer.ts';

const V = 12;
const D = 7;

function normals(rows: number, cols: number, stream: string, deviation = 1): Matrix {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data, deviation);
  return m;
}

const table = (): ShardedTable => createTable('words', normals(V, D, 'table'));
const plan = (): LookupPlan =>
  makePlan(jagged([[3, 5, 3], [], [11], [0, 3, 5, 11]], [[1, 0.5, -2], [], [1], [0.1, 0.2, 0.3, 0.4]]), V);

const rest = (adapter: Adapter): RowGroup => adapter.groups[0]!;
const gradientsOf = (rows: Matrix, b: Matrix | null): AdapterGradients => ({
  groups: [{ members: null, rows, b }],
  magnitude: null,
});

/** An adapter whose touched rows have values, so that gradients of B are not 0. */
function warm(options: AdapterOptions): Adapter {
  const adapter = createAdapter(table(), options);
  const rows = Int32Array.of(3, 5, 11);
  rest(adapter).reset(rows);
  adapter.table.kernels.scatterRows(
    rest(adapter).factors,
    Int32Array.of(0, 1, 2),
    normals(3, rest(adapter).rank, 'A', 0.5),
  );
  return adapter;
}

/** L = Σ c E + E² / 2, a loss with known ∂L/∂E = c + E. */
function loss(adapter: Adapter, c: Matrix, used = plan()): { value: number; gradient: Matrix } {
  const out = matrix(4, D);
  adapter.lookup(used, out, true);
  let value = 0;
  const gradient = matrix(4, D);
  out.data.forEach((e, i) => {
    value += c.data[i]! * e + (e * e) / 2;
    gradient.data[i] = c.data[i]! + e;
  });
  return { value, gradient };
}

test('a new adapter changes nothing, bit for bit', () => {
  const adapter = createAdapter(table(), { rank: 4, alpha: 8 });
  const adapted = matrix(4, D);
  const frozen = matrix(4, D);
  adapter.lookup(plan(), adapted);
  adapter.table.lookup(plan(), frozen);
  expect(adapted.data).toEqual(frozen.data);
  expect(adapter.touchedRows).toBe(0);
});

test.each<AdapterOptions>([{ rank: 3, alpha: 6 }, { kind: 'dense' }])(
  'base rows pooled apart, then the delta: the bytes of one lookup, gradients too: %o',
  async (options) => {
    const gradient = normals(4, D, 'gradient');
    const results = await Promise.all(
      ['fused', 'apart'].map(async (how) => {
        const adapter = warm(options);
        adapter.startTraining(sgd({ learningRate: 0.1 }));
        const used = plan();
        const out = matrix(4, D);
        out.data.fill(NaN);
        if (how === 'fused') adapter.lookup(used, out, true);
        else {
          await adapter.table.pool(used, out);
          adapter.addDelta(used, out, true);
        }
        const { rows, b } = adapter.gradients(used, gradient).groups[0]!;
        return [out.data, rows!.data, b?.data];
      }),
    );
    expect(results[1]).toEqual(results[0]);
  },
);

describe.each<AdapterOptions>([
  { rank: 3, alpha: 6 },
  { rank: 7, alpha: 2, rsLora: true },
  { rank: 1 },
  { kind: 'dense' },
])('gradients of %o', (options) => {
  test('agree with finite differences', () => {
    const c = normals(4, D, 'c');
    const adapter = warm(options);
    const used = plan();
    const { gradient } = loss(adapter, c, used);
    const { b } = adapter.gradients(used, gradient).groups[0]!;
    const rows = adapter.gradients(used, gradient).groups[0]!.rows!;
    expect([...used.uniqueRows]).toEqual([0, 3, 5, 11]);

    const h = 1e-2; // L is quadratic in each value, so central differences have rounding error only
    const kernels = adapter.table.kernels;
    const factors = matrix(3, rest(adapter).rank);
    const slots = Int32Array.of(0, 1, 2);
    kernels.gatherRows(rest(adapter).factors, slots, factors);
    factors.data.forEach((kept, i) => {
      const at = (value: number): number => {
        factors.data[i] = value;
        kernels.scatterRows(rest(adapter).factors, slots, factors);
        return loss(adapter, c).value;
      };
      const numeric = (at(kept + h) - at(kept - h)) / (2 * h);
      at(kept);
      // Unique row 0 is row 0, which has no slot; slots 0.. are unique rows 1..
      expect(rows.data[rest(adapter).rank + i]).toBeCloseTo(numeric, 2);
    });
    if (!rest(adapter).b) return;
    const analytic = b!.data.slice();
    rest(adapter).b!.data.forEach((kept, i) => {
      const at = (value: number): number => {
        rest(adapter).b!.data[i] = value;
        return loss(adapter, c).value;
      };
      const numeric = (at(kept + h) - at(kept - h)) / (2 * h);
      rest(adapter).b!.data[i] = kept;
      expect(analytic[i]).toBeCloseTo(numeric, 2);
    });
  });
});

describe.each<OptimizerSpec>([
  sgd({ learningRate: 0.1, weightDecay: 0.05 }),
  sgd({ learningRate: 0.01, momentum: 0.9 }),
  adagrad({ learningRate: 0.1 }),
  rowwiseAdagrad({ learningRate: 0.1 }),
  adamw({ learningRate: 0.01, weightDecay: 0.1 }),
])('$type in exact mode', (spec) => {
  test('lookups between steps do not change where training goes', () => {
    const train = (look: boolean): Float32Array => {
      const adapter = createAdapter(table(), { rank: 2, seed: 5 });
      adapter.startTraining(spec);
      for (let step = 0; step < 30; step++) {
        const used = makePlan(jagged([[step % 5, (step * 3) % V]]), V);
        const out = matrix(1, D);
        adapter.lookup(used, out, true);
        adapter.update(used, adapter.gradients(used, out));
        if (look) adapter.lookup(makePlan(jagged([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]), V), matrix(1, D));
      }
      const all = matrix(V, D);
      adapter.lookup(makePlan(jagged(Array.from({ length: V }, (_, i) => [i])), V), all);
      return all.data;
    };
    // A row brought forward in two parts rather than one is rounded twice.
    const apart = train(false);
    train(true).forEach((x, i) => expect(x).toBeCloseTo(apart[i]!, 6));
  });
});

test('lazy mode leaves rows alone that the batch does not hold', () => {
  const adapter = createAdapter(table(), { rank: 2 });
  adapter.startTraining(adamw({ learningRate: 0.1, mode: 'lazy' }));
  const first = makePlan(jagged([[4]]), V);
  const other = makePlan(jagged([[6]]), V);
  const ones = (): Matrix => matrix(1, 2, Float32Array.of(1, 1));
  adapter.update(first, gradientsOf(ones(), null));
  const before = matrix(1, 2);
  adapter.table.kernels.gatherRows(rest(adapter).factors, Int32Array.of(0), before);
  for (let i = 0; i < 5; i++) adapter.update(other, gradientsOf(ones(), null));
  adapter.settle();
  const after = matrix(1, 2);
  adapter.table.kernels.gatherRows(rest(adapter).factors, Int32Array.of(0), after);
  expect(before.data[0]).toBeCloseTo(-0.1, 6);
  expect(after.data).toEqual(before.data);
});

test('a learning rate of 0 for B keeps B and gives no gradient for it', () => {
  const adapter = createAdapter(table(), { rank: 2, learningRateB: 0 });
  const kept = rest(adapter).b!.data.slice();
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  const used = plan();
  const out = matrix(4, D);
  for (let i = 0; i < 3; i++) {
    adapter.lookup(used, out, true);
    const gradients = adapter.gradients(used, out);
    expect(gradients.groups[0]!.b).toBeNull();
    adapter.update(used, gradients);
  }
  expect(rest(adapter).b!.data).toEqual(kept);
  expect(adapter.touchedRows).toBe(4);
});

test('memory grows with touched rows, not with V', () => {
  const big = createTable('big', matrix(50_000, 8));
  const adapter = createAdapter(big, { rank: 8 });
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  const ids = Array.from({ length: 2000 }, (_, i) => i * 25);
  adapter.update(makePlan(jagged([ids]), 50_000), gradientsOf(normals(2000, 8, 'g'), null));
  const { adapterBytes, optimizerBytes } = adapter.memory;
  expect(adapterBytes).toBe(2000 * 8 * 4 + 8 * 8 * 4);
  expect(optimizerBytes).toBe(2000 * (8 * 4 * 2 + 4) + 2 * 8 * 8 * 4);
});

test.each<[AdapterOptions, RegExp]>([
  [{ rank: 8 }, /words: rank 8; allowed: an integer from 1 to 7, the smaller of the table's 12 rows and 7 dims/],
  [{ rank: 0 }, /rank 0/],
  [{ rank: 2.5 }, /rank 2.5/],
  [{ rank: Number.NaN }, /rank NaN/],
  [{ rank: 2, kind: 'Dense' } as unknown as AdapterOptions, /kind "Dense"; allowed: lora, dense/],
  [{ rank: 2, alpha: 0 }, /alpha 0; allowed: a number above 0/],
  [{ rank: 2, alpha: Number.NaN }, /alpha NaN/],
])('refuses %o', (options, message) => {
  expect(() => createAdapter(table(), options)).toThrow(message);
});

test('gradients need the lookup that kept what they read', () => {
  const adapter = createAdapter(table(), { rank: 2 });
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  const [used, other] = [plan(), plan()];
  const out = matrix(4, D);
  const message = /words: gradients of a plan that was not the last one looked up with keep = true/;
  adapter.lookup(used, out);
  expect(() => adapter.gradients(used, out)).toThrow(message);
  adapter.lookup(used, out, true);
  adapter.lookup(other, out);
  expect(adapter.gradients(used, out).groups[0]!.b).not.toBeNull();
  adapter.lookup(other, out, true);
  expect(() => adapter.gradients(used, out)).toThrow(message);
});

test('gradients of a wrong shape are no step', () => {
  const adapter = createAdapter(table(), { rank: 2 });
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  expect(() => adapter.update(plan(), gradientsOf(matrix(1, 2), null))).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
  );
  expect(adapter.step).toBe(0);
});

test('training goes on with the same settings, and is refused with others', () => {
  const adapter = createAdapter(table(), { rank: 2 });
  const optimizer = adamw({ learningRate: 0.1 });
  adapter.startTraining(optimizer);
  adapter.update(plan(), gradientsOf(normals(4, 2, 'g'), null));
  adapter.startTraining(adamw({ learningRate: 0.1, beta1: 0.9 })); // the default, said
  expect(adapter.step).toBe(1);
  for (const other of [
    adamw({ learningRate: 0.2 }),
    adamw({ learningRate: 0.1, mode: 'lazy' }),
    adamw({ learningRate: 0.1, schedule: { type: 'constant', warmupSteps: 3 } }),
    adamw({ learningRate: 0.1, stateDtype: 'bf16' }),
    sgd({ learningRate: 0.1 }),
  ]) {
    expect(() => adapter.startTraining(other)).toThrow(
      /words: the adapter is being trained with other settings \(adamw, learning rate 0\.1\)/,
    );
  }
});

test.each<[Readonly<Record<string, unknown>>, RegExp]>([
  [
    { type: 'adamx', learningRate: 0.1 },
    /optimizer\.type: found "adamx"; allowed: sgd, adagrad, rowwise-adagrad, adam, adamw, rowwise-adam/,
  ],
  [
    { type: 'adam', learningRate: 0.1, stateDtype: 'int8' },
    /optimizer\.stateDtype: found "int8"; allowed: f32, bf16, f16/,
  ],
  [{ type: 'sgd', learningRate: 0.1, momentum: 1 }, /optimizer\.momentum: found 1; allowed: 0 or more and below 1/],
  [{ type: 'sgd', learningRate: 0.1, decay: 'L2' }, /optimizer\.decay: found "L2"; allowed: l2, decoupled/],
  [
    { type: 'sgd', learningRate: 0.1, schedule: { type: 'cosine' } },
    /optimizer\.schedule\.totalSteps: found undefined; allowed: an integer of 1 or more/,
  ],
  [{ type: 'adamw', learningRate: 0.1, mode: 'Lazy' }, /optimizer\.mode: found "Lazy"; allowed: exact, lazy/],
  [{ type: 'sgd', learningRate: 0 }, /optimizer\.learningRate: found 0; allowed: more than 0/],
  [{ type: 'sgd' }, /optimizer\.learningRate: found undefined/],
])('refuses the optimiser %j', (optimizer, message) => {
  expect(() =>
    createAdapter(table(), { rank: 2, learningRate: 0.1 }).startTraining(optimizer as unknown as OptimizerSpec),
  ).toThrow(message);
});

test('settings of the adapter win over the optimiser, for A and for B', () => {
  const adapter = createAdapter(table(), { rank: 2, learningRate: 0.2, learningRateB: 0.3, weightDecay: 0.4 });
  adapter.startTraining(adamw({ learningRate: 0.1, weightDecay: 0.5 }));
  expect(rest(adapter).training).toMatchObject({
    rowRule: { learningRate: 0.2, weightDecay: 0.4 },
    bRule: { learningRate: 0.3, weightDecay: 0.4 },
  });
});
