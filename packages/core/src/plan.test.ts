import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jagged, type Jagged } from './jagged.ts';
import {
  makePlan,
  makeSharedPlan,
  planBags,
  planBuffers,
  planPlaces,
  poolings,
  type LookupPlan,
  type Pooling,
} from './plan.ts';

/** The definition, place by place. */
function naivePlan({ values, offsets }: Jagged): Omit<LookupPlan, 'weights' | 'tableRows'> {
  const rows = [...new Set(values)].sort((a, b) => a - b);
  const places = [...values.keys()].sort((a, b) => values[a]! - values[b]! || a - b);
  const bagOf = (place: number) => [...offsets.keys()].find((bag) => place < offsets[bag + 1]!)!;
  return {
    offsets,
    placeRows: values,
    uniqueRows: Int32Array.from(rows),
    placeUnique: values.map((id) => rows.indexOf(id)),
    groupOffsets: Int32Array.from([
      ...rows.map((row) => places.findIndex((place) => values[place] === row)),
      places.length,
    ]),
    groupPlaces: Int32Array.from(places),
    groupBags: Int32Array.from(places.map(bagOf)),
  };
}

function naiveWeights(bags: readonly (readonly number[])[], pooling: Pooling): number[] {
  return bags.flatMap((bag) => {
    const total = bag.reduce((sum, w) => sum + (pooling === 'sqrtn' ? w * w : w), 0);
    return bag.map((w) => (pooling === 'sum' ? w : pooling === 'mean' ? w / total : w / Math.sqrt(total)));
  });
}

const largest = 2 ** 31 - 1;
const tables = fc.oneof(
  fc.constantFrom(1, 2, 2048, 2049, 2 ** 22, 2 ** 22 + 1, largest),
  fc.integer({ min: 1, max: 40 }),
  fc.integer({ min: 1, max: largest }),
);
const bagsOf = (rows: number) =>
  fc.array(
    fc.array(fc.oneof(fc.integer({ min: 0, max: rows - 1 }), fc.integer({ min: 0, max: Math.min(5, rows - 1) })), {
      maxLength: 8,
    }),
    { maxLength: 12 },
  );
const bagged = tables.chain((rows) => fc.record({ rows: fc.constant(rows), bags: bagsOf(rows) }));
const refusal = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string });

