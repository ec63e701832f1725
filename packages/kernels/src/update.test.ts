/** Every update rule on both implementations against its formula in f64, in slots, replayed and dense. */
import { matrix, RandomStream, type Matrix } from '@finetable/core';
import { describe, expect, test } from 'vitest';
import type { Kernels, RowStore, UpdateRule } from './kernels.ts';
import { upTo } from './testing/cases.ts';
import { instructionSets, native, needAddon, portable, testBoth } from './testing/implementations.ts';

const rules: readonly UpdateRule[] = [
  { type: 'sgd', learningRate: 0.1, weightDecay: 0 },
  { type: 'sgd', learningRate: 0.1, weightDecay: 0.02 },
  { type: 'adagrad', learningRate: 0.1, epsilon: 1e-8 },
  { type: 'rowwise-adagrad', learningRate: 0.1, epsilon: 1e-8 },
  { type: 'adamw', learningRate: 0.02, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 },
  { type: 'adamw', learningRate: 0.02, beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weightDecay: 0.1 },
];
const nameOf = (rule: UpdateRule) =>
  `${rule.type}${'weightDecay' in rule && rule.weightDecay > 0 ? ' with weight decay' : ''}`;

const stateWidths = (rule: UpdateRule, dim: number): number[] =>
  rule.type === 'sgd' ? [] : rule.type === 'adagrad' ? [dim] : rule.type === 'rowwise-adagrad' ? [1] : [dim, dim];

interface Rows {
  parameters: RowStore;
  state: RowStore[];
  lastSteps: RowStore;
}

function makeRows(kernels: Kernels, rule: UpdateRule, start: Matrix): Rows {
  const parameters = kernels.createRows(start.rows, start.cols, 'f32');
  kernels.scatterRows(parameters, upTo(start.rows), start);
  const state = stateWidths(rule, start.cols).map((width) => kernels.createRows(start.rows, width, 'f32'));
  return { parameters, state, lastSteps: kernels.createRows(start.rows, 1, 'i32') };
}

/** All stored bytes, parameters first. */
function bytesOf(kernels: Kernels, { parameters, state }: Rows): Buffer {
  return Buffer.concat(
    [parameters, ...state].map((store) => {
      const out = new Uint8Array(store.sizeBytes);
      kernels.readBytes(store, 0, out);
      return out;
    }),
  );
}

const valuesOf = (kernels: Kernels, store: RowStore): number[] => {
  const out = matrix(store.rows, store.dim);
  kernels.gatherRows(store, upTo(store.rows), out);
  return [...out.data];
};

/** The formulas of `UpdateRule` on one row, in f64. */
function referenceStep(rule: UpdateRule, step: number, w: number[], state: number[][], g: readonly number[]): void {
  const [first, second] = state as [number[], number[]];
  const lr = rule.learningRate;
  g.forEach((gradient, i) => {
    if (rule.type === 'sgd') w[i]! -= lr * (gradient + rule.weightDecay * w[i]!);
    if (rule.type === 'adagrad') {
      first[i]! += gradient ** 2;
      w[i]! -= (lr * gradient) / (Math.sqrt(first[i]!) + rule.epsilon);
    }
    if (rule.type === 'adamw') {
      first[i] = rule.beta1 * first[i]! + (1 - rule.beta1) * gradient;
      second[i] = rule.beta2 * second[i]! + (1 - rule.beta2) * gradient ** 2;
      const corrected = first[i]! / (1 - rule.beta1 ** step);
      const root = Math.sqrt(second[i]! / (1 - rule.beta2 ** step));
      w[i] = w[i]! * (1 - lr * rule.weightDecay) - (lr * corrected) / (root + rule.epsilon);
    }
  });
  if (rule.type === 'rowwise-adagrad') {
    first[0]! += g.reduce((sum, x) => sum + x ** 2, 0) / g.length;
    g.forEach((gradient, i) => (w[i]! -= (lr * gradient) / (Math.sqrt(first[0]!) + rule.epsilon)));
  }
}

const steps = 25;
const rowCount = 6;

/** Which rows step `t` touches: row 0 always, row 5 never, the others now and then. */
const touchedAt = (t: number): number[] =>
  upTo(rowCount).reduce<number[]>((all, row) => (row < 5 && t % (row * 3 + 1) === 0 ? [...all, row] : all), []);

function gradientsAt(t: number, rows: readonly number[], dim: number): Matrix {
  const out = matrix(rows.length, dim);
  rows.forEach((row, i) => new RandomStream(9, `g ${t} ${row}`).fillNormal(out.data.subarray(i * dim, (i + 1) * dim)));
  return out;
}

function start(dim: number): Matrix {
  const out = matrix(rowCount, dim);
  new RandomStream(9, 'start').fillNormal(out.data, 0.5);
  return out;
}

