import fc from 'fast-check';
import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import { RandomStream } from '@finetable/core';
import { describe, expect, test } from 'vitest';
import { combineLowRank, type CombineOptions } from './combine.ts';
import type { LowRank, WeightedDelta } from './lowrank.ts';

/** A delta with normal factors at `rows`. */
function delta(rows: readonly number[], rank: number, dim: number, seed: number, scale = 1): LowRank {
  const a = new Float32Array(rows.length * rank);
  const b = new Float32Array(rank * dim);
  new RandomStream(seed, 'a').fillNormal(a);
  new RandomStream(seed, 'b').fillNormal(b);
  return { rows: Int32Array.from(rows), a, rank, b, scale };
}

/** Σ weight · scale · a b as `[V, D]` in f64. */
function dense(parts: readonly WeightedDelta[], tableRows: number, dim: number): Float64Array {
  const out = new Float64Array(tableRows * dim);
  for (const { delta, weight } of parts) {
    delta.rows.forEach((row, k) => {
      for (let c = 0; c < delta.rank; c++) {
        const value = weight * delta.scale * delta.a[k * delta.rank + c]!;
        for (let d = 0; d < dim; d++) out[row * dim + d]! += value * delta.b[c * dim + d]!;
      }
    });
  }
  return out;
}

/** The same delta with all numbers positive. */
const magnitudes = ({ delta, weight }: WeightedDelta): WeightedDelta => ({
  weight: Math.abs(weight),
  delta: { ...delta, a: delta.a.map(Math.abs), b: delta.b.map(Math.abs), scale: Math.abs(delta.scale) },
});

const whole = (delta: LowRank): WeightedDelta[] => [{ delta, weight: 1 }];
const difference = (x: Float64Array, y: Float64Array): Float64Array => x.map((value, i) => value - y[i]!);
const largest = (x: Float64Array): number => x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const norm = (x: ArrayLike<number>): number => Math.hypot(...Array.from(x));

const tableRows = 24;

/** One to four deltas of a table of 24 rows: any rows (none, too), ranks 1 to 4, weights and scales of both signs, zeros. */
const anyParts = fc.integer({ min: 1, max: 7 }).chain((dim) =>
  fc.record({
    dim: fc.constant(dim),
    parts: fc.array(
      fc
        .record({
          rows: fc.uniqueArray(fc.integer({ min: 0, max: tableRows - 1 }), { maxLength: tableRows }),
          rank: fc.integer({ min: 1, max: 4 }),
          seed: fc.nat(1000),
          scale: fc.constantFrom(1, 0.25, -2, 0),
          weight: fc.constantFrom(1, 0.3, -0.7, 0),
          zero: fc.boolean(),
        })
        .map(({ rows, rank, seed, scale, weight, zero }): WeightedDelta => {
          const made = delta(
            rows.sort((x, y) => x - y),
            rank,
            dim,
            seed,
            scale,
          );
          if (zero) made.a.fill(0);
          return { delta: made, weight };
        }),
      { minLength: 1, maxLength: 4 },
    ),
  }),
);

function isWellFormed(found: LowRank, parts: readonly WeightedDelta[], dim: number): void {
  const rows = [...new Set(parts.flatMap((part) => [...part.delta.rows]))].sort((x, y) => x - y);
  expect([...found.rows]).toEqual(rows);
  expect(found.a).toHaveLength(rows.length * found.rank);
  expect(found.b).toHaveLength(found.rank * dim);
  expect(found.scale).toBe(1);
}

