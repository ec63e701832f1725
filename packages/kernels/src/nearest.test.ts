/** Nearest rows: the portable kernels against whole products, the native ones against the portable ones. */
import { makePlan, matrix, rowDtypes, type Matrix, type RowDtype } from '@finetable/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Kernels, NearestArgs, Shard, TouchedRows } from './kernels.ts';
import { normals, upTo } from './testing/cases.ts';
import { instructionSets, native, needAddon, portable } from './testing/implementations.ts';

interface Case {
  readonly seed: number;
  readonly tableRows: number;
  readonly dim: number;
  readonly queries: number;
  /** Share of the table's rows that are wanted. */
  readonly wanted: number;
  readonly metric: 'dot' | 'cosine';
  readonly dtype: RowDtype;
  /** 0: a dense delta. */
  readonly rank: number;
  readonly touched: number;
  /** Row shards of each column group. */
  readonly cuts: readonly number[];
}

const casesOf = (dtypes: readonly RowDtype[]): fc.Arbitrary<Case> =>
  fc.record({
    seed: fc.nat(),
    tableRows: fc.oneof(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: 900 })),
    dim: fc.oneof(fc.constantFrom(1, 7, 8, 64, 100, 300), fc.integer({ min: 1, max: 140 })),
    queries: fc.oneof(fc.constantFrom(0, 1, 8, 9, 16, 17, 40), fc.integer({ min: 0, max: 50 })),
    wanted: fc.constantFrom(0, 0.1, 1),
    metric: fc.constantFrom('dot', 'cosine'),
    dtype: fc.constantFrom(...dtypes),
    rank: fc.constantFrom(0, 1, 4, 8, 13),
    touched: fc.constantFrom(0, 0.05, 0.5, 1),
    cuts: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 }),
  });

/** The values' columns in groups of about the same width, each cut into row shards, one of which is empty. */
function shardsOf(kernels: Kernels, values: Matrix, dtype: RowDtype, cuts: readonly number[]): Shard[] {
  const groups = cuts.slice(0, values.cols);
  return groups.flatMap((shards, g) => {
    const firstColumn = Math.floor((values.cols * g) / groups.length);
    const columns = Math.floor((values.cols * (g + 1)) / groups.length) - firstColumn;
    return Array.from({ length: shards + 1 }, (_, i) => {
      const firstRow = Math.floor((values.rows * Math.max(0, i - 1)) / shards);
      const rows = Math.floor((values.rows * i) / shards) - firstRow;
      const store = kernels.createRows(rows, columns, dtype);
      const part = matrix(rows, columns);
      part.data.forEach((_, at) => {
        const [row, column] = [firstRow + Math.floor(at / columns), firstColumn + (at % columns)];
        part.data[at] = values.data[row * values.cols + column]!;
      });
      kernels.scatterRows(store, upTo(rows), part);
      return { store, firstRow, firstColumn };
    });
  });
}

function touchedOf(kernels: Kernels, x: Case): TouchedRows {
  const chosen = normals(1, x.tableRows, x.seed, 'chosen').data;
  const limit = x.touched === 1 ? Infinity : x.touched === 0 ? -Infinity : x.touched === 0.5 ? 0 : -1.645;
  const rows = upTo(x.tableRows).filter((row) => chosen[row]! < limit);
  const width = x.rank || x.dim;
  const factors = kernels.createRows(x.tableRows, width, 'f32');
  kernels.scatterRows(factors, upTo(x.tableRows), normals(x.tableRows, width, x.seed, 'factors'));
  // Slots in another order than rows, and now and then a row without one.
  const slots = rows.map((row) => (row % 7 === 3 ? -1 : x.tableRows - 1 - row));
  return { rows, slots, factors, b: x.rank ? normals(x.rank, x.dim, x.seed, 'B') : null, scale: -0.5 };
}

interface Found {
  readonly rows: Int32Array;
  readonly scores: Matrix;
}