describe.each(rules.map((rule) => [nameOf(rule), rule] as const))('%s', (_, rule) => {
  for (const dim of [1, 7, 8, 20]) {
    testBoth(`rows of ${dim} with skipped steps are where the dense formula has them`, (kernels) => {
      const rows = makeRows(kernels, rule, start(dim));
      const w = upTo(rowCount).reduce<number[][]>(
        (all, row) => [...all, [...start(dim).data.subarray(row * dim, (row + 1) * dim)]],
        [],
      );
      const state = w.map(() => stateWidths(rule, dim).map((width) => new Array<number>(width).fill(0)));
      for (let t = 1; t <= steps; t++) {
        const touched = touchedAt(t);
        const gradients = gradientsAt(t, touched, dim);
        const slots = Int32Array.from(touched);
        if (t > 1) kernels.replayRows({ ...rows, rule, step: t - 1, slots });
        kernels.updateRows({ ...rows, rule, step: t, slots, gradients });
        for (let row = 0; row < rowCount; row++) {
          const at = touched.indexOf(row);
          const g = at < 0 ? new Array<number>(dim).fill(0) : [...gradients.data.subarray(at * dim, (at + 1) * dim)];
          referenceStep(rule, t, w[row]!, state[row]!, g);
        }
      }
      kernels.replayRows({ ...rows, rule, step: steps, slots: upTo(rowCount) });
      // Each of 25 steps rounds w (below 4) and an update (below 0.1 in ratio to its state) a few times: 25 · 4 · 2^-24 · 4.
      valuesOf(kernels, rows.parameters).forEach((x, i) => {
        expect(Math.abs(x - w[Math.floor(i / dim)]![i % dim]!)).toBeLessThan(2.5e-5);
      });
      rows.state.forEach((store, s) => {
        const width = store.dim;
        valuesOf(kernels, store).forEach((x, i) => {
          const wanted = state[Math.floor(i / width)]![s]![i % width]!;
          expect(Math.abs(x - wanted)).toBeLessThan(25 * 4 * 2 ** -24 * Math.max(1, wanted));
        });
      });
    });
  }

  testBoth('replay gives the bytes of steps with a zero gradient, in one call or several', (kernels) => {
    const dim = 11;
    // 2,000 steps: past the point where replay may stop early, so that its shortcut is compared too.
    const [last, middle] = [2000, 700];
    const make = () => {
      const rows = makeRows(kernels, rule, start(dim));
      kernels.updateRows({
        ...rows,
        rule,
        step: 1,
        slots: upTo(rowCount),
        gradients: gradientsAt(1, [...upTo(rowCount)], dim),
      });
      return rows;
    };
    const [dense, once, twice] = [make(), make(), make()];
    const zeros = matrix(rowCount, dim);
    for (let t = 2; t <= last; t++)
      kernels.updateRows({ ...dense, rule, step: t, slots: upTo(rowCount), gradients: zeros });
    kernels.replayRows({ ...once, rule, step: last, slots: upTo(rowCount) });
    kernels.replayRows({ ...twice, rule, step: middle, slots: Int32Array.of(0, -1, 3) });
    kernels.replayRows({ ...twice, rule, step: last, slots: upTo(rowCount) });
    expect(bytesOf(kernels, once).equals(bytesOf(kernels, dense))).toBe(true);
    expect(bytesOf(kernels, twice).equals(bytesOf(kernels, dense))).toBe(true);
    const counts = new Int32Array(rowCount);
    kernels.readBytes(twice.lastSteps, 0, new Uint8Array(counts.buffer));
    expect([...counts]).toEqual(new Array<number>(rowCount).fill(last));
  });

  testBoth('a dense step does to an array what a row step does to rows', (kernels) => {
    const dim = 20;
    const rows = makeRows(kernels, rule, start(dim));
    const parameters = Float32Array.from(start(dim).data.subarray(0, dim));
    const state = stateWidths(rule, dim).map((width) => new Float32Array(width));
    for (let t = 1; t <= 3; t++) {
      const gradients = gradientsAt(t, [0], dim);
      kernels.updateRows({ ...rows, rule, step: t, slots: Int32Array.of(0), gradients });
      kernels.updateDense({ rule, step: t, parameters, state, gradients: gradients.data });
    }
    const found = valuesOf(kernels, rows.parameters).slice(0, dim);
    // Row-wise Adagrad sums g² over a row in f32 lanes and over an array in f64.
    if (rule.type === 'rowwise-adagrad') found.forEach((x, i) => expect(x).toBeCloseTo(parameters[i]!, 6));
    else expect(found).toEqual([...parameters]);
  });

  test('native agrees for every instruction set and any number of threads', (context) => {
    const addon = needAddon(context);
    const [count, dim] = [5000, 8];
    const begin = matrix(count, dim);
    new RandomStream(4, 'many').fillNormal(begin.data, 0.5);
    const run = (kernels: Kernels) => {
      const rows = makeRows(kernels, rule, begin);
      const gradients = matrix(count, dim);
      const slots = upTo(count).map((i) => (i * 7) % count);
      for (let t = 1; t <= 40; t += 13) {
        new RandomStream(4, `g ${t}`).fillNormal(gradients.data);
        kernels.replayRows({ ...rows, rule, step: Math.max(1, t - 1), slots });
        kernels.updateRows({ ...rows, rule, step: t, slots, gradients });
      }
      return { bytes: bytesOf(kernels, rows), values: valuesOf(kernels, rows.parameters) };
    };
    const expected = run(portable).values;
    for (const set of instructionSets(addon)) {
      const one = run(native(addon, 1, set));
      // 40 steps of a few roundings each, of values below 8; where v is tiny against g², w moves by lr whatever its error.
      expect(one.values.findIndex((x, i) => !(Math.abs(x - expected[i]!) <= 5e-5))).toBe(-1);
      for (const threads of [2, 3, 8]) expect(run(native(addon, threads, set)).bytes.equals(one.bytes)).toBe(true);
    }
  });
});

testBoth('replay of Adam far past the end of its corrections', (kernels) => {
  const rule: UpdateRule = {
    type: 'adamw',
    learningRate: 0.02,
    beta1: 0.5,
    beta2: 0.9,
    epsilon: 1e-8,
    weightDecay: 0.1,
  };
  const rows = makeRows(kernels, rule, matrix(1, 1, Float32Array.of(1)));
  kernels.replayRows({ ...rows, rule, step: 3000, slots: Int32Array.of(0) });
  // No moments: w shrinks by 0.998 a step. 3,000 roundings of 2^-24 each.
  expect(valuesOf(kernels, rows.parameters)[0]! / 0.998 ** 3000).toBeCloseTo(1, 3);
});