describe('cat', () => {
  test('is the weighted sum', () => {
    fc.assert(
      fc.property(anyParts, ({ parts, dim }) => {
        const found = combineLowRank(parts, dim, { method: 'cat' });
        isWellFormed(found, parts, dim);
        expect(found.rank).toBe(parts.reduce((sum, part) => sum + part.delta.rank, 0));
        const error = difference(dense(whole(found), tableRows, dim), dense(parts, tableRows, dim));
        const terms = dense(parts.map(magnitudes), tableRows, dim);
        // Each term is rounded to f32 once, which is 6e-8 of it.
        error.forEach((value, i) => {
          expect(Math.abs(value)).toBeLessThanOrEqual(1e-7 * terms[i]!);
        });
      }),
    );
  });

  test('of values that f32 holds exactly has no error, and leaves its parts alone', () => {
    const first = { rows: Int32Array.of(1, 4), a: Float32Array.of(1, 2), rank: 1, b: Float32Array.of(3, 5), scale: 2 };
    const second = { rows: Int32Array.of(0, 4), a: Float32Array.of(7, 9), rank: 1, b: Float32Array.of(1, 0), scale: 1 };
    const parts = [
      { delta: first, weight: 0.5 },
      { delta: second, weight: -1 },
    ];
    const before = structuredClone(parts);
    expect(combineLowRank(parts, 2, { method: 'cat' })).toEqual({
      rows: Int32Array.of(0, 1, 4),
      a: Float32Array.of(0, -7, 1, 0, 2, -9),
      rank: 2,
      b: Float32Array.of(3, 5, 1, 0),
      scale: 1,
    });
    expect(parts).toEqual(before);
  });
});

describe('svd', () => {
  test('leaves the smallest error that its rank allows', () => {
    fc.assert(
      fc.property(anyParts, fc.nat(), ({ parts, dim }, pick) => {
        const most = Math.min(
          dim,
          parts.reduce((sum, part) => sum + part.delta.rank, 0),
        );
        const rank = 1 + (pick % most);
        const found = combineLowRank(parts, dim, { method: 'svd', rank });
        isWellFormed(found, parts, dim);
        expect(found.rank).toBe(rank);

        const sum = dense(parts, tableRows, dim);
        const singular = new SingularValueDecomposition(Matrix.from1DArray(tableRows, dim, sum)).diagonal;
        const error = norm(difference(dense(whole(found), tableRows, dim), sum));
        // The result's factors are rounded to f32.
        expect(Math.abs(error - norm(singular.slice(rank)))).toBeLessThanOrEqual(1e-6 * (1 + norm(singular)));
        for (let c = 0; c < rank; c++) {
          const column = found.a.filter((_, i) => i % rank === c);
          expect(Math.abs(norm(column) - (singular[c] ?? 0))).toBeLessThanOrEqual(1e-6 * (1 + norm(singular)));
          for (let e = 0; e <= c; e++) {
            let dot = 0;
            for (let d = 0; d < dim; d++) dot += found.b[c * dim + d]! * found.b[e * dim + d]!;
            expect(Math.abs(dot - (c === e ? 1 : 0))).toBeLessThan(1e-6);
          }
        }
      }),
    );
  });

  test('finds the rank of a sum of dependent deltas', () => {
    const one = delta([0, 3, 5, 6, 9, 20], 2, 6, 1);
    const parts = [1, 0.5, -3].map((weight) => ({ delta: one, weight }));
    const found = combineLowRank(parts, 6, { method: 'svd', rank: 2 });
    expect(largest(difference(dense(whole(found), 24, 6), dense(parts, 24, 6)))).toBeLessThan(1e-5);
  });

  test('gives zero for what cancels', () => {
    const one = delta([0, 3, 5, 6, 9, 20], 2, 6, 1);
    const parts = [1, -1].map((weight) => ({ delta: one, weight }));
    const found = combineLowRank(parts, 6, { method: 'svd', rank: 3 });
    expect(largest(Float64Array.from(found.a))).toBeLessThan(1e-14);
  });

  test('works over more rows than a block holds, with more ranks than dims', () => {
    const dim = 5;
    const v = 1000;
    const every = (step: number): number[] => Array.from({ length: Math.floor(v / step) }, (_, i) => i * step);
    const parts = [1, 2, 3].map((step) => ({ delta: delta(every(step), 4, dim, step), weight: 1 / step }));
    const sum = dense(parts, v, dim);
    const singular = new SingularValueDecomposition(Matrix.from1DArray(v, dim, sum)).diagonal;
    const found = combineLowRank(parts, dim, { method: 'svd', rank: 3 });
    const error = norm(difference(dense(whole(found), v, dim), sum));
    expect(Math.abs(error - norm(singular.slice(3))) / norm(singular)).toBeLessThan(1e-7);
  });

  test('keeps the digits of a small singular value beside a large one', () => {
    // Columns 1 and 1e-6: a Gram matrix in f64 would hold the second value to 4 digits only.
    const rows = Int32Array.from({ length: 600 }, (_, i) => i);
    const a = Float32Array.from({ length: 1200 }, (_, i) => (i % 2 === 0 ? 1 : i % 4 === 1 ? 1e-6 : -1e-6));
    const part = { rows, a, rank: 2, b: Float32Array.of(1, 0, 0, 1), scale: 1 };
    const found = combineLowRank(whole(part), 2, { method: 'svd', rank: 2 });
    const small = norm(found.a.filter((_, i) => i % 2 === 1));
    expect(small / (Math.fround(1e-6) * Math.sqrt(600))).toBeCloseTo(1, 6);
  });
});

