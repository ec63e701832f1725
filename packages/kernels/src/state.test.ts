/** 16-bit optimiser state: rounding at random is unbiased, the same in both implementations, and the same for any threads. */
import { bf16ToF32, f16ToF32, matrix } from '@finetable/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Kernels, UpdateRule } from './kernels.ts';
import { roundToBf16, roundToF16 } from './portable/state.ts';
import { SkippedSteps } from './skipped.ts';
import { upTo } from './testing/cases.ts';
import { instructionSets, native, needAddon, portable, testBoth } from './testing/implementations.ts';
import { bytesOf, makeRows, normals, valuesOf } from './testing/updates.ts';

const dtypes = [
  ['bf16', roundToBf16, bf16ToF32],
  ['f16', roundToF16, f16ToF32],
] as const;

describe.each(dtypes)('%s', (dtype, round, decode) => {
  test('a value that it holds stays itself, whatever is drawn', () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = decode(bits);
      if (Number.isNaN(value)) expect(decode(round(value, 0xffff))).toBeNaN();
      else for (const random of [0, 0x8000, 0xffff]) expect(round(value, random)).toBe(bits);
    }
  });

  test('others become one of their neighbours, and the mean over all draws is the value', () => {
    const value = fc
      .tuple(fc.double({ min: -1, max: 1, noNaN: true }), fc.integer({ min: -12, max: 14 }))
      .map(([x, exponent]) => Math.fround(x * 2 ** exponent));
    fc.assert(
      fc.property(value, (x) => {
        let sum = 0;
        const found = new Set<number>();
        for (let random = 0; random < 65536; random++) {
          const rounded = decode(round(x, random));
          sum += rounded;
          found.add(rounded);
        }
        const [low, high] = [Math.min(...found), Math.max(...found)];
        expect(found.size).toBeLessThanOrEqual(2);
        expect(low <= x && x <= high).toBe(true);
        // A step is high - low; what 16 random bits cannot tell is 2^-16 of it.
        expect(Math.abs(sum / 65536 - x)).toBeLessThanOrEqual((high - low) / 65536);
      }),
      { numRuns: 30 },
    );
  });

  test('what is finite stays finite', () => {
    const most = dtype === 'bf16' ? bf16ToF32(0x7f7f) : 65504;
    expect(decode(round(3.4028234e38, 0xffff))).toBe(most);
    expect(decode(round(-3.4028234e38, 0xffff))).toBe(-most);
    expect(decode(round(Infinity, 0xffff))).toBe(Infinity);
    expect(decode(round(-Infinity, 7))).toBe(-Infinity);
    expect(decode(round(NaN, 0))).toBeNaN();
  });

  // Nearest would lose every one of these steps: each adds 2^-10 of the value, and a bfloat16 has 8 bits, a half 11.
  testBoth('many small steps add up, which rounding to nearest would lose', (kernels) => {
    const rule: UpdateRule = { type: 'adagrad', learningRate: 0, epsilon: 1e-8, weightDecay: 0, decay: 'l2' };
    const [count, dim] = [500, 16];
    const rows = makeRows(kernels, rule, matrix(count, dim), dtype);
    const slots = upTo(count);
    const [one, small] = [matrix(count, dim), matrix(count, dim)];
    one.data.fill(1);
    small.data.fill(2 ** -6.5);
    kernels.updateRows({ ...rows, rule, step: 1, slots, gradients: one });
    for (let t = 2; t <= 33; t++)
      kernels.updateRows({ ...rows, rule, step: t, slots, gradients: small, roundingSeed: 5 });
    const h = valuesOf(kernels, rows.state[0]!);
    // 1 + 32 · 2^-13; the deviation of one sum is at most √32 · 2^-8, that of the mean of 8,000 below 2.5e-4.
    const mean = h.reduce((sum, x) => sum + x, 0) / h.length;
    expect(Math.abs(mean - (1 + 32 * 2 ** -13))).toBeLessThan(1e-3);
    expect(new Set(h).size).toBeGreaterThan(1);
  });

  testBoth('other seeds, steps and slots draw other numbers', (kernels) => {
    const rule: UpdateRule = { type: 'adagrad', learningRate: 0, epsilon: 1e-8, weightDecay: 0, decay: 'l2' };
    const dim = 64;
    const drawn = (step: number, slot: number, roundingSeed?: number): string => {
      const rows = makeRows(kernels, rule, matrix(3, dim), dtype);
      const gradients = matrix(1, dim);
      gradients.data.fill(1.0009);
      kernels.updateRows({
        ...rows,
        rule,
        step,
        slots: Int32Array.of(slot),
        gradients,
        ...(roundingSeed === undefined ? {} : { roundingSeed }),
      });
      return valuesOf(kernels, rows.state[0]!)
        .slice(slot * dim, (slot + 1) * dim)
        .join();
    };
    expect(drawn(1, 0)).toBe(drawn(1, 0, 0));
    expect(new Set([drawn(1, 0), drawn(2, 0), drawn(1, 1), drawn(1, 0, 1), drawn(1, 0, 2 ** 40)]).size).toBe(5);
  });

  // The first step computes m and v by products alone, so both implementations round the same f32.
  test('both implementations round the same f32 the same way, and any number of threads', (context) => {
    const addon = needAddon(context);
    const [count, dim] = [3000, 21];
    const rule: UpdateRule = {
      type: 'adam',
      learningRate: 0.01,
      beta1: 0.5,
      beta2: 0.75,
      epsilon: 1e-8,
      weightDecay: 0,
      decay: 'l2',
    };
    const gradients = normals(count, dim, 'g', 0.001);
    gradients.data.set([0, -0, Infinity, -Infinity, NaN, 1e-30, 3e38, 1e-5]);
    // Few bits, so that their squares are exact and do not depend on how a product is rounded.
    gradients.data.forEach((x, i) => (gradients.data[i] = Number.isFinite(x) ? bf16ToF32(roundToBf16(x, 0)) : x));
    const once = (kernels: Kernels) => {
      const rows = makeRows(kernels, rule, matrix(count, dim), dtype);
      kernels.updateRows({ ...rows, rule, step: 1, slots: upTo(count), gradients, roundingSeed: 2 ** 40 + 3 });
      return { rows, state: rows.state.map((store) => valuesOf(kernels, store)) };
    };
    const expected = once(portable).state;
    for (const set of instructionSets(addon)) {
      expect(once(native(addon, 1, set)).state).toEqual(expected);
      const later = (kernels: Kernels) => {
        const { rows } = once(kernels);
        kernels.replayRows({ ...rows, skipped: new SkippedSteps(rule), step: 20, slots: upTo(count) });
        return bytesOf(kernels, rows);
      };
      const one = later(native(addon, 1, set));
      for (const threads of [2, 3, 8]) expect(later(native(addon, threads, set)).equals(one)).toBe(true);
    }
  });
});

testBoth('a second moment in f16 is never rounded to 0, which would make steps of m / epsilon', (kernels) => {
  const rule: UpdateRule = {
    type: 'adam',
    learningRate: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0,
    decay: 'l2',
  };
  const rows = makeRows(kernels, rule, matrix(50, 8), 'f16');
  const gradients = matrix(50, 8);
  gradients.data.fill(1e-5);
  for (let t = 1; t <= 20; t++) kernels.updateRows({ ...rows, rule, step: t, slots: upTo(50), gradients });
  expect(Math.max(...valuesOf(kernels, rows.parameters).map(Math.abs))).toBeLessThan(20 * 0.01);
  expect(Math.min(...valuesOf(kernels, rows.state[1]!))).toBeGreaterThan(0);
});
