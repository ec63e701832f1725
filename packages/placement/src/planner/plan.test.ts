import { describe, expect, test } from 'vitest';
import { planPlacement } from './plan.ts';
import type { DeviceRequest, PlacementPlan, PlanRequest, TableRequest } from './types.ts';
import { rules } from './testing.ts';

const items: TableRequest = { name: 'items', rows: 1000, dim: 64, dtype: 'f32', bags: 8, idsPerBag: 4 };
const rowBytes = 256;
const dense = { kind: 'dense', rule: rules.sgd, mode: 'lazy' } as const;
const mapped: DeviceRequest = { name: 'mapped', kind: 'mapped', budgetBytes: Infinity };
const ram = (budgetBytes: number): DeviceRequest => ({ name: 'ram', kind: 'ram', budgetBytes });

/** Working memory of these tables. */
function reservedFor(tables: readonly TableRequest[]): number {
  return sum(Object.values(planPlacement({ tables, devices: [ram(Infinity), mapped] }).reserved));
}
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** A plan with room for `bytes` in RAM beside the working memory. */
function planWith(bytes: number, tables: readonly TableRequest[], more: Partial<PlanRequest> = {}): PlacementPlan {
  return planPlacement({ tables, devices: [ram(reservedFor(tables) + bytes), mapped], ...more });
}
const placesOf = (plan: PlacementPlan, table = 0): unknown[] =>
  plan.tables[table]!.shards.map(({ device, firstRow, rows, cache }) => [device, firstRow, rows, cache?.rows ?? 0]);

test('what fits lies in RAM, whole', () => {
  const plan = planWith(1000 * rowBytes, [items]);
  expect(placesOf(plan)).toEqual([['ram', 0, 1000, 0]]);
  expect(plan.tables[0]).toMatchObject({ bytes: 256_000, lookups: 32, touchedRows: 0 });
  const reserved = sum(Object.values(plan.reserved));
  expect(plan.devices).toEqual([
    {
      name: 'ram',
      kind: 'ram',
      budgetBytes: reserved + 256_000,
      tableBytes: 256_000,
      cacheBytes: 0,
      reservedBytes: reserved,
      usedBytes: reserved + 256_000,
      note: '',
    },
    {
      name: 'mapped',
      kind: 'mapped',
      budgetBytes: null,
      tableBytes: 0,
      cacheBytes: 0,
      reservedBytes: 0,
      usedBytes: 0,
      note: '',
    },
  ]);
  expect(plan.loadSeconds).toBe(256_000 / 2e9);
});

test('one byte less: all rows but one, the coldest where they are sorted', () => {
  const bytes = 1000 * rowBytes - 1;
  const split = [
    ['ram', 0, 999, 0],
    ['mapped', 999, 1, 0],
  ];
  expect(placesOf(planWith(bytes, [items]))).toEqual(split);
  expect(placesOf(planWith(bytes, [{ ...items, frequencies: { zipf: 1 }, sortedByFrequency: true }]))).toEqual(split);
  expect(placesOf(planWith(0, [items]))).toEqual([['mapped', 0, 1000, 0]]);
});

test('hot rows that lie anywhere are cached, unless so much room is left that all but a few rows fit', () => {
  const zipf = { ...items, frequencies: { zipf: 1 } };
  const half = 500 * rowBytes;
  expect(placesOf(planWith(half, [zipf]))).toEqual([['mapped', 0, 1000, Math.floor(half / (rowBytes + 16))]]);
  expect(placesOf(planWith(1000 * rowBytes - 1, [zipf]))).toEqual([
    ['ram', 0, 999, 0],
    ['mapped', 999, 1, 0],
  ]);
});

test('without counts, a cache holds no more than the batches before it can have told', () => {
  const table = { ...items, rows: 1e6, split: 'table' as const };
  const cached = (steps: number): unknown => placesOf(planWith(1e5 * rowBytes, [table], { steps }));
  const mapped = { name: 'mapped', kind: 'mapped' as const, budgetBytes: Infinity, bandwidths: { randomRead: 1e4 } };
  // 64 batches of 32 ids over a million rows: hardly one comes twice.
  const room = { name: 'ram', kind: 'ram' as const, budgetBytes: 2 ** 30 };
  const { tables } = planPlacement({ tables: [{ ...table, rows: 1e7 }], devices: [room, mapped], steps: 1e6 });
  expect(tables[0]!.shards[0]!.cache!.rows).toBe(2048);
  expect(cached(64), 'over before it is filled').toEqual([['mapped', 0, 1e6, 0]]);
});