describe('merges of factors', () => {
  test('linear of one delta is that delta, times its weight', () => {
    const part = { delta: delta([1, 2, 8], 2, 4, 3, 0.5), weight: -3 };
    const found = combineLowRank([part], 4, { method: 'linear' });
    expect(largest(difference(dense(whole(found), 9, 4), dense([part], 9, 4)))).toBeLessThan(1e-5);
  });

  test('linear of deltas that use different columns of A and rows of B has no cross terms', () => {
    const first = delta([0, 1], 2, 3, 1);
    const second = delta([1, 2], 2, 3, 2);
    for (let k = 0; k < 2; k++) {
      first.a[k * 2 + 1] = 0;
      second.a[k * 2] = 0;
    }
    first.b.fill(0, 3);
    second.b.fill(0, 0, 3);
    const parts = [
      { delta: first, weight: 2 },
      { delta: second, weight: -1 },
    ];
    const found = combineLowRank(parts, 3, { method: 'linear' });
    expect(largest(difference(dense(whole(found), 3, 3), dense(parts, 3, 3)))).toBeLessThan(1e-5);
  });

  test('density counts the rows that nothing touched', () => {
    // 10 of 400 values of A are stored, so a tenth of all of them keeps every one; B keeps its larger half at density 0.5.
    const part = { ...delta([3, 4, 5, 6, 7], 2, 4, 1), b: Float32Array.of(1, -8, 2, -7, 3, 6, -4, 5) };
    const of = (density: number, rows: number): LowRank =>
      combineLowRank(whole(part), 4, { method: 'magnitude_prune', density, tableRows: rows });
    expect(of(0.5, 200).a).toEqual(part.a);
    expect(of(0.5, 200).b).toEqual(Float32Array.of(0, -8, 0, -7, 0, 6, 0, 5));
    expect(of(0.5, 8).a.filter((value) => value !== 0)).toHaveLength(8);
  });

  test('dare depends on no other row, and is linear at density 1', () => {
    const all = delta([2, 3, 5, 8], 3, 4, 1);
    const some: LowRank = {
      ...all,
      rows: Int32Array.of(3, 8),
      a: Float32Array.of(...all.a.slice(3, 6), ...all.a.slice(9)),
    };
    const options = { method: 'dare_linear', density: 0.5, seed: 5 } as const;
    const whole4 = combineLowRank(whole(all), 4, options);
    const whole2 = combineLowRank(whole(some), 4, options);
    expect([...whole2.a]).toEqual([...whole4.a.slice(3, 6), ...whole4.a.slice(9)]);
    expect(whole2.b).toEqual(whole4.b);
    expect(combineLowRank(whole(all), 4, { ...options, seed: 6 })).not.toEqual(whole4);
    const parts = [1, -2].map((weight, i) => ({ delta: delta([1, i + 4], 2, 3, i), weight }));
    expect(combineLowRank(parts, 3, { method: 'dare_linear', density: 1 })).toEqual(
      combineLowRank(parts, 3, { method: 'linear' }),
    );
    expect(combineLowRank(parts, 3, { method: 'dare_ties', density: 1 })).toEqual(
      combineLowRank(parts, 3, { method: 'ties', density: 1, tableRows: 9 }),
    );
  });

  test('dare_linear is linear in expectation, the product too', () => {
    const dim = 4;
    const parts = [0.5, -2].map((weight, i) => ({ delta: delta([1, 2, i + 4], 2, dim, i), weight }));
    const expected = dense(whole(combineLowRank(parts, dim, { method: 'linear' })), 6, dim);
    const draws = 4000;
    const sum = new Float64Array(expected.length);
    const squares = new Float64Array(expected.length);
    for (let seed = 0; seed < draws; seed++) {
      const drawn = dense(whole(combineLowRank(parts, dim, { method: 'dare_linear', density: 0.6, seed })), 6, dim);
      drawn.forEach((value, i) => {
        sum[i]! += value;
        squares[i]! += value * value;
      });
    }
    // Masks of two parts, or of A and B, that were the same would be off by many deviations.
    expected.forEach((value, i) => {
      const mean = sum[i]! / draws;
      const deviation = Math.sqrt(Math.max(squares[i]! / draws - mean ** 2, 0) / draws);
      expect(Math.abs(mean - value)).toBeLessThanOrEqual(4.5 * deviation + 1e-6);
    });
  });

  test('dare_ties elects among the values that stayed', () => {
    const part = (value: number): LowRank => ({
      rows: Int32Array.from({ length: 200 }, (_, i) => i),
      a: new Float32Array(200).fill(value),
      rank: 1,
      b: Float32Array.of(1),
      scale: 1,
    });
    const parts = [part(3), part(-1)].map((made) => ({ delta: made, weight: 1 }));
    const { a } = combineLowRank(parts, 1, { method: 'dare_ties', density: 0.5, seed: 1 });
    // 3 wins wherever it stayed; -1 stands alone elsewhere; 0 where both went. A half, a quarter, a quarter.
    const counts = [6, -2, 0].map((value) => a.filter((found) => found === value).length);
    expect(counts.reduce((sum, count) => sum + count)).toBe(200);
    expect(counts[0]).toBeGreaterThan(75);
    expect(counts[1]).toBeGreaterThan(25);
    expect(counts[2]).toBeGreaterThan(25);
  });

  test('majoritySign: the sum decides, or the count', () => {
    const part = (value: number): WeightedDelta => ({
      delta: { rows: Int32Array.of(7), a: Float32Array.of(value), rank: 1, b: Float32Array.of(1), scale: 1 },
      weight: 1,
    });
    const parts = [part(5), part(-1), part(-3)];
    const options = { method: 'ties', density: 1, tableRows: 8 } as const;
    expect(combineLowRank(parts, 1, { ...options, majoritySign: 'total' }).a).toEqual(Float32Array.of(5));
    expect(combineLowRank(parts, 1, { ...options, majoritySign: 'frequency' }).a).toEqual(Float32Array.of(-2));
  });
});