describe('makePlan', () => {
  it('gives the example of its documentation', () => {
    const plan = makePlan(jagged([[5, 7], [5]]), 10);
    expect(plan).toEqual({ ...naivePlan(jagged([[5, 7], [5]])), tableRows: 10, weights: null });
    expect([...plan.groupPlaces]).toEqual([0, 2, 1]);
    expect([planBags(plan), planPlaces(plan)]).toEqual([2, 3]);
  });

  it('agrees with the definition on any bags of any table', () => {
    fc.assert(
      fc.property(bagged, ({ rows, bags }) => {
        const ids = jagged(bags);
        const given = structuredClone(ids);
        expect(makePlan(ids, rows)).toEqual({ ...naivePlan(ids), tableRows: rows, weights: null });
        expect(ids).toEqual(given);
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    ['few high digits', 50_000_000, (i: number) => ((i * 7919) % 300) + (i % 2) * 2048 * 2048],
    ['one high digit', 50_000_000, (i: number) => 40_000_000 + ((i * 7919) % 300)],
    ['all digits', largest, (i: number) => Math.imul(i, 0x9e3779b1) >>> 1],
    ['one row', largest, () => largest - 1],
  ])('sorts large batches with %s', (_, rows, id) => {
    const values = Int32Array.from({ length: 3000 }, (_, i) => Math.min(id(i), rows - 1));
    const plan = makePlan({ values, offsets: Int32Array.of(0, 3000) }, rows);
    const order = [...values.keys()].sort((a, b) => values[a]! - values[b]! || a - b);
    expect([...plan.groupPlaces]).toEqual(order);
    expect(values.map((_, place) => plan.uniqueRows[plan.placeUnique[place]!]!)).toEqual(values);
    expect(plan.groupBags.every((bag) => bag === 0)).toBe(true);
    expect(plan.uniqueRows.every((row, j) => values[plan.groupPlaces[plan.groupOffsets[j]!]!] === row)).toBe(true);
  });

  it('makes plans of no bags, of empty bags and of views', () => {
    for (const bags of [[], [[]], [[], [], []]]) {
      const plan = makePlan(jagged(bags), 3, { pooling: 'mean' });
      expect([planBags(plan), planPlaces(plan), plan.uniqueRows.length]).toEqual([bags.length, 0, 0]);
      expect([...plan.groupOffsets]).toEqual([0]);
    }
    const memory = Int32Array.of(9, 2, 1, 2, 9);
    expect([...makePlan({ values: memory.subarray(1, 4), offsets: Int32Array.of(0, 3) }, 3).groupPlaces]).toEqual([
      1, 0, 2,
    ]);
  });

  it.each(poolings)('folds %s pooling into the weights', (pooling) => {
    const weighted = fc.array(
      fc.array(fc.tuple(fc.nat(9), fc.double({ min: 0.125, max: 4, noNaN: true }).map(Math.fround)), { maxLength: 6 }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(weighted, (bags) => {
        const ids = bags.map((bag) => bag.map(([id]) => id));
        const own = bags.map((bag) => bag.map(([, w]) => w));
        const withWeights = makePlan(jagged(ids, own), 10, { pooling }).weights!;
        // f32 rounding of the factor's product: half of 2^-23, relative.
        naiveWeights(own, pooling).forEach((w, place) =>
          expect(Math.abs(withWeights[place]! / w - 1)).toBeLessThan(1e-7),
        );
        const without = makePlan(jagged(ids), 10, { pooling }).weights;
        if (pooling === 'sum') expect(without).toBeNull();
        else
          expect(without).toEqual(
            Float32Array.from(
              naiveWeights(
                own.map((bag) => bag.map(() => 1)),
                pooling,
              ),
            ),
          );
      }),
    );
  });

  it.each([-1, 10, largest, -(2 ** 31)])('refuses id %d with its bag and place', (id) => {
    const ids = { values: Int32Array.of(1, 2, 3, id), offsets: Int32Array.of(0, 2, 2, 4) };
    const error = expect.objectContaining({
      code: 'ID_OUT_OF_RANGE',
      message: `words: id ${id} in bag 2 at place 1; allowed: 0 to 9`,
      details: { table: 'words', id, bag: 2, place: 1, rows: 10 },
    });
    expect(() => makePlan(ids, 10, { table: 'words' })).toThrow(error);
    expect(() =>
      makeSharedPlan(
        [
          { ids: jagged([[1]]), pooling: 'sum' },
          { ids, pooling: 'sum' },
        ],
        10,
        'words',
      ),
    ).toThrow(error);
  });

  it('refuses tables, weights and offsets that make no plan', () => {
    for (const rows of [0, -1, 1.5, NaN, 2 ** 31])
      expect(() => makePlan(jagged([[0]]), rows)).toThrow(refusal('INVALID_ARGUMENT', /rows; allowed/));
    for (const w of [NaN, Infinity])
      expect(() => makePlan(jagged([[0, 1]], [[1, w]]), 2)).toThrow(refusal('NON_FINITE', /weight .* at place 1/));
    expect(() => makePlan(jagged([[0], [0, 1]], [[1], [1, -1]]), 2, { pooling: 'mean' })).toThrow(
      refusal('INVALID_ARGUMENT', /mean pooling of bag 1/),
    );
    expect(() => makePlan(jagged([[0]], [[0]]), 2, { pooling: 'sqrtn' })).toThrow(
      refusal('INVALID_ARGUMENT', /sqrtn pooling of bag 0/),
    );
    const cancelling = jagged([[0, 1, 1]], [[3e38, -3e38, 1e-45]]);
    expect(() => makePlan(cancelling, 2, { pooling: 'mean' })).toThrow(refusal('NON_FINITE', /mean pooling of bag 0/));
    expect(() => makePlan({ values: Int32Array.of(1), offsets: Int32Array.of(0) }, 2)).toThrow(
      refusal('INVALID_ARGUMENT', /offsets end at 0/),
    );
  });
});

describe('makeSharedPlan', () => {
  it('is the plan of the features one after the other', () => {
    const feature = fc.record({ bags: bagsOf(30), pooling: fc.constantFrom(...poolings), weighted: fc.boolean() });
    fc.assert(
      fc.property(fc.array(feature, { minLength: 1, maxLength: 4 }), (features) => {
        const parts = features.map(({ bags, pooling, weighted }) => ({
          ids: weighted
            ? jagged(
                bags,
                bags.map((bag) => bag.map((id, i) => 1 + ((id + i) % 3))),
              )
            : jagged(bags),
          pooling,
        }));
        const own = parts.map(({ ids, pooling }) => makePlan(ids, 30, { pooling }).weights);
        const placeWeights = own.flatMap((w, f) => [...(w ?? new Float32Array(parts[f]!.ids.values.length).fill(1))]);
        const weights = own.every((w) => w === null) ? null : Float32Array.from(placeWeights);
        expect(makeSharedPlan(parts, 30, 't')).toEqual({
          ...makePlan(jagged(features.flatMap(({ bags }) => bags)), 30),
          weights,
        });
      }),
    );
  });
});

describe('planBuffers', () => {
  it('carries a whole plan to another thread, each buffer once', () => {
    const whole = makePlan(jagged([[1, 2, 1]]), 3, { pooling: 'mean' });
    const kept = structuredClone(whole);
    expect(structuredClone(whole, { transfer: planBuffers(whole) })).toEqual(kept);
    expect(whole.groupPlaces.byteLength).toBe(0);
    const memory = new ArrayBuffer(16);
    const offsets = new Int32Array(memory, 0, 2);
    offsets[1] = 2;
    const plan = makePlan({ values: Int32Array.of(0, 1), offsets, weights: new Float32Array(memory, 8, 2) }, 2);
    // Offsets and weights lie in one buffer; one listed twice cannot be transferred.
    expect(planBuffers(plan)).toHaveLength(7);
  });
});