async function search(kernels: Kernels, args: Omit<NearestArgs, 'rows' | 'scores'>, k: number): Promise<Found> {
  const rows = new Int32Array(args.queries.rows * k).fill(-7);
  const scores = matrix(args.queries.rows, k);
  scores.data.fill(NaN);
  await kernels.nearest({ ...args, rows, scores });
  return { rows, scores };
}

const kOf = (x: Case): number => Math.max(1, Math.floor(x.wanted * x.tableRows));

async function run(kernels: Kernels, x: Case, k = kOf(x)): Promise<Found> {
  const values = normals(x.tableRows, x.dim, x.seed, 'table');
  const base = shardsOf(kernels, values, x.dtype, x.cuts);
  const delta = touchedOf(kernels, x);
  const queries = normals(x.queries, x.dim, x.seed, 'queries');
  const found = await search(kernels, { base, tableRows: x.tableRows, queries, metric: x.metric, delta }, k);
  for (const { store } of [...base, { store: delta.factors }]) store.close();
  return found;
}

/** The adapted table, row by row, as lookups of single rows give it. */
function adapted(kernels: Kernels, x: Case): Matrix {
  const base = shardsOf(kernels, normals(x.tableRows, x.dim, x.seed, 'table'), x.dtype, x.cuts);
  const { rows, slots, factors, b, scale } = touchedOf(kernels, x);
  const all = new Int32Array(x.tableRows).fill(-1);
  rows.forEach((row, i) => (all[row] = slots[i]!));
  const out = matrix(x.tableRows, x.dim);
  const offsets = upTo(x.tableRows + 1);
  const plan = makePlan({ values: upTo(x.tableRows), offsets }, x.tableRows);
  kernels.lookup({ base, plan, delta: { slots: all, factors, b, scale }, out });
  return out;
}

/** All scores in f64, and for each how far f32 may be from it. */
function exactScores(
  table: Matrix,
  queries: Matrix,
  metric: 'dot' | 'cosine',
): { scores: number[][]; off: number[][] } {
  const row = (m: Matrix, i: number): Float32Array => m.data.subarray(i * m.cols, (i + 1) * m.cols);
  const norm = (x: Float32Array): number => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
  const scores: number[][] = [];
  const off: number[][] = [];
  for (let q = 0; q < queries.rows; q++) {
    const query = row(queries, q);
    scores.push([]);
    off.push([]);
    for (let i = 0; i < table.rows; i++) {
      const vector = row(table, i);
      let [dot, magnitude] = [0, 0];
      query.forEach((value, d) => {
        dot += value * vector[d]!;
        magnitude += Math.abs(value * vector[d]!);
      });
      const lengths = metric === 'dot' ? 1 : norm(query) * norm(vector);
      scores[q]!.push(lengths === 0 ? 0 : dot / lengths);
      off[q]!.push(lengths === 0 ? 0 : ((table.cols + 8) * 2 ** -24 * magnitude) / lengths + 1e-37);
    }
  }
  return { scores, off };
}

/** What keeps a result from being the top k within rounding: a wrong score, a wrong order, or a row that must be there. */
function fault({ rows, scores }: Found, table: Matrix, queries: Matrix, metric: 'dot' | 'cosine'): string | null {
  const k = scores.cols;
  const exact = exactScores(table, queries, metric);
  for (let q = 0; q < queries.rows; q++) {
    const found = rows.subarray(q * k, (q + 1) * k);
    const got = scores.data.subarray(q * k, (q + 1) * k);
    const inside = new Set(found);
    if (inside.size !== k) return `query ${q}: rows twice`;
    for (const [i, row] of found.entries()) {
      // Also false for NaN.
      if (!(Math.abs(got[i]! - exact.scores[q]![row]!) <= exact.off[q]![row]!))
        return `query ${q}, row ${row}: ${got[i]} for ${exact.scores[q]![row]}`;
      const inOrder = i === 0 || got[i]! < got[i - 1]! || (got[i] === got[i - 1] && row > found[i - 1]!);
      if (!inOrder) return `query ${q}: ${got[i]} of row ${row} at ${i} after ${got[i - 1]} of row ${found[i - 1]}`;
    }
    const missing = exact.scores[q]!.findIndex(
      (score, row) => !inside.has(row) && score - exact.off[q]![row]! > got[k - 1]!,
    );
    if (missing >= 0) return `query ${q}: no row ${missing}, of ${exact.scores[q]![missing]}`;
  }
  return null;
}