describe('refuses', () => {
  const good = delta([1, 4], 2, 3, 1);
  const ties: CombineOptions = { method: 'ties', density: 0.5, tableRows: 6 };
  const cat: CombineOptions = { method: 'cat' };
  const wrong = (changes: Partial<LowRank>): WeightedDelta[] => whole({ ...good, ...changes });
  const twoRanks = [...whole(good), ...whole(delta([1], 1, 3, 2))];
  const options = (changes: Record<string, unknown>): CombineOptions => ({ ...ties, ...changes }) as CombineOptions;

  test.for<[what: string, parts: WeightedDelta[], options: CombineOptions, code: string, message: string]>([
    ['no parts', [], cat, 'INVALID_ARGUMENT', 'no deltas'],
    ['a weight', [{ delta: good, weight: NaN }], cat, 'INVALID_ARGUMENT', 'parts[0].weight NaN'],
    ['a scale', wrong({ scale: Infinity }), cat, 'INVALID_ARGUMENT', 'scale Infinity'],
    ['a rank of a part', wrong({ rank: 0 }), cat, 'INVALID_ARGUMENT', 'rank 0'],
    ['a short factor', wrong({ a: new Float32Array(3) }), cat, 'INVALID_ARGUMENT', '2 rows of rank 2 need 4'],
    ['another D', [...whole(good), ...whole(delta([1], 2, 5, 2))], cat, 'INVALID_ARGUMENT', 'parts[1].delta.b has 10'],
    ['rows out of order', wrong({ rows: Int32Array.of(4, 1) }), cat, 'INVALID_ARGUMENT', 'rows[1] is 1 after 4'],
    ['a row twice', wrong({ rows: Int32Array.of(4, 4) }), cat, 'INVALID_ARGUMENT', 'rows[1] is 4 after 4'],
    ['a negative row', wrong({ rows: Int32Array.of(-1, 4) }), cat, 'INVALID_ARGUMENT', 'rows[0] is -1'],
    ['NaN in a', wrong({ a: Float32Array.of(1, NaN, 1, 1) }), cat, 'NON_FINITE', 'parts[0].delta.a[1] is NaN'],
    ['infinity in b', wrong({ b: new Float32Array(6).fill(-Infinity) }), cat, 'NON_FINITE', 'b[0] is -Infinity'],
    ['a result past f32', [{ delta: good, weight: 1e300 }], cat, 'NON_FINITE', 'a of the result of cat'],
    ['a sum past f32', [{ delta: good, weight: 1e153 }], { method: 'svd', rank: 1 }, 'NON_FINITE', 'result of svd'],
    ['a sum past f64', [{ delta: good, weight: 1e300 }], { method: 'svd', rank: 1 }, 'NON_FINITE', 'the weighted sum['],
    ['svd rank 0', whole(good), { method: 'svd', rank: 0 }, 'INVALID_ARGUMENT', 'from 1 to 2'],
    ['svd rank past the sum', whole(good), { method: 'svd', rank: 3 }, 'INVALID_ARGUMENT', 'from 1 to 2'],
    ['svd rank past D', [...whole(good), ...whole(good)], { method: 'svd', rank: 4 }, 'INVALID_ARGUMENT', '3 dims'],
    ['half a rank', whole(good), { method: 'svd', rank: 1.5 }, 'INVALID_ARGUMENT', 'rank 1.5'],
    ['ranks that differ', twoRanks, { method: 'linear' }, 'INVALID_ARGUMENT', 'ranks 2, 1'],
    ['ranks that differ', twoRanks, ties, 'INVALID_ARGUMENT', 'ranks 2, 1'],
    ['density 0', whole(good), options({ density: 0 }), 'INVALID_ARGUMENT', 'density 0;'],
    ['density above 1', whole(good), options({ density: 1.5 }), 'INVALID_ARGUMENT', 'density 1.5'],
    ['no density', whole(good), options({ density: undefined }), 'INVALID_ARGUMENT', 'density undefined'],
    [
      'a density that keeps nothing',
      whole(good),
      options({ density: 0.1 }),
      'INVALID_ARGUMENT',
      'none of the 6 values',
    ],
    ['a row past the table', whole(good), options({ tableRows: 4 }), 'ID_OUT_OF_RANGE', 'row 4 of a table with 4'],
    ['no table size', whole(good), options({ tableRows: undefined }), 'INVALID_ARGUMENT', 'tableRows undefined'],
    ['a majority', whole(good), options({ majoritySign: 'mean' }), 'INVALID_ARGUMENT', 'majoritySign "mean"'],
    ['a seed', whole(good), { method: 'dare_linear', density: 0.5, seed: -1 }, 'INVALID_ARGUMENT', 'seed: found -1'],
    ['a method', whole(good), options({ method: 'mean' }), 'INVALID_ARGUMENT', 'method "mean"; allowed: cat, svd'],
    ['ties_svd', whole(good), options({ method: 'ties_svd' }), 'UNSUPPORTED', 'use ties, and svd of its result'],
  ])('%s', ([, parts, given, code, message]) => {
    expect(() => combineLowRank(parts, 3, given)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) as string }),
    );
  });

  test('a width that is none', () => {
    expect(() => combineLowRank(whole(good), 0, cat)).toThrow('dim 0');
  });
});