test('hit rates and seconds, by hand', () => {
  const counts = [6, 2, 1, 1];
  const four: TableRequest = { ...items, rows: 4, frequencies: { counts }, bags: 1, idsPerBag: 1 };
  const plan = planWith(2 * rowBytes, [four]);
  const [first, second] = plan.tables[0]!.shards;
  expect(first).toMatchObject({ device: 'ram', rows: 2, bytes: 512, hitRate: 0.8, cache: null });
  expect(second!.hitRate).toBeCloseTo(0.2, 12);
  // One id: 0.8 rows of four cache lines, 0.2 of a page; no row comes twice.
  expect(first!.seconds).toBeCloseTo((0.8 * 256) / 6e9, 15);
  expect(second!.seconds).toBeCloseTo((0.2 * 4096) / 100e6, 12);
  const vectors = (2 * 4 * 64) / 12e9;
  expect(plan.stepSeconds).toBeCloseTo(first!.seconds + second!.seconds + vectors, 12);

  const shuffled = planWith(2 * (rowBytes + 16), [{ ...four, frequencies: { counts: [1, 6, 1, 2] } }]);
  const [shard] = shuffled.tables[0]!.shards;
  expect(shard).toMatchObject({ device: 'mapped', rows: 4, cache: { device: 'ram', rows: 2, bytes: 544 } });
  expect(shard!.cache!.hitRate).toBeCloseTo(0.8, 12);
  expect(shard!.hitRate).toBeCloseTo(0.2, 12);
  expect(shard!.seconds).toBeCloseTo(first!.seconds + second!.seconds, 12);
});

test('room goes to the table that gains the most by it', () => {
  const busy = { ...items, name: 'busy', idsPerBag: 40 };
  const plan = planWith(1100 * rowBytes, [items, busy]);
  expect(placesOf(plan, 1)).toEqual([['ram', 0, 1000, 0]]);
  expect(placesOf(plan, 0)).toEqual([
    ['ram', 0, 100, 0],
    ['mapped', 100, 900, 0],
  ]);
});

test('measured bandwidths count', () => {
  const fast = { ...mapped, bandwidths: { randomRead: 1e12 } };
  expect(placesOf(planPlacement({ tables: [items], devices: [ram(1e9), fast] }))).toEqual([['mapped', 0, 1000, 0]]);
});

test('rows are loaded only where the steps repay it', () => {
  // Loading takes 128 ms, and saves 1.3 ms of page faults a step.
  const million = { ...items, rows: 1e6 };
  const placed = (steps: number): unknown => placesOf(planWith(1e6 * rowBytes, [million], { steps }));
  expect(placed(50)).toEqual([['mapped', 0, 1e6, 0]]);
  expect(placed(200)).toEqual([['ram', 0, 1e6, 0]]);
  // A cached row is picked for a page fault, so in one step none repays it; 30 s of steps repay a sweep over the file.
  const counts = Float64Array.from({ length: 1e6 }, (_, i) => 1 / (1 + ((i * 7919) % 1e6)));
  const zipf = { ...million, frequencies: { counts }, split: 'table' as const };
  const cached = (steps: number): { rows: number; load: number } => {
    const { tables, loadSeconds } = planWith(5e5 * rowBytes, [zipf], { steps });
    return { rows: tables[0]!.shards[0]!.cache?.rows ?? 0, load: loadSeconds };
  };
  expect(cached(1)).toEqual({ rows: 0, load: 0 });
  const some = cached(20);
  expect(some.rows).toBeGreaterThan(0);
  expect(some.rows).toBeLessThan(3000);
  expect(some.load).toBeCloseTo((some.rows * 4096) / 100e6, 9);
  expect(cached(20_000)).toEqual({ rows: Math.floor((5e5 * 256) / 272), load: (1e6 * 256) / 2e9 });
});

