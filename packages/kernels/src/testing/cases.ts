/** Random lookups for the tests of both implementations. */
import {
  makePlan,
  matrix,
  RandomStream,
  rowBytes,
  rowDtypes,
  rowScales,
  storedRowBytes,
  type LookupPlan,
  type Matrix,
  type RowDtype,
  type RowFormat,
} from '@finetable/core';
import fc from 'fast-check';
import type { Delta, Kernels, Overlay, Shard, TablePart } from '../kernels.ts';

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
  /** For `int4`; used where it is below `dim`, which is the default. */
  readonly groupDims?: number;
  /** Cuts by rows; default 1. */
  readonly shards: number;
  /** Cuts by columns, as far as the dtype can be cut; default 1. */
  readonly columnGroups?: number;
  /** Share of the unique rows that an overlay holds; default 0, without an overlay. Their rows in shards are spoilt. */
  readonly copied?: number;
  /** With an overlay: the last shards of the rows are not there, the overlay has all of their unique rows. */
  readonly gap?: boolean;
}

/** The same lookup of a table in one store. */
export const inOneStore = (x: LookupCase): LookupCase => ({ ...x, shards: 1, columnGroups: 1, copied: 0 });

/** Dims around the vector widths; bags empty, of one and long; one to four shards in one to three column groups; overlays. */
export const lookupCases: fc.Arbitrary<LookupCase> = fc.record({
  seed: fc.nat(),
  tableRows: fc.integer({ min: 4, max: 60 }),
  dim: fc.oneof(fc.constantFrom(1, 7, 8, 63, 64, 65, 100, 128, 300), fc.integer({ min: 1, max: 140 })),
  rank: fc.oneof(fc.constantFrom(0, 1, 4, 8, 16, 64), fc.integer({ min: 1, max: 64 })),
  bagSizes: fc.array(fc.oneof(fc.constantFrom(0, 1, 2), fc.integer({ min: 0, max: 40 })), { maxLength: 40 }),
  weighted: fc.boolean(),
  touched: fc.constantFrom(0, 0.5, 1),
  dtype: fc.constantFrom<RowDtype>(...rowDtypes),
  groupDims: fc.constantFrom(32, 64, 128, 1000),
  shards: fc.constantFrom(1, 1, 2, 3, 4),
  columnGroups: fc.constantFrom(1, 1, 2, 3),
  copied: fc.constantFrom(0, 0, 0.5, 1),
  gap: fc.boolean(),
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

export const formatOf = ({ dtype, dim, groupDims = dim }: LookupCase): RowFormat => ({
  dtype,
  dim,
  groupDims: dtype === 'int8' ? dim : dtype === 'int4' ? Math.min(groupDims, dim) : 0,
});

/** The stored bytes of a part of a table, given those of `rows` rows. */
export function partBytes(whole: Uint8Array, format: RowFormat, rows: number, part: TablePart): Uint8Array {
  const { dtype, dim, groupDims } = format;
  const own = { dtype, dim: part.columns, groupDims: Math.min(groupDims, part.columns) };
  const bytes = new Uint8Array(part.rows * storedRowBytes(own));
  const cut = (from: number, stride: number, first: number, to: number, length: number) => {
    for (let i = 0; i < part.rows; i++) {
      const at = from + (part.firstRow + i) * stride + first;
      bytes.set(whole.subarray(at, at + length), to + i * length);
    }
  };
  const [stride, length] = [rowBytes(dtype, dim), rowBytes(dtype, part.columns)];
  cut(0, stride, rowBytes(dtype, part.firstColumn), 0, length);
  if (groupDims > 0) {
    const first = 4 * Math.floor(part.firstColumn / groupDims);
    cut(rows * stride, 4 * rowScales(format), first, part.rows * length, 4 * rowScales(own));
  }
  return bytes;
}

/** Where column groups begin, and D: groups of scales stay whole, but for the first of `int4`, which may be cut in two. */
function columnCuts(x: LookupCase): number[] {
  const { dtype, dim, groupDims } = formatOf(x);
  const wanted = x.columnGroups ?? 1;
  const cuts = new Set([0, dim]);
  if (dtype === 'int4' && groupDims < dim && wanted === 3) cuts.add(groupDims / 2).add(groupDims);
  else {
    const unit = dtype !== 'int4' ? 1 : groupDims < dim ? groupDims : 2;
    for (let i = 1; i < wanted; i++) cuts.add(Math.floor((dim * i) / wanted / unit) * unit);
  }
  return [...cuts].sort((a, b) => a - b);
}

/** The case's table in a store of its own; the same bytes for both implementations. */
function tableBytes(kernels: Kernels, x: LookupCase, absolute: boolean): Uint8Array {
  const { dtype, dim, groupDims } = formatOf(x);
  const store = kernels.createRows(x.tableRows, dim, dtype, groupDims);
  kernels.scatterRows(store, upTo(x.tableRows), normals(x.tableRows, dim, x.seed, 'table', absolute));
  const bytes = new Uint8Array(store.sizeBytes);
  kernels.readBytes(store, 0, bytes);
  store.close();
  return bytes;
}

/** Part of the table, cut into shards of about the same size, without an overlay and what it brings. */
export const shardsOf = (kernels: Kernels, x: LookupCase, absolute = false): Shard[] =>
  cutShards(kernels, x, tableBytes(kernels, x, absolute), x.shards);

/** @param count how many of the shards of rows there are */
function cutShards(kernels: Kernels, x: LookupCase, bytes: Uint8Array, count: number): Shard[] {
  const format = formatOf(x);
  const cuts = columnCuts(x);
  return cuts.slice(1).flatMap((end, c) => {
    const [firstColumn, columns] = [cuts[c]!, end - cuts[c]!];
    return Array.from({ length: count }, (_, i) => {
      const firstRow = firstRowOf(x, i);
      const rows = firstRowOf(x, i + 1) - firstRow;
      const store = kernels.createRows(rows, columns, x.dtype, Math.min(format.groupDims, columns));
      kernels.writeBytes(store, 0, partBytes(bytes, format, x.tableRows, { firstRow, rows, firstColumn, columns }));
      return { store, firstRow, firstColumn };
    });
  });
}

const firstRowOf = (x: LookupCase, shard: number): number => Math.floor((x.tableRows * shard) / x.shards);

/** The shards, and the overlay if the case has one. */
export function tableOf(
  kernels: Kernels,
  x: LookupCase,
  plan: LookupPlan,
  absolute = false,
): { base: Shard[]; overlay: Overlay | null } {
  if (!x.copied) return { base: shardsOf(kernels, x, absolute), overlay: null };
  const { dtype, dim, groupDims } = formatOf(x);
  const random = new RandomStream(x.seed, 'copied');
  const shards = x.gap ? x.shards - 1 : x.shards;
  const missing = firstRowOf(x, shards);
  const copied = plan.uniqueRows.map((row, u) => Number(row >= missing || random.uint32(u) / 2 ** 32 < x.copied!));
  const bytes = tableBytes(kernels, x, absolute);
  const whole = { firstColumn: 0, columns: dim };
  const rows = kernels.createRows(x.tableRows, dim, dtype, groupDims);
  const slots = plan.uniqueRows.map((row, u) => (copied[u] ? x.tableRows - 1 - row : -1));
  const elements = rowBytes(dtype, dim);
  const scales = 4 * rowScales(formatOf(x));
  plan.uniqueRows.forEach((row, u) => {
    if (!copied[u]) return;
    const copy = partBytes(bytes, formatOf(x), x.tableRows, { firstRow: row, rows: 1, ...whole });
    kernels.writeBytes(rows, slots[u]! * elements, copy.subarray(0, elements));
    if (scales > 0) kernels.writeBytes(rows, x.tableRows * elements + slots[u]! * scales, copy.subarray(elements));
  });
  plan.uniqueRows.forEach((row, u) => {
    if (copied[u]) bytes.fill(0x11, row * elements, (row + 1) * elements);
  });
  return { base: cutShards(kernels, x, bytes, shards), overlay: { rows, slots } };
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
  const { base, overlay } = tableOf(kernels, x, plan, absolute);
  const out = matrix(x.bagSizes.length, x.dim);
  out.data.fill(NaN);
  if (how === 'base') {
    kernels.lookup({ base, overlay, plan, out });
    return { out, pooled: null };
  }
  const delta = deltaOf(kernels, x, plan, absolute);
  const pooled = x.rank ? matrix(x.bagSizes.length, x.rank) : null;
  pooled?.data.fill(NaN);
  if (how === 'fused') {
    kernels.lookup({ base, overlay, plan, delta, out, pooledFactors: pooled });
  } else {
    kernels.lookup({ base, overlay, plan, out });
    kernels.addDelta({ plan, delta, out, pooledFactors: pooled });
  }
  for (const { store } of base) store.close();
  overlay?.rows.close();
  delta.factors.close();
  return { out, pooled };
}

/**
 * Fails where `actual` and `expected` differ by more than rounding explains: each is a sum of `terms` rounded products, so
 * each is within terms · 2^-24 of the sum of their absolute values (`magnitude`), and the two within twice that. The weight
 * times the scale of a quantised row may be rounded once more, which the two terms added here allow for.
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
