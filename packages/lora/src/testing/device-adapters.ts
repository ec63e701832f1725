/** What adapters of a table on a device that computes must do, whichever device it is: lookups, gradients and updates as the kernels have them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  jagged,
  makePlan,
  matrix,
  planBags,
  planPlaces,
  RandomStream,
  range,
  type LookupPlan,
  type Matrix,
  type RowFormat,
} from '@finetable/core';
import { openTable, type Device, type ShardedTable } from '@finetable/placement';
import { normals, writeTable } from '@finetable/placement/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createAdapter, type Adapter } from '../adapter.ts';
import { adagrad, adamw, sgd, type OptimizerSpec } from '../optimizer.ts';
import type { AdapterOptions } from '../options.ts';
import type { DeviceSubject } from './device-subject.ts';

const V = 60;
const D = 24;
const f32: RowFormat = { dtype: 'f32', dim: D, groupDims: 0 };
/** Sums of at most a few hundred products of numbers about 1, in f32, in another order. */
const tolerance = 1e-5;

/** Bags of a step: empty ones, long ones, duplicates, and one row that is in every other bag. */
function planOf(step: number, pooling: 'sum' | 'mean', weighted: boolean): LookupPlan {
  const random = new RandomStream(step, 'bags');
  let at = 0;
  const bags = Array.from({ length: 11 }, (_, b) => {
    const length = [0, 1, 1, 2, 3, 5, 9, 17][random.below(at++, 8)]!;
    const ids = Array.from({ length }, () => random.below(at++, V));
    return b % 2 === 0 ? [7, ...ids] : ids;
  });
  const weights = weighted ? bags.map((bag) => bag.map(() => 0.25 + random.below(at++, 8) / 4)) : undefined;
  return makePlan(jagged(bags, weights), V, { pooling });
}

/** ∂L/∂E of a loss that pulls E to a target of the step's own. */
function gradientOf(e: Matrix, step: number): Matrix {
  const g = matrix(e.rows, e.cols);
  new RandomStream(step, 'target').fillNormal(g.data);
  g.data.forEach((target, i) => (g.data[i] = (e.data[i]! - target) / e.rows));
  return g;
}

function stepHere(adapter: Adapter, plan: LookupPlan, step: number, parts = false): Matrix {
  const e = matrix(planBags(plan), D);
  adapter.lookup(plan, e, true);
  adapter.update(plan, adapter.gradients(plan, parts ? e : gradientOf(e, step)));
  return e;
}

/** @param parts the gradient is E itself, which stays on the device, in two parts */
async function stepThere(adapter: Adapter, plan: LookupPlan, step: number, parts = false): Promise<Matrix> {
  const lookup = adapter.table.begin(plan);
  const made = adapter.adapt(lookup, true);
  const e = matrix(made.rows, made.cols);
  await made.read(e);
  const g = parts ? [made.rowsOf(0, 4), made.rowsOf(4, made.rows - 4)] : gradientOf(e, step);
  made.dispose();
  adapter.update(plan, await adapter.deviceGradients(lookup, g));
  if (Array.isArray(g)) for (const part of g) part.dispose();
  lookup.dispose();
  return e;
}

function apart(a: Matrix, b: Matrix): number {
  expect([a.rows, a.cols]).toEqual([b.rows, b.cols]);
  return a.data.reduce((most, x, i) => Math.max(most, Math.abs(x - b.data[i]!)), 0);
}

/** A of every row and B, of every group. */
function learnt(adapter: Adapter): Matrix[] {
  adapter.settle();
  return adapter.groups.flatMap((group) => [group.rowsOfA(range(V)), ...(group.b ? [group.b] : [])]);
}

const adapters: Readonly<Record<string, AdapterOptions>> = {
  'one group': { rank: 4, alpha: 8 },
  'frozen A': { rank: 4, init: 'keras', freeze: 'A' },
  'frozen B': { rank: 4, freeze: 'B' },
  'init keras': { rank: 3, init: 'keras' },
  dense: { kind: 'dense' },
  'several groups, rows in none': {
    rank: 2,
    rows: range(40),
    paddingRow: 3,
    groups: [
      { name: 'high', rank: 5, alpha: 1, rows: Int32Array.of(7, 9, 11) },
      { name: 'free', kind: 'dense', rows: Int32Array.of(20, 21) },
      { name: 'seldom', rank: 1, rows: Int32Array.of(59) },
    ],
  },
  dropout: { rank: 4, dropout: 0.5 },
};