const bytesOf = ({ rows, scores }: Found): Buffer =>
  Buffer.concat(
    [rows, scores.data].map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)),
  );

/** `portable` and the native kernels of every instruction set. */
function testAll(name: string, body: (kernels: Kernels) => Promise<void>): void {
  test(`portable: ${name}`, () => body(portable));
  test(`native: ${name}`, async (context) => {
    const addon = needAddon(context);
    for (const set of instructionSets(addon)) await body(native(addon, 2, set));
  });
}

testAll('the top k of a whole product over the adapted table, within rounding', async (kernels) => {
  await fc.assert(
    fc.asyncProperty(casesOf(rowDtypes), async (x) => {
      const queries = normals(x.queries, x.dim, x.seed, 'queries');
      expect(fault(await run(kernels, x), adapted(kernels, x), queries, x.metric)).toBeNull();
    }),
    { numRuns: 40 },
  );
});

testAll(
  'the adapted table gives the bytes of the same table merged, and shards those of one store',
  async (kernels) => {
    await fc.assert(
      fc.asyncProperty(casesOf(rowDtypes), async (x) => {
        const base = shardsOf(kernels, adapted(kernels, x), 'f32', [1]);
        const queries = normals(x.queries, x.dim, x.seed, 'queries');
        const merged = await search(kernels, { base, tableRows: x.tableRows, queries, metric: x.metric }, kOf(x));
        expect(bytesOf(await run(kernels, x)).equals(bytesOf(merged))).toBe(true);
      }),
      { numRuns: 40 },
    );
  },
);

describe('native', () => {
  const large: Case = {
    seed: 3,
    tableRows: 20_000,
    dim: 40,
    queries: 37,
    wanted: 0,
    metric: 'cosine',
    dtype: 'f16',
    rank: 4,
    touched: 0.05,
    cuts: [3],
  };
  test('gives the same bytes for any number of threads', async (context) => {
    const addon = needAddon(context);
    for (const [dtype, k] of [
      ['f16', 50],
      ['f32', 1],
      ['f32', 7000],
    ] as const) {
      const one = bytesOf(await run(native(addon, 1), { ...large, dtype }, k));
      for (const threads of [2, 3, 8]) {
        expect(bytesOf(await run(native(addon, threads), { ...large, dtype }, k)).equals(one)).toBe(true);
      }
    }
  });

  test('runs beside the JavaScript thread; a store closed meanwhile is freed when it is done', async (context) => {
    const addon = needAddon(context);
    const kernels = native(addon, 2);
    const values = normals(large.tableRows, large.dim, 1, 'table');
    const base = shardsOf(kernels, values, 'f32', [1]);
    const queries = normals(64, large.dim, 1, 'queries');
    const args = { base, tableRows: large.tableRows, queries, metric: 'dot' } as const;
    const expected = bytesOf(await search(kernels, args, 10));
    const running = [search(kernels, args, 10), search(kernels, args, 10)];
    for (const { store } of base) store.close();
    for (const result of running) expect(bytesOf(await result).equals(expected)).toBe(true);
    expect(() => kernels.nearest({ ...args, rows: new Int32Array(64), scores: matrix(64, 1) })).toThrow(/closed/);
  });
});

