/** Every update rule on both implementations against its formula in f64, in slots, replayed and dense. */
import { matrix, type Matrix } from '@finetable/core';
import { describe, expect, test } from 'vitest';
import { stateColumns } from './form.ts';
import type { Kernels } from './kernels.ts';
import { SkippedSteps } from './skipped.ts';
import { upTo } from './testing/cases.ts';
import { instructionSets, native, needAddon, portable, testBoth } from './testing/implementations.ts';
import { bytesOf, makeRows, nameOf, normals, ReferenceRow, rules, scheduled, valuesOf } from './testing/updates.ts';

const steps = 200;
const rowCount = 7;

/** Which rows step `t` touches: row 0 always, rows 1 to 4 now and then, row 5 at the start and the end, row 6 never. */
const touchedAt = (t: number): number[] =>
  [...upTo(rowCount)].filter((row) => (row < 5 ? t % (row * 3 + 1) === 0 : row === 5 && (t < 4 || t === 190)));

/** Sizes from 1 down to 1e-6, by row and column: near Adam's epsilon there is the other way to replay. */
function gradientsAt(t: number, rows: readonly number[], dim: number): Matrix {
  const out = matrix(rows.length, dim);
  rows.forEach((row, i) => {
    const g = normals(1, dim, `g ${t} ${row}`).data;
    g.forEach((x, c) => (out.data[i * dim + c] = x * 10 ** -((row + c) % 7)));
  });
  return out;
}

const start = (dim: number): Matrix => normals(rowCount, dim, 'start', 0.5);

describe.each(rules.map((rule) => [nameOf(rule), rule] as const))('%s', (_, rule) => {
  for (const dim of [1, 8, 20]) {
    testBoth(`rows of ${dim} with skipped steps and a schedule are where the dense formula has them`, (kernels) => {
      const rows = makeRows(kernels, rule, start(dim));
      const rateOf = scheduled(rule);
      const skipped = new SkippedSteps(rule, rateOf);
      const reference = [...upTo(rowCount)].map(
        (row) => new ReferenceRow(start(dim).data.subarray(row * dim, (row + 1) * dim)),
      );
      for (let t = 1; t <= steps; t++) {
        const touched = touchedAt(t);
        const gradients = gradientsAt(t, touched, dim);
        const slots = Int32Array.from(touched);
        if (t > 1) kernels.replayRows({ ...rows, skipped, step: t - 1, slots });
        kernels.updateRows({ ...rows, rule: { ...rule, learningRate: rateOf(t) }, step: t, slots, gradients });
        reference.forEach((row, i) => {
          const at = touched.indexOf(i);
          const g = at < 0 ? row.w.map(() => 0) : [...gradients.data.subarray(at * dim, (at + 1) * dim)];
          row.step(rule, rateOf(t), t, g);
        });
      }
      kernels.replayRows({ ...rows, skipped, step: steps, slots: upTo(rowCount) });
      const w = reference.flatMap((row) => row.w);
      const off = valuesOf(kernels, rows.parameters).map((x, i) => Math.abs(x - w[i]!));
      expect(Math.max(...off)).toBeLessThan(1e-5);
      const { momentum, squares } = skipped.form;
      const wanted = [
        ...(momentum ? [reference.flatMap((row) => row.m)] : []),
        ...(squares === 'none' ? [] : [reference.flatMap((row) => (squares === 'row' ? row.h[0]! : row.h))]),
      ];
      rows.state.forEach((store, s) => {
        const offState = valuesOf(kernels, store).map((x, i) => Math.abs(x - wanted[s]![i]!) / (1 + wanted[s]![i]!));
        expect(Math.max(...offState)).toBeLessThan(4e-6);
      });
    });
  }

  testBoth('a dense step does to an array what a row step does to rows', (kernels) => {
    const dim = 20;
    const rows = makeRows(kernels, rule, start(dim));
    const parameters = Float32Array.from(start(dim).data.subarray(0, dim));
    const state = stateColumns(rule, dim).map((width) => new Float32Array(width));
    for (let t = 1; t <= 3; t++) {
      const gradients = gradientsAt(t, [0], dim);
      kernels.updateRows({ ...rows, rule, step: t, slots: Int32Array.of(0), gradients });
      kernels.updateDense({ rule, step: t, parameters, state, gradients: gradients.data });
    }
    const found = valuesOf(kernels, rows.parameters).slice(0, dim);
    // Squares by row are summed over a row in f32 lanes and over an array in f64.
    if (rule.type.startsWith('rowwise')) found.forEach((x, i) => expect(x).toBeCloseTo(parameters[i]!, 6));
    else expect(found).toEqual([...parameters]);
  });

  test('native agrees for every instruction set and any number of threads', (context) => {
    const addon = needAddon(context);
    const [count, dim] = [5000, 8];
    const begin = normals(count, dim, 'many', 0.5);
    const gradients = [1, 2, 3, 4].map((i) => normals(count, dim, `g ${i}`));
    const run = (kernels: Kernels) => {
      const rows = makeRows(kernels, rule, begin);
      const skipped = new SkippedSteps(rule);
      const slots = upTo(count).map((i) => (i * 7) % count);
      gradients.forEach((g, i) => {
        const t = 1 + 13 * i;
        if (t > 1) kernels.replayRows({ ...rows, skipped, step: t - 1, slots });
        kernels.updateRows({ ...rows, rule, step: t, slots, gradients: g });
      });
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
