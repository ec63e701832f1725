import { expect, test } from 'vitest';
import { HeUniformRows } from './he-uniform.ts';

test('any row at any time, and any column of it, with the same values inside the limits', () => {
  const [V, r] = [1000, 3];
  const start = new HeUniformRows(7, 'words/A', V, r);
  const all = start.of(Int32Array.from({ length: V }, (_, row) => row)).data;
  expect(new HeUniformRows(7, 'words/A', V, r).of(Int32Array.of(999, 0)).data).toEqual(
    Float32Array.of(...all.subarray(V * r - r), ...all.subarray(0, r)),
  );
  for (let column = 0; column < r; column++) {
    const values = new Float32Array(500);
    start.column(column, 123, values);
    expect(values).toEqual(Float32Array.from({ length: 500 }, (_, i) => all[(123 + i) * r + column]!));
  }
  const limit = Math.sqrt(6 / V);
  expect(Math.max(...all.map(Math.abs))).toBeLessThanOrEqual(Math.fround(limit));
  // The deviation of a uniform number is its limit / √3; 3,000 of them come within 2 %.
  const deviation = Math.sqrt(all.reduce((sum, x) => sum + x * x, 0) / all.length);
  expect(Math.abs((deviation * Math.sqrt(3)) / limit - 1)).toBeLessThan(0.02);
});