/** Declares the tests. */
export function testAdaptersOnDevice(subject: DeviceSubject): void {
  const given = subject.kernels ? { kernels: subject.kernels } : {};
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'device-adapters-'));
    for (const format of [f32, { dtype: 'int8', dim: D, groupDims: D }] as const)
      await writeTable(join(folder, `${format.dtype}.safetensors`), normals(V, D), format);
  });
  afterAll(() => rm(folder, { recursive: true }));

  let closing: (() => void)[] = [];
  afterEach(() => {
    for (const close of closing.reverse()) close();
    closing = [];
  });

  async function open(dtype: string, device?: Device): Promise<ShardedTable> {
    const table = await openTable(join(folder, `${dtype}.safetensors`), {
      name: 'rows',
      placement: device ?? 'ram',
      ...given,
    });
    closing.push(() => table.close());
    return table;
  }

  function adapterOf(table: ShardedTable, options: AdapterOptions, optimizer: OptimizerSpec): Adapter {
    const adapter = createAdapter(table, { seed: 3, ...options });
    adapter.startTraining(optimizer);
    closing.push(() => adapter.close());
    return adapter;
  }

  describe.each(Object.keys(adapters))('%s', (kind) => {
    test('trained as the kernels do, with what came before', async () => {
      const device = await subject.open();
      const optimizer = adamw({ learningRate: 0.05, weightDecay: kind.includes('keras') ? 0 : 0.01 });
      const here = adapterOf(await open('f32'), adapters[kind]!, optimizer);
      const there = adapterOf(await open('f32', device), adapters[kind]!, optimizer);
      expect([here.table.computes, there.table.computes]).toEqual([false, true]);
      for (let step = 1; step <= 5; step++) {
        const plan = planOf(step, step % 2 ? 'mean' : 'sum', step > 2);
        expect(planPlaces(plan)).toBeGreaterThan(20);
        const e = stepHere(here, plan, step, step === 4);
        expect(apart(await stepThere(there, plan, step, step === 4), e)).toBeLessThan(tolerance);
      }
      const [ours, theirs] = [learnt(there), learnt(here)];
      expect(ours.length).toBe(theirs.length);
      ours.forEach((values, i) => expect(apart(values, theirs[i]!)).toBeLessThan(tolerance));
      expect(ours.some(({ data }) => data.some((x) => x !== 0))).toBe(true);
    });
  });

  test.each([
    ['sgd', sgd({ learningRate: 0.1 })],
    ['lazy sgd with momentum', sgd({ learningRate: 0.1, momentum: 0.9, mode: 'lazy' })],
    ['adagrad', adagrad({ learningRate: 0.1 })],
  ] as const)('%s, int8 rows in several arrays', async (_, optimizer) => {
    const device = await subject.open({ arrayBytes: 500 });
    const here = adapterOf(await open('int8'), { rank: 4, alpha: 10 }, optimizer);
    const there = adapterOf(await open('int8', device), { rank: 4, alpha: 10 }, optimizer);
    for (let step = 1; step <= 5; step++) {
      const plan = planOf(step, 'mean', false);
      expect(apart(await stepThere(there, plan, step), stepHere(here, plan, step))).toBeLessThan(tolerance);
    }
    learnt(there).forEach((values, i) => expect(apart(values, learnt(here)[i]!)).toBeLessThan(tolerance));
  });

  test('the same bytes every time, and nothing is left', async () => {
    const runs: Matrix[][] = [];
    for (let run = 0; run < 3; run++) {
      const device = await subject.open();
      const before = subject.held(device);
      const adapter = adapterOf(
        await open('f32', device),
        adapters['several groups, rows in none']!,
        sgd({ learningRate: 0.1 }),
      );
      const full = subject.held(device);
      expect(full).toBe(subject.heldByRows?.(V * D * 4) ?? full);
      expect(full).toBeGreaterThan(before);
      const es: Matrix[] = [];
      for (let step = 1; step <= 4; step++) es.push(await stepThere(adapter, planOf(step, 'mean', true), step));
      expect(subject.held(device)).toBe(full);
      runs.push([...es, ...learnt(adapter)]);
      for (const close of closing.reverse()) close();
      closing = [];
      expect(subject.held(device)).toBe(before);
    }
    expect(runs[1]).toEqual(runs[0]);
    expect(runs[2]).toEqual(runs[0]);
  });

  test('batches without ids, and bags without', async () => {
    const device = await subject.open();
    const here = adapterOf(await open('f32'), { rank: 4 }, sgd({ learningRate: 0.1 }));
    const there = adapterOf(await open('f32', device), { rank: 4 }, sgd({ learningRate: 0.1 }));
    for (const bags of [[[], []], [[], [1, 2]], [], [[5]]]) {
      const plan = makePlan(jagged(bags), V);
      expect(apart(await stepThere(there, plan, 1), stepHere(here, plan, 1))).toBeLessThan(tolerance);
    }
    learnt(there).forEach((values, i) => expect(apart(values, learnt(here)[i]!)).toBeLessThan(tolerance));
  });

  test('in any order, several at once, and after their end', async () => {
    const device = await subject.open();
    const table = await open('f32', device);
    const adapter = adapterOf(table, { rank: 4 }, sgd({ learningRate: 0.1 }));
    const [one, two] = [planOf(1, 'sum', false), planOf(2, 'sum', false)];
    const [first, second] = [table.begin(one), table.begin(two)];
    const e = adapter.adapt(first, true);
    const frozen = second.adapt([]);
    second.dispose();
    const out = matrix(frozen.rows, D);
    await frozen.read(out);
    const expected = matrix(frozen.rows, D);
    (await open('f32')).lookup(two, expected);
    expect(apart(out, expected)).toBeLessThan(tolerance);
    expect(() => second.adapt([])).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(() => adapter.gradients(one, matrix(planBags(one), D))).toThrow(/on a device; use deviceGradients/);
    await expect(adapter.deviceGradients(second, matrix(1, D))).rejects.toThrow(/not the last one looked up/);
    await expect(adapter.deviceGradients(first, matrix(1, D))).rejects.toMatchObject({ code: 'MISMATCH' });
    const foreign = {
      rows: e.rows,
      cols: D,
      read: () => Promise.resolve(),
      rowsOf: () => foreign,
      dispose: () => undefined,
    };
    await expect(adapter.deviceGradients(first, [foreign])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    for (const made of [e, frozen, first]) made.dispose();
    table.close();
    expect(() => table.begin(one)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  test('what a device cannot compute is fetched, or refused', async () => {
    const device = await subject.open();
    const path = join(folder, 'f32.safetensors');
    const plan = planOf(1, 'sum', false);
    for (const options of [
      { placement: await subject.open({ compute: false }) },
      { placement: [{ home: device, rows: 30 }, { home: 'ram' }] as const },
      { placement: [{ home: device, columns: 8 }, { home: device }] as const },
      { placement: device, cache: { bytes: 1000 } },
    ]) {
      const table = await openTable(path, { name: 'rows', ...given, ...options });
      expect(table.computes).toBe(false);
      expect(() => table.begin(plan)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
      const [out, expected] = [matrix(planBags(plan), D), matrix(planBags(plan), D)];
      await table.pool(plan, out);
      (await open('f32')).lookup(plan, expected);
      expect(out).toEqual(expected);
      table.close();
    }
    const table = await open('f32', device);
    for (const options of [
      { rank: 2, dora: true },
      { rank: 2, maxNorm: 1 },
    ])
      expect(() => createAdapter(table, options)).toThrow(
        expect.objectContaining({
          code: 'UNSUPPORTED',
          message: expect.stringMatching(
            /^rows: (dora|maxNorm) reads whole base rows .* allowed: placement "ram" or "mapped"/,
          ),
        }),
      );
  });
}
