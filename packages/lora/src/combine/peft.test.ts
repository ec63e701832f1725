import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { combineLowRank, type CombineOptions } from './combine.ts';
import type { WeightedDelta } from './lowrank.ts';

interface Fixture {
  readonly versions: { readonly peft: string };
  readonly tableRows: number;
  readonly dim: number;
  readonly rank: number;
  readonly adapters: readonly { weight: number; scale: number; rows: number[]; a: number[]; b: number[] }[];
  readonly cases: readonly { options: Record<string, unknown>; delta: number[]; a?: number[]; b?: number[] }[];
}

const fixture = JSON.parse(readFileSync(new URL('peft.fixture.json', import.meta.url), 'utf8')) as Fixture;
const { tableRows, dim, rank } = fixture;
const parts: WeightedDelta[] = fixture.adapters.map(({ weight, scale, rows, a, b }) => ({
  weight,
  delta: { rows: Int32Array.from(rows), a: Float32Array.from(a), rank, b: Float32Array.from(b), scale },
}));

/** Values are of the order of 1, and PEFT works in f32. */
const tolerance = 1e-5;

test.for(fixture.cases)(`PEFT ${fixture.versions.peft}: $options`, ({ options, delta, a, b }) => {
  const trims = options.method === 'ties' || options.method === 'magnitude_prune';
  const found = combineLowRank(parts, dim, { ...options, ...(trims && { tableRows }) } as unknown as CombineOptions);
  const left = new Float32Array(tableRows * found.rank);
  found.rows.forEach((row, k) => {
    left.set(found.a.subarray(k * found.rank, (k + 1) * found.rank), row * found.rank);
  });
  if (a && b) {
    expect(maxDifference(left, a)).toBeLessThan(tolerance);
    expect(maxDifference(found.b, b)).toBeLessThan(tolerance);
  }
  const product = new Float32Array(tableRows * dim);
  for (let row = 0; row < tableRows; row++) {
    for (let d = 0; d < dim; d++) {
      for (let c = 0; c < found.rank; c++) {
        product[row * dim + d]! += found.scale * left[row * found.rank + c]! * found.b[c * dim + d]!;
      }
    }
  }
  expect(maxDifference(product, delta)).toBeLessThan(tolerance);
});

function maxDifference(found: ArrayLike<number>, expected: readonly number[]): number {
  expect(found.length).toBe(expected.length);
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i]!)), 0);
}
