/** Random lookups for the tests of both implementations. */
import { makePlan, matrix, RandomStream, type LookupPlan, type Matrix, type RowDtype } from '@finetable/core';
import fc from 'fast-check';
import type { Delta, Kernels, Shard } from '../kernels.ts';

export interface LookupCase {
  readonly seed: number;
  readonly tableRows: number;
  readonly dim: number;
  /** 0: a dense delta. */
  readonly rank: number;
  readonly bagSizes: readonly number[];
  readonly weighted: boolean;
  /** Share of the rows that have a slot. */
  readonly touched: number;
  readonly dtype: RowDtype;
  readonly shards: number;
}

/** Dims around the vector widths; bags empty, of one and long; one to four shards. */
export const lookupCases: fc.Arbitrary<LookupCase> = fc.record({
  seed: fc.nat(),
  tableRows: fc.integer({ min: 4, max: 60 }),
  dim: fc.oneof(fc.constantFrom(1, 7, 8, 63, 64, 65, 100, 128, 300), fc.integer({ min: 1, max: 140 })),
  rank: fc.oneof(fc.constantFrom(0, 1, 4, 8, 16, 64), fc.integer({ min: 1, max: 64 })),
  bagSizes: fc.array(fc.oneof(fc.constantFrom(0, 1, 2), fc.integer({ min: 0, max: 40 })), { maxLength: 40 }),
  weighted: fc.boolean(),
  touched: fc.constantFrom(0, 0.5, 1),
  dtype: fc.constantFrom<RowDtype>('f32', 'f16'),
  shards: fc.constantFrom(1, 1, 2, 3, 4),
});

/** Normal values; `absolute` makes them the terms of an error bound. */
export function normals(rows: number, cols: number, seed: number, name: string, absolute = false): Matrix {
  const out = matrix(rows, cols);
  new RandomStream(seed, name).fillNormal(out.data);
  if (absolute) out.data.forEach((x, i) => (out.data[i] = Math.abs(x)));
  return out;
}

export const upTo = (n: number): Int32Array => Int32Array.from({ length: n }, (_, i) => i);

export function planOf(x: LookupCase, absolute = false): LookupPlan {
  const n = x.bagSizes.reduce((sum, size) => sum + size, 0);
  const random = new RandomStream(x.seed, 'ids');
  const values = Int32Array.from({ length: n }, (_, i) => random.below(i, x.tableRows));
  const offsets = new Int32Array(x.bagSizes.length + 1);
  x.bagSizes.forEach((size, i) => (offsets[i + 1] = offsets[i]! + size));
  const weights = x.weighted ? normals(1, n, x.seed, 'weights', absolute).data : undefined;
  return makePlan({ values, offsets, weights }, x.tableRows);
}

/** The table cut into shards of about the same size. */
export function shardsOf(kernels: Kernels, x: LookupCase, absolute = false): Shard[] {
  const table = normals(x.tableRows, x.dim, x.seed, 'table', absolute);
  return Array.from({ length: x.shards }, (_, i) => {
    const firstRow = Math.floor((x.tableRows * i) / x.shards);
    const rows = Math.floor((x.tableRows * (i + 1)) / x.shards) - firstRow;
    const store = kernels.createRows(rows, x.dim, x.dtype);
    kernels.scatterRows(
      store,
      upTo(rows),
      matrix(rows, x.dim, table.data.subarray(firstRow * x.dim, (firstRow + rows) * x.dim)),
    );
    return { store, firstRow };
  });
}

export function deltaOf(kernels: Kernels, x: LookupCase, plan: LookupPlan, absolute = false): Delta {
  const random = new RandomStream(x.seed, 'touched');
  const width = x.rank || x.dim;
  const factors = kernels.createRows(x.tableRows, width, 'f32');
  kernels.scatterRows(factors, upTo(x.tableRows), normals(x.tableRows, width, x.seed, 'factors', absolute));
  // Slots in another order than rows, as they are in use.
  const slots = plan.uniqueRows.map((row, i) => (random.uint32(i) / 2 ** 32 < x.touched ? x.tableRows - 1 - row : -1));
  const b = x.rank ? normals(x.rank, x.dim, x.seed, 'B', absolute) : null;
  return { factors, slots, b, scale: absolute ? 0.75 : -0.75 };
}

export interface LookupResult {
  readonly out: Matrix;
  readonly pooled: Matrix | null;
}

/** Runs the case; memory that should be overwritten starts as NaN. */
export function runLookup(
  kernels: Kernels,
  x: LookupCase,
  how: 'fused' | 'apart' | 'base' = 'fused',
  absolute = false,
): LookupResult {
  const plan = planOf(x, absolute);
  const base = shardsOf(kernels, x, absolute);
  const out = matrix(x.bagSizes.length, x.dim);
  out.data.fill(NaN);
  if (how === 'base') {
    kernels.lookup({ base, plan, out });
    return { out, pooled: null };
  }
  const delta = deltaOf(kernels, x, plan, absolute);
  const pooled = x.rank ? matrix(x.bagSizes.length, x.rank) : null;
  pooled?.data.fill(NaN);
  if (how === 'fused') {
    kernels.lookup({ base, plan, delta, out, pooledFactors: pooled });
  } else {
    kernels.lookup({ base, plan, out });
    kernels.addDelta({ plan, delta, out, pooledFactors: pooled });
  }
  for (const { store } of base) store.close();
  delta.factors.close();
  return { out, pooled };
}

/**
 * Fails where `actual` and `expected` differ by more than rounding explains: each is a sum of `terms` rounded products, so
 * each is within terms · 2^-24 of the sum of their absolute values (`magnitude`), and the two within twice that.
 */
export function firstBeyondRounding(
  actual: Float32Array,
  expected: Float32Array,
  magnitude: Float32Array,
  terms: number,
): string | null {
  for (let i = 0; i < expected.length; i++) {
    const allowed = 2 * (terms + 2) * 2 ** -24 * magnitude[i]! + 1e-37;
    // Also false for NaN.
    if (!(Math.abs(actual[i]! - expected[i]!) <= allowed))
      return `at ${i}: ${actual[i]} for ${expected[i]}, ± ${allowed}`;
  }
  return actual.length === expected.length ? null : `${actual.length} values for ${expected.length}`;
}
