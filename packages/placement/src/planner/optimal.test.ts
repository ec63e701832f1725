/** Properties of every plan, and small problems solved by trying everything. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { layoutSeconds, prepareDevice, prepareTable, rowSeconds, type Layout } from './estimate.ts';
import { planPlacement } from './plan.ts';
import {
  cacheEntryBytes,
  storedRowBytes,
  type DeviceRequest,
  type Frequencies,
  type PlacementPlan,
  type TableRequest,
} from './types.ts';

const mapped: DeviceRequest = { name: 'mapped', kind: 'mapped', budgetBytes: Infinity };
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const reservedFor = (tables: readonly TableRequest[]): number =>
  sum(
    Object.values(
      planPlacement({ tables, devices: [{ name: 'ram', kind: 'ram', budgetBytes: Infinity }, mapped] }).reserved,
    ),
  );

const ramWith = (tables: readonly TableRequest[], bytes: number): DeviceRequest => ({
  name: 'ram',
  kind: 'ram',
  budgetBytes: reservedFor(tables) + bytes,
});

const counts = (rows: number): fc.Arbitrary<Frequencies> =>
  fc
    .array(fc.integer({ min: 0, max: 50 }), { minLength: rows, maxLength: rows })
    .map((values) => ({ counts: values.map((value, i) => (i === 0 ? value + 1 : value)) }));

const anyTable = (mostRows: number): fc.Arbitrary<TableRequest> =>
  fc.integer({ min: 1, max: mostRows }).chain((rows) =>
    fc.record({
      name: fc.constant('table'),
      rows: fc.constant(rows),
      dim: fc.integer({ min: 1, max: 100 }),
      dtype: fc.constantFrom('f32', 'f16', 'bf16', 'int8', 'int4'),
      groupDims: fc.constantFrom(undefined, 32),
      bags: fc.integer({ min: 1, max: 20 }),
      idsPerBag: fc.integer({ min: 0, max: 10 }),
      frequencies: fc.oneof(fc.constant(undefined), fc.constant({ zipf: 1.1 }), counts(rows)),
      sortedByFrequency: fc.boolean(),
      split: fc.constantFrom(undefined, 'row', 'table', 'column'),
    }),
  );

const anyTables = (most: number, mostRows: number): fc.Arbitrary<TableRequest[]> =>
  fc
    .array(anyTable(mostRows), { minLength: 1, maxLength: most })
    .map((tables) => tables.map((table, i) => ({ ...table, name: `table ${i}` })));

/** Every value of every table lies in exactly one place; nothing is over its budget; totals are the sums of their parts. */
function expectSound(plan: PlacementPlan, tables: readonly TableRequest[]): void {
  tables.forEach(({ rows, dim, dtype, groupDims }, t) => {
    const { shards } = plan.tables[t]!;
    const seen = new Int32Array(rows * dim);
    for (const { firstRow, firstColumn, ...size } of shards) {
      expect(size.bytes).toBe(size.rows * storedRowBytes(dtype, size.columns, groupDims));
      for (let row = firstRow; row < firstRow + size.rows; row++) {
        for (let column = firstColumn; column < firstColumn + size.columns; column++) seen[row * dim + column]!++;
      }
    }
    expect(seen.every((times) => times === 1)).toBe(true);
    const byColumns = shards.some(({ columns }) => columns < dim);
    const served = sum(shards.map(({ hitRate, cache }) => hitRate + (cache?.hitRate ?? 0)));
    if (byColumns) expect(shards.every(({ hitRate }) => Math.abs(hitRate - 1) < 1e-9)).toBe(true);
    else expect(served).toBeCloseTo(1, 9);
  });
  const shards = plan.tables.flatMap((table) => table.shards);
  for (const { name, budgetBytes, usedBytes, tableBytes, cacheBytes, reservedBytes } of plan.devices) {
    expect(usedBytes).toBeLessThanOrEqual(budgetBytes ?? Infinity);
    expect(tableBytes + cacheBytes + reservedBytes).toBe(usedBytes);
    expect(tableBytes).toBe(sum(shards.filter(({ device }) => device === name).map(({ bytes }) => bytes)));
  }
  expect(plan.stepSeconds).toBeCloseTo(sum(plan.tables.map(({ seconds }) => seconds)), 12);
}

test('every plan covers every value once, within every budget', () => {
  fc.assert(
    fc.property(anyTables(4, 40), fc.nat(20_000), fc.option(fc.nat(10_000)), (tables, ramBytes, gpuBytes) => {
      const gpu: DeviceRequest[] = gpuBytes === null ? [] : [{ name: 'gpu', kind: 'gpu', budgetBytes: gpuBytes }];
      const devices = [ramWith(tables, ramBytes), mapped, ...gpu];
      expectSound(planPlacement({ tables, devices }), tables);
    }),
    { numRuns: 150 },
  );
});

