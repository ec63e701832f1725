/** Skipped steps made at once against the same steps made one by one, and the numbers they come from. */
import { matrix } from '@finetable/core';
import { describe, expect, test } from 'vitest';
import type { Kernels, UpdateRule } from './kernels.ts';
import { SkippedSteps } from './skipped.ts';
import { upTo } from './testing/cases.ts';
import { testBoth } from './testing/implementations.ts';
import { makeRows, nameOf, normals, ReferenceRow, rules, scheduled, valuesOf } from './testing/updates.ts';

const adam = (changes: object = {}): UpdateRule => ({
  type: 'adam',
  learningRate: 0.01,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.1,
  decay: 'decoupled',
  ...changes,
});

const dim = 11;
const rowCount = 4;

/** Rows of very different gradients (1 to 1e-8 and 0), touched in the steps of `touched` and then skipped up to `last`. */
function compare(kernels: Kernels, rule: UpdateRule, touched: readonly number[], last: number): number {
  const start = normals(rowCount, dim, 'start', 0.5);
  const rateOf = scheduled(rule);
  const slots = upTo(rowCount);
  const rows = makeRows(kernels, rule, start);
  const skipped = new SkippedSteps(rule, rateOf);
  const reference = [...slots].map((row) => new ReferenceRow(start.data.subarray(row * dim, (row + 1) * dim)));
  const none = start.data.subarray(0, dim).map(() => 0);
  for (let t = 1; t <= last; t++) {
    const touches = touched.includes(t);
    const gradients = normals(rowCount, dim, `g ${t}`);
    gradients.data.forEach((x, i) => (gradients.data[i] = i % 10 === 9 ? 0 : x * 10 ** -(i % 9)));
    if (touches) {
      if (t > 1) kernels.replayRows({ ...rows, skipped, step: t - 1, slots });
      kernels.updateRows({ ...rows, rule: { ...rule, learningRate: rateOf(t) }, step: t, slots, gradients });
    }
    reference.forEach((row, r) =>
      row.step(rule, rateOf(t), t, [...(touches ? gradients.data.subarray(r * dim, (r + 1) * dim) : none)]),
    );
  }
  kernels.replayRows({ ...rows, skipped, step: last, slots });
  const w = reference.flatMap((row) => row.w);
  return Math.max(...valuesOf(kernels, rows.parameters).map((x, i) => Math.abs(x - w[i]!)));
}

describe.each(rules.map((rule) => [nameOf(rule), rule] as const))('%s', (_, rule) => {
  testBoth('skipped steps are where the dense formula has them, few and many, early and late', (kernels) => {
    for (const [touched, last] of [
      [[1], 2],
      [[1, 2], 40],
      [[1, 30, 31, 90], 91],
      [[1, 100], 230],
      [[3, 60, 61, 62], 900],
    ] as const)
      expect(compare(kernels, rule, touched, last)).toBeLessThan(2e-6);
  });
});

// Momentum that outlives squares, squares that fade fast, momentum that hardly fades: where sums do not serve, or only for some.
describe.each([
  { beta1: 0.9, beta2: 0.99 },
  { beta1: 0.9, beta2: 0.95 },
  { beta1: 0.95, beta2: 0.9 },
  { beta1: 0.99, beta2: 0.9999 },
  { beta1: 0, beta2: 0.999 },
  { epsilon: 1e-3 },
  { weightDecay: 150 },
])('adam with %o', (changes) => {
  testBoth('skipped steps are where the dense formula has them', (kernels) => {
    expect(compare(kernels, adam(changes), [1, 2, 50], 60)).toBeLessThan(4e-6);
    expect(compare(kernels, adam(changes), [1, 100], 400)).toBeLessThan(4e-6);
  });
});

test.each([
  [adam(), true],
  [adam({ beta2: 0.95 }), false],
  [adam({ decay: 'l2' }), false],
])('%o has sums: %s', (rule, has) => {
  expect(new SkippedSteps(rule).advance(10).sums !== null).toBe(has);
});

test.each(rules.map((rule) => [nameOf(rule), rule] as const))(
  '%s: numbers do not depend on the way to a step',
  (_, rule) => {
    const rateOf = scheduled(rule);
    const once = new SkippedSteps(rule, rateOf).advance(3000);
    const often = new SkippedSteps(rule, rateOf);
    for (const step of [1, 2, 3, 50, 800, 801, 400, 1500, 2999, 3000]) often.advance(step);
    expect(often.numbers.subarray(0, 9003)).toEqual(once.numbers.subarray(0, 9003));
    expect(often.logKept.subarray(0, 3001)).toEqual(once.logKept.subarray(0, 3001));
    expect(often.sums?.subarray(0, 15_000)).toEqual(once.sums?.subarray(0, 15_000));
  },
);

testBoth('rows that skipped nothing, or have no slot, are left alone', (kernels) => {
  const rule = adam();
  const rows = makeRows(kernels, rule, normals(3, dim, 'start'));
  const skipped = new SkippedSteps(rule);
  kernels.updateRows({ ...rows, rule, step: 5, slots: Int32Array.of(1), gradients: normals(1, dim, 'g') });
  const before = valuesOf(kernels, rows.parameters);
  kernels.replayRows({ ...rows, skipped, step: 5, slots: Int32Array.of(-1, 1) });
  expect(valuesOf(kernels, rows.parameters)).toEqual(before);
  kernels.replayRows({ ...rows, skipped, step: 9, slots: Int32Array.of(-1, 1) });
  const after = valuesOf(kernels, rows.parameters);
  expect(after.slice(0, dim)).toEqual(before.slice(0, dim));
  expect(after.slice(dim, 2 * dim)).not.toEqual(before.slice(dim, 2 * dim));
  const counts = new Int32Array(3);
  kernels.readBytes(rows.lastSteps, 0, new Uint8Array(counts.buffer));
  expect([...counts]).toEqual([0, 9, 0]);
});

testBoth('weight decay over 100,000 steps', (kernels) => {
  const rule = adam({ learningRate: 1e-3 });
  const rows = makeRows(kernels, rule, matrix(1, 1, Float32Array.of(1)));
  kernels.replayRows({ ...rows, skipped: new SkippedSteps(rule), step: 100_000, slots: Int32Array.of(0) });
  expect(valuesOf(kernels, rows.parameters)[0]! / (1 - 1e-4) ** 100_000).toBeCloseTo(1, 6);
});

test('refuses learning rates that are none', () => {
  expect(() => new SkippedSteps(adam(), (step) => (step === 3 ? NaN : 1)).advance(5)).toThrow(
    /the learning rate of step 3 must be a finite number/,
  );
});