testAll('equal scores are ordered by row, whichever sign their zeros have', async (kernels) => {
  const tableRows = 1000;
  const values = matrix(tableRows, 2);
  // Three scores: 1 for rows 3, 103, …; 0 and -0; -1 for rows 50, 150, ….
  for (let row = 0; row < tableRows; row++)
    values.data[2 * row] = row % 100 === 3 ? 1 : row % 100 === 50 ? -1 : row % 2 ? 0 : -0;
  const base = shardsOf(kernels, values, 'f32', [3]);
  const queries = matrix(2, 2, Float32Array.of(1, 0, 0, 0));
  for (const metric of ['dot', 'cosine'] as const) {
    const { rows, scores } = await search(kernels, { base, tableRows, queries, metric }, tableRows);
    const all = [...upTo(tableRows)];
    const of = (score: number) => all.filter((row) => values.data[2 * row]! === score);
    expect([...rows.subarray(0, tableRows)]).toEqual([...of(1), ...of(0), ...of(-1)]);
    expect([...rows.subarray(tableRows)]).toEqual(all);
    expect(scores.data.some((score) => Object.is(score, -0))).toBe(false);
    const some = await search(kernels, { base, tableRows, queries, metric }, 15);
    expect([...some.rows]).toEqual([...rows.subarray(0, 15), ...all.slice(0, 15)]);
  }
});

testAll('a score that is NaN comes after -Infinity; those among them by row', async (kernels) => {
  const values = matrix(40, 1);
  values.data.forEach((_, row) => (values.data[row] = row));
  values.data[5] = NaN;
  values.data[6] = -Infinity;
  values.data[2] = NaN;
  values.data[30] = Infinity;
  const base = shardsOf(kernels, values, 'f32', [2]);
  const queries = matrix(1, 1, Float32Array.of(1));
  const { rows, scores } = await search(kernels, { base, tableRows: 40, queries, metric: 'dot' }, 40);
  expect(rows[0]).toBe(30);
  expect([...rows.subarray(36)]).toEqual([0, 6, 2, 5]);
  expect([...scores.data.subarray(36)]).toEqual([0, -Infinity, NaN, NaN]);
  const few = await search(kernels, { base, tableRows: 40, queries, metric: 'dot' }, 2);
  expect([...few.rows]).toEqual([30, 39]);
  // An infinite vector has no direction.
  const cosine = await search(kernels, { base, tableRows: 40, queries, metric: 'cosine' }, 40);
  expect([...cosine.rows.subarray(35)]).toEqual([0, 2, 5, 6, 30]);
});

testAll('cosine of vectors whose squares f32 cannot hold', async (kernels) => {
  const values = matrix(4, 2, Float32Array.of(1e-30, 0, 1e30, 1e30, -1e-36, 0, 0, 0));
  const base = shardsOf(kernels, values, 'f32', [1]);
  const queries = matrix(2, 2, Float32Array.of(1e-25, 0, 1e35, 1e35));
  const { rows, scores } = await search(kernels, { base, tableRows: 4, queries, metric: 'cosine' }, 4);
  expect([...rows]).toEqual([0, 1, 3, 2, 1, 0, 3, 2]);
  [1, Math.SQRT1_2, 0, -1, 1, Math.SQRT1_2, 0, -Math.SQRT1_2].forEach((score, i) =>
    expect(scores.data[i]).toBeCloseTo(score, 5),
  );
});

test('rows of a delta that come twice or do not ascend are refused', () => {
  const store = portable.createRows(4, 2, 'f32');
  const args = { base: [{ store, firstRow: 0 }], tableRows: 4, queries: matrix(1, 2), metric: 'dot' } as const;
  const call = (...touched: number[]) => {
    const rows = Int32Array.from(touched);
    const delta = { rows, slots: rows.map(() => 0), factors: store, b: null, scale: 1 };
    return () => void portable.nearest({ ...args, delta, rows: new Int32Array(1), scores: matrix(1, 1) });
  };
  expect(call(1, 1)).toThrow(/delta\.rows must be distinct, found 1 again at 1/);
  expect(call(2, 1)).toThrow(/delta\.rows must ascend, found 1 at 1/);
  expect(call(1, 4)).toThrow(/delta\.rows/);
});