test('more tables than all combinations are tried for: still covered, within budgets, and no slower than mapped', () => {
  fc.assert(
    fc.property(fc.array(anyTable(30), { minLength: 9, maxLength: 9 }), fc.nat(30_000), (some, ramBytes) => {
      const tables = some.map((table, i) => ({ ...table, name: `table ${i}` }));
      const plan = planPlacement({ tables, devices: [ramWith(tables, ramBytes), mapped] });
      expectSound(plan, tables);
      const none = planPlacement({ tables, devices: [ramWith(tables, 0), mapped] });
      expect(plan.stepSeconds).toBeLessThanOrEqual(none.stepSeconds * (1 + 1e-9));
    }),
    { numRuns: 20 },
  );
});

test('more memory, or one more device, never makes the plan of a table slower', () => {
  fc.assert(
    fc.property(anyTable(60), fc.nat(30_000), fc.nat(30_000), (table, a, b) => {
      const seconds = (bytes: number, more: DeviceRequest[] = []): number =>
        planPlacement({ tables: [table], devices: [ramWith([table], bytes), mapped, ...more] }).stepSeconds;
      const [less, more] = [Math.min(a, b), Math.max(a, b)];
      expect(seconds(more)).toBeLessThanOrEqual(seconds(less) * (1 + 1e-9));
      expect(seconds(less, [{ name: 'gpu', kind: 'gpu', budgetBytes: more }])).toBeLessThanOrEqual(
        seconds(less) * (1 + 1e-9),
      );
    }),
    { numRuns: 200 },
  );
});

/** The smallest step time over every number of first rows in RAM, and every number of hot rows cached, of every table. */
function bruteForce(tables: readonly TableRequest[], ramBytes: number, caches: boolean): number {
  const devices = [ramWith(tables, ramBytes), mapped].map(prepareDevice);
  const prepared = tables.map(prepareTable);
  const choices = prepared.map((table) => {
    const { rows, dim } = table.request;
    const part = (device: number, firstRow: number, count: number): Layout['parts'] =>
      count === 0 ? [] : [{ device, firstRow, rows: count, firstColumn: 0, columns: dim }];
    const found: { bytes: number; seconds: number }[] = [];
    const add = (bytes: number, layout: Layout): void => {
      if (bytes <= ramBytes) found.push({ bytes, seconds: layoutSeconds(table, layout, devices, devices[0]!) });
    };
    for (let k = 0; k <= rows; k++) {
      add(k * table.rowBytes, { parts: [...part(0, 0, k), ...part(1, k, rows - k)], cacheRows: 0 });
      if (caches && k <= table.cacheableRows)
        add(k * (table.rowBytes + cacheEntryBytes), { parts: part(1, 0, rows), cacheRows: k });
    }
    return found;
  });
  const best = (t: number, left: number): number => {
    if (t === choices.length) return 0;
    let least = Infinity;
    for (const { bytes, seconds } of choices[t]!) {
      if (bytes <= left) least = Math.min(least, seconds + best(t + 1, left - bytes));
    }
    return least;
  };
  return best(0, ramBytes);
}

const orderedTable = (rowBytes: number | null): fc.Arbitrary<TableRequest> =>
  anyTable(8).map((table) => ({
    ...table,
    split: 'row',
    sortedByFrequency: true,
    ...(rowBytes === null ? {} : { dtype: 'f32', dim: rowBytes / 4 }),
    frequencies:
      table.frequencies && 'counts' in table.frequencies
        ? { counts: Array.from(table.frequencies.counts).sort((a, b) => b - a) }
        : table.frequencies,
  }));

const named = (tables: fc.Arbitrary<TableRequest>): fc.Arbitrary<TableRequest[]> =>
  fc
    .array(tables, { minLength: 1, maxLength: 3 })
    .map((list) => list.map((table, i) => ({ ...table, name: `table ${i}` })));

test('nothing better is found by trying everything: rows of one size', () => {
  fc.assert(
    fc.property(named(orderedTable(64)), fc.nat(1600), (tables, bytes) => {
      const plan = planPlacement({ tables, devices: [ramWith(tables, bytes), mapped], cacheBytes: 0 });
      expect(plan.stepSeconds).toBeCloseTo(bruteForce(tables, bytes, false), 12);
    }),
    { numRuns: 150 },
  );
});

test('nor for rows of any size and with caches, but for the last row that has no room', () => {
  const table = fc.oneof(
    orderedTable(null),
    anyTable(8).map((t): TableRequest => ({ ...t, split: 'row', sortedByFrequency: false, frequencies: { zipf: 1 } })),
  );
  fc.assert(
    fc.property(named(table), fc.nat(1600), (tables, bytes) => {
      const plan = planPlacement({ tables, devices: [ramWith(tables, bytes), mapped] });
      const best = bruteForce(tables, bytes, true);
      // What one row of the slowest table can save at most: it is in every batch.
      const oneRow = Math.max(
        ...tables.map(({ dtype, dim, groupDims }) =>
          rowSeconds(prepareDevice(mapped), storedRowBytes(dtype, dim, groupDims)),
        ),
      );
      expect(plan.stepSeconds).toBeLessThanOrEqual(best + oneRow);
      expect(plan.stepSeconds).toBeGreaterThanOrEqual(best * (1 - 1e-9));
    }),
    { numRuns: 150 },
  );
});