test('three homes at once: the fastest has the hottest rows', () => {
  const table = { ...items, frequencies: { zipf: 1 }, sortedByFrequency: true };
  const gpu: DeviceRequest = { name: 'gpu', kind: 'gpu', budgetBytes: 10 * rowBytes, bandwidths: { link: 1e15 } };
  const devices = [mapped, ram(reservedFor([table]) + 20 * rowBytes), gpu];
  expect(placesOf(planPlacement({ tables: [table], devices }))).toEqual([
    ['gpu', 0, 10, 0],
    ['ram', 10, 20, 0],
    ['mapped', 30, 970, 0],
  ]);
  const slowLink = [mapped, devices[1]!, { ...gpu, bandwidths: { link: 1 } }];
  expect(placesOf(planPlacement({ tables: [table], devices: slowLink }))[0]).toEqual(['ram', 0, 20, 0]);
});

test('a GPU computes on what it has whole, and what it has not must cross its link', () => {
  const gpu = (rows: number): DeviceRequest => ({ name: 'gpu', kind: 'gpu', budgetBytes: rows * rowBytes });
  const planOn = (device: DeviceRequest, more: Partial<TableRequest> = {}): PlacementPlan => {
    const table = { ...items, bags: 512, idsPerBag: 20, rows: 1e6, ...more };
    return planPlacement({ tables: [table], devices: [device, mapped, ram(reservedFor([table]) + 1e6 * rowBytes)] });
  };
  const whole = planOn(gpu(1e6));
  expect(placesOf(whole)).toEqual([['gpu', 0, 1e6, 0]]);
  // 512 vectors come back; with an adapter their gradients go there too.
  const unique = whole.tables[0]!.uniqueRows;
  const expected = (unique * rowBytes) / 400e9 + ((512 * 20 - unique) * rowBytes) / 1000e9 + (512 * rowBytes) / 20e9;
  expect(whole.tables[0]!.shards[0]!.seconds).toBeCloseTo(expected, 12);
  const trained = planOn(gpu(1e6), { adapter: { ...dense, touchedRows: 1 } }).tables[0]!.shards[0]!.seconds;
  expect(trained - expected).toBeCloseTo((512 * rowBytes) / 20e9, 12);
  expect(placesOf(planOn(gpu(1e6), { among: ['ram', 'mapped'] }))).toEqual([['ram', 0, 1e6, 0]]);
  // Over a link that is no faster than RAM, the first half of the rows is no gain.
  const slow = { ...gpu(5e5), bandwidths: { link: 6e9 } };
  expect(placesOf(planOn(slow))).toEqual([['ram', 0, 1e6, 0]]);
  expect(placesOf(planOn({ ...slow, budgetBytes: 1e6 * rowBytes }))).toEqual([['gpu', 0, 1e6, 0]]);
  expect(() => planOn(gpu(1), { among: ['disk'] })).toThrow(/no device "disk"/);
});

describe('constraints', () => {
  const half = 500 * rowBytes;

  test('a table on a device lies there, without a cache', () => {
    const zipf = { ...items, frequencies: { zipf: 1 } };
    expect(placesOf(planWith(1e9, [{ ...zipf, device: 'mapped' }]))).toEqual([['mapped', 0, 1000, 0]]);
    expect(placesOf(planWith(1000 * rowBytes, [{ ...items, device: 'ram' }]))).toEqual([['ram', 0, 1000, 0]]);
    expect(() => planWith(half, [{ ...items, device: 'ram' }])).toThrow(/does not fit/);
    expect(() => planWith(half, [{ ...items, device: 'disk' }])).toThrow('no device "disk"; there are ram, mapped');
  });

  test('table-wise: never divided', () => {
    expect(placesOf(planWith(half, [{ ...items, split: 'table' }], { cacheBytes: 0 }))).toEqual([
      ['mapped', 0, 1000, 0],
    ]);
    const [first] = planWith(half, [{ ...items, split: 'table' }]).tables[0]!.shards;
    expect(first).toMatchObject({ device: 'mapped', rows: 1000, cache: { rows: Math.floor(half / 272) } });
  });

  test('column-wise: every shard has all rows', () => {
    // Rows of four pages: three of them in RAM leave one to read.
    const wide: TableRequest = { ...items, rows: 10, dim: 4096, split: 'column' };
    const [first, second] = planWith(10 * 4 * 3100, [wide], { cacheBytes: 0 }).tables[0]!.shards;
    expect(first).toMatchObject({ device: 'ram', rows: 10, firstColumn: 0, columns: 3088, bytes: 123_520, hitRate: 1 });
    expect(second).toMatchObject({ device: 'mapped', rows: 10, firstColumn: 3088, columns: 1008, hitRate: 1 });
    // Every int8 shard has a scale of its own for each row.
    const int8 = planWith(10 * 3100, [{ ...wide, dim: 8192, dtype: 'int8' }], { cacheBytes: 0 }).tables[0]!;
    expect(int8.shards.map(({ columns, bytes }) => [columns, bytes])).toEqual([
      [3088, 30_920],
      [5104, 51_080],
    ]);
  });

  test('shards as given', () => {
    const shards = [{ device: 'mapped', rows: 10 }, { device: 'ram', rows: 20 }, { device: 'mapped' }];
    expect(placesOf(planWith(half, [{ ...items, shards }]))).toEqual([
      ['mapped', 0, 10, 0],
      ['ram', 10, 20, 0],
      ['mapped', 30, 970, 0],
    ]);
    expect(() => planWith(half, [{ ...items, shards: [{ device: 'ram', rows: 7 }] }])).toThrow(
      'the shards hold 7 rows, the table has 1000',
    );
    expect(() => planWith(half, [{ ...items, shards: [{ device: 'ram' }, { device: 'ram' }] }])).toThrow(
      'shard 0 has no rows',
    );
  });

  test('caches take no more than they may', () => {
    const zipf = { ...items, frequencies: { zipf: 1 } };
    const cached = (cacheBytes: number): unknown => placesOf(planWith(half, [zipf], { cacheBytes }));
    // Of the room that caches must leave, a split by rows makes more, up to a point.
    expect(cached(half)).toEqual([['mapped', 0, 1000, Math.floor(half / 272)]]);
    expect(cached(272 * 100)).toEqual([['mapped', 0, 1000, 100]]);
    expect(cached(0)).toEqual([
      ['ram', 0, 500, 0],
      ['mapped', 500, 500, 0],
    ]);
  });
});

test.each([
  [{ devices: [mapped] }, 'none of kind "ram"'],
  [{ devices: [ram(1), ram(2)] }, 'device "ram" comes twice'],
  [{ devices: [ram(NaN)] }, 'a budget of NaN bytes'],
  [{ devices: [{ ...ram(1), bandwidths: { streaming: 0 } }] }, 'ram: streaming 0; allowed: bytes per second above 0'],
  [{ tables: [items, items] }, 'table "items" comes twice'],
  [{ tables: [{ ...items, rows: 0 }] }, 'items: rows 0'],
  [{ tables: [{ ...items, dim: 1.5 }] }, 'items: dim 1.5'],
  [{ tables: [{ ...items, idsPerBag: -1 }] }, 'items: idsPerBag -1'],
  [{ tables: [{ ...items, adapter: { ...dense, kind: 'lora' as const } }] }, 'items: rank NaN'],
  [{ tables: [{ ...items, adapter: { ...dense, touchedRows: NaN } }] }, 'items: touchedRows NaN'],
])('%j is refused', (changes, message) => {
  expect(() => planPlacement({ tables: [items], devices: [ram(1e9), mapped], ...changes })).toThrow(message);
});

test('counts may go on being counted between plans', () => {
  const counts = [6, 2, 1, 1];
  const table = { ...items, rows: 4, frequencies: { counts } };
  const hitRate = (): number => planWith(rowBytes, [table]).tables[0]!.shards[0]!.hitRate;
  expect(hitRate()).toBeCloseTo(0.6, 12);
  counts[0] = 96;
  expect(hitRate()).toBeCloseTo(0.96, 12);
});

test('a plan is plain data', () => {
  const plan = planWith(1000, [{ ...items, frequencies: { zipf: 1 } }]);
  expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
});
