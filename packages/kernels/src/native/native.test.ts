/** The native kernels against the portable ones, on random shapes and for every instruction set that this processor has. */
import { jagged, makePlan, matrix, RandomStream, range, type Matrix } from '@finetable/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Kernels, MatmulArgs } from '../kernels.ts';
import {
  firstBeyondRounding,
  lookupCases,
  normals,
  planOf,
  runLookup,
  shardsOf,
  type LookupCase,
} from '../testing/cases.ts';
import { instructionSets, native, needAddon, portable } from '../testing/implementations.ts';

const bytes = (m: Matrix | Float32Array): Buffer => {
  const { buffer, byteOffset, byteLength } = m instanceof Float32Array ? m : m.data;
  return Buffer.from(buffer, byteOffset, byteLength);
};

const longestBag = (x: LookupCase): number => Math.max(0, ...x.bagSizes);

describe('lookup', () => {
  test('agrees with the portable kernels', (context) => {
    const addon = needAddon(context);
    for (const set of instructionSets(addon)) {
      const kernels = native(addon, 2, set);
      fc.assert(
        fc.property(lookupCases, (x) => {
          const expected = runLookup(portable, x);
          const magnitude = runLookup(portable, x, 'fused', true);
          const found = runLookup(kernels, x);
          // A base sum of n terms, then r terms of the delta, each with an Ā of n terms.
          const terms = 2 * longestBag(x) + x.rank + 2;
          expect(firstBeyondRounding(found.out.data, expected.out.data, magnitude.out.data, terms)).toBeNull();
          if (expected.pooled) {
            const pooled = [found, expected, magnitude].map((result) => result.pooled!.data) as [
              Float32Array,
              Float32Array,
              Float32Array,
            ];
            expect(firstBeyondRounding(...pooled, longestBag(x))).toBeNull();
          }
        }),
        { numRuns: 60 },
      );
    }
  });

  test('gives the same bytes for any number of threads', (context) => {
    const addon = needAddon(context);
    // Large enough to be shared: small work stays on the calling thread.
    const x: LookupCase = {
      seed: 1,
      tableRows: 5000,
      dim: 100,
      rank: 8,
      weighted: true,
      touched: 0.5,
      dtype: 'f32',
      shards: 1,
      bagSizes: Array.from({ length: 3000 }, (_, i) => (i * 7) % 31),
    };
    for (const rank of [0, 8]) {
      const one = runLookup(native(addon, 1), { ...x, rank });
      for (const threads of [2, 3, 8]) {
        const more = runLookup(native(addon, threads), { ...x, rank });
        expect(bytes(more.out).equals(bytes(one.out))).toBe(true);
        if (one.pooled) expect(bytes(more.pooled!).equals(bytes(one.pooled))).toBe(true);
      }
    }
  });
});

describe('both implementations', () => {
  const properties: [string, (x: LookupCase) => [LookupCase, 'fused' | 'apart']][] = [
    ['in one pass or in two give the same bytes', (x) => [x, 'apart']],
    ['over shards give the bytes of one store', (x) => [x, 'fused']],
  ];
  for (const [name, variant] of properties) {
    test(name, (context) => {
      const addon = needAddon(context);
      for (const kernels of [portable, ...instructionSets(addon).map((set) => native(addon, 2, set))]) {
        fc.assert(
          fc.property(lookupCases, (x) => {
            const [other, how] = variant(x);
            const one = runLookup(kernels, how === 'apart' ? x : { ...x, shards: 1 });
            const two = runLookup(kernels, other, how);
            expect(bytes(two.out).equals(bytes(one.out))).toBe(true);
            if (one.pooled) expect(bytes(two.pooled!).equals(bytes(one.pooled))).toBe(true);
          }),
          { numRuns: 40 },
        );
      }
    });
  }
});

test('gather and scatter round f16 as the portable kernels do, special values included', (context) => {
  const kernels = native(needAddon(context));
  const special = [
    0,
    -0,
    1,
    65504,
    65519.99,
    65520,
    -1e9,
    Infinity,
    -Infinity,
    NaN,
    2 ** -24,
    2 ** -25,
    3 * 2 ** -26,
    -(2 ** -14),
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    6e-5,
    6.1e-5,
  ];
  const random = normals(40, 9, 3, 'halves').data.map((x, i) => x * 2 ** ((i % 50) - 30));
  const values = matrix(42, 9, Float32Array.from([...special, ...random]));
  const found = [portable, kernels].map((k) => {
    const store = k.createRows(42, 9, 'f16');
    const rows = Int32Array.from({ length: 42 }, (_, i) => i);
    k.scatterRows(store, rows, values);
    const raw = new Uint8Array(store.sizeBytes);
    k.readBytes(store, 0, raw);
    const out = matrix(42, 9);
    k.gatherRows(store, rows, out);
    return { raw, values: [...out.data] };
  });
  expect(found[1]).toEqual(found[0]);
});

test('segment sums agree, and do not depend on threads', (context) => {
  const addon = needAddon(context);
  for (const set of instructionSets(addon)) {
    fc.assert(
      fc.property(lookupCases, (x) => {
        const plan = planOf(x);
        const run = (kernels: typeof portable, absolute: boolean) => {
          const out = matrix(plan.uniqueRows.length, x.dim);
          out.data.fill(NaN);
          const values = normals(x.bagSizes.length, x.dim, x.seed, 'values', absolute);
          kernels.segmentSum({ plan: absolute ? planOf(x, true) : plan, values, out });
          return out.data;
        };
        const terms = plan.placeUnique.length;
        expect(
          firstBeyondRounding(run(native(addon, 2, set), false), run(portable, false), run(portable, true), terms),
        ).toBeNull();
      }),
      { numRuns: 40 },
    );
  }
  const random = new RandomStream(5, 'segments');
  const values = Int32Array.from({ length: 60_000 }, (_, i) => random.below(i, 9000));
  const plan = makePlan({ values, offsets: Int32Array.from({ length: 20_001 }, (_, i) => i * 3) }, 9000);
  const results = [1, 2, 3, 8].map((threads) => {
    const out = matrix(plan.uniqueRows.length, 8);
    native(addon, threads).segmentSum({ plan, values: normals(20_000, 8, 6, 'values'), out });
    return bytes(out);
  });
  for (const result of results) expect(result.equals(results[0]!)).toBe(true);
});

test('row products agree with the portable kernels, and do not depend on threads', (context) => {
  const addon = needAddon(context);
  const n = 1500;
  for (const [dim, rank, dtype] of [
    [7, 3, 'f32'],
    [64, 8, 'f16'],
    [33, 20, 'int8'],
  ] as const) {
    const run = (kernels: Kernels): Float64Array => {
      const base = kernels.createRows(n, dim, dtype);
      kernels.scatterRows(base, range(n), normals(n, dim, 1, 'base'));
      const factors = kernels.createRows(n, rank, 'f32');
      kernels.scatterRows(factors, range(n), normals(n, rank, 1, 'A'));
      const cross = new Float64Array(rank * dim);
      const gram = new Float64Array(rank * rank);
      const slots = range(n).map((i) => (i % 7 === 0 ? -1 : n - 1 - i));
      const rows = range(n).map((i) => (i * 11) % n);
      const counted = kernels.createRows(n, rank, 'f32');
      kernels.scatterRows(counted, range(n), normals(n, rank, 1, 'before'));
      kernels.addRowProducts({ base, rows, factors, slots, counted, cross, gram });
      counted.close();
      base.close();
      factors.close();
      return Float64Array.of(...cross, ...gram);
    };
    const expected = run(portable);
    for (const set of instructionSets(addon)) {
      const found = run(native(addon, 1, set));
      found.forEach((x, i) => expect(Math.abs(x - expected[i]!)).toBeLessThan(2e-3));
      for (const threads of [2, 3, 8]) expect(run(native(addon, threads, set))).toEqual(found);
    }
  }
});

test('an update with products gives the bytes of one without, then of addRowProducts', (context) => {
  const addon = needAddon(context);
  const n = 900;
  const [dim, rank] = [20, 6];
  const run = (kernels: Kernels, apart: boolean): Float64Array => {
    const store = (cols: number, name: string) => {
      const rows = kernels.createRows(n, cols, 'f32');
      kernels.scatterRows(rows, range(n), normals(n, cols, 1, name));
      return rows;
    };
    const base = store(dim, 'base');
    const [parameters, counted] = [store(rank, 'A'), store(rank, 'before')];
    const [cross, gram] = [new Float64Array(rank * dim), new Float64Array(rank * rank)];
    const slots = range(n).map((i) => n - 1 - i);
    const products = { base, rows: range(n).map((i) => (i * 7) % n), counted, cross, gram };
    const rule = { type: 'sgd', learningRate: 0.1, weightDecay: 0, decay: 'l2', momentum: 0 } as const;
    const gradients = normals(n, rank, 1, 'gradients');
    const args = { rule, step: 1, parameters, state: [], slots, gradients };
    kernels.updateRows({ ...args, products: apart ? null : products });
    if (apart) kernels.addRowProducts({ ...products, factors: parameters, slots });
    const after = matrix(n, rank);
    const kept = matrix(n, rank);
    kernels.gatherRows(parameters, range(n), after);
    kernels.gatherRows(counted, range(n), kept);
    expect(kept.data).toEqual(after.data);
    for (const each of [base, parameters, counted]) each.close();
    return Float64Array.of(...cross, ...gram, ...after.data);
  };
  for (const kernels of [portable, ...instructionSets(addon).map((set) => native(addon, 1, set))]) {
    const expected = run(kernels, true);
    for (const threads of [1, 2, 3, 8]) expect(run(kernels.withThreads(threads), false)).toEqual(expected);
  }
});

describe('chosen deltas', () => {
  const V = 500;
  const run = (kernels: Kernels, { rank, dim, seed }: { rank: number; dim: number; seed: number }) => {
    const random = new RandomStream(seed, 'chosen');
    const bags = Array.from({ length: 60 }, (_, b) =>
      Array.from({ length: b % 5 }, (_, i) => random.below(b * 5 + i, V)),
    );
    const plan = makePlan(jagged(bags), V);
    const ranks = [rank, 1, null, 9];
    const deltas = ranks.map((r, i) => {
      const factors = kernels.createRows(V, r ?? dim, 'f32');
      kernels.scatterRows(factors, range(V), normals(V, r ?? dim, seed, `A${i}`));
      const slots = new Int32Array(2 * 1024).fill(-1);
      const rows = range(V).filter((row) => (row + i) % 3 > 0);
      kernels.insertSlots(slots, rows, new Int32Array(rows.length).fill(-1), 0);
      return { factors, slots, b: r === null ? null : normals(r, dim, seed, `B${i}`), scale: 1 + i };
    });
    const bagDeltas = Int32Array.from(bags, (_, b) => (b % 6) - 1).map((x) => Math.min(x, 3));
    const out = normals(60, dim, seed, 'out');
    kernels.addChosen({ plan, deltas, bagDeltas, out });
    for (const { factors } of deltas) factors.close();
    return out;
  };

  test('agree with the portable kernels, for any number of threads', (context) => {
    const addon = needAddon(context);
    for (const set of instructionSets(addon)) {
      for (const shape of [
        { rank: 3, dim: 7, seed: 1 },
        { rank: 8, dim: 64, seed: 2 },
        { rank: 20, dim: 130, seed: 3 },
      ]) {
        const expected = run(portable, shape);
        const found = run(native(addon, 1, set), shape);
        found.data.forEach((x, i) => expect(Math.abs(x - expected.data[i]!)).toBeLessThan(1e-4));
        for (const threads of [2, 3, 8])
          expect(bytes(run(native(addon, threads, set), shape)).equals(bytes(found))).toBe(true);
      }
    }
  });
});

describe('matmul', () => {
  const product = (
    kernels: typeof portable,
    [m, k, n]: readonly number[],
    transpose: 'a' | 'b' | null,
    absolute = false,
  ) => {
    const a = transpose === 'a' ? normals(k!, m!, 1, 'a', absolute) : normals(m!, k!, 1, 'a', absolute);
    const b = transpose === 'b' ? normals(n!, k!, 2, 'b', absolute) : normals(k!, n!, 2, 'b', absolute);
    const out = matrix(m!, n!);
    out.data.fill(NaN);
    const args: MatmulArgs = {
      a,
      b,
      out,
      transposeA: transpose === 'a',
      transposeB: transpose === 'b',
      scale: absolute ? 0.5 : -0.5,
    };
    kernels.matmul(args);
    return out.data;
  };
  const size = fc.oneof(fc.constantFrom(1, 6, 7, 8, 16, 17), fc.integer({ min: 1, max: 90 }));

  test('agrees with the portable kernels', (context) => {
    const addon = needAddon(context);
    for (const set of instructionSets(addon)) {
      const kernels = native(addon, 2, set);
      fc.assert(
        fc.property(
          fc.tuple(size, fc.oneof(size, fc.constantFrom(256, 257, 600, 1500)), size),
          fc.constantFrom('a', 'b', null),
          (shape, transpose) => {
            const [found, expected] = [product(kernels, shape, transpose), product(portable, shape, transpose)];
            expect(
              firstBeyondRounding(found, expected, product(portable, shape, transpose, true), shape[1]),
            ).toBeNull();
          },
        ),
        { numRuns: 60 },
      );
    }
  });

  test('does not depend on threads', (context) => {
    const addon = needAddon(context);
    for (const [shape, transpose] of [
      [[8, 9000, 64], 'a'],
      [[4096, 64, 8], 'b'],
      [[500, 300, 1000], null],
      [[300, 256, 400], 'a'],
    ] as const) {
      const one = product(native(addon, 1), shape, transpose);
      for (const threads of [2, 3, 8])
        expect(bytes(product(native(addon, threads), shape, transpose)).equals(bytes(one))).toBe(true);
    }
  });
});

test('dense operations agree, and do not depend on threads', (context) => {
  const addon = needAddon(context);
  const shapes = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 70 }), fc.nat());
  const run = (kernels: typeof portable, rows: number, cols: number, seed: number) => {
    const x = normals(rows, cols, seed, 'x');
    const scaled = matrix(rows, cols, x.data.slice());
    kernels.scaleInPlace(scaled.data, 3);
    const labels = Int32Array.from({ length: rows }, (_, i) => (i * 5) % cols);
    const losses = new Float32Array(rows);
    const gradient = matrix(rows, cols);
    kernels.softmaxCrossEntropy({ logits: scaled, labels, losses, gradient, scale: 2 });
    const norms = new Float32Array(rows);
    const unit = matrix(rows, cols, x.data.slice());
    kernels.normalizeRows(unit, norms);
    const back = normals(rows, cols, seed, 'g');
    kernels.normalizeRowsBackward(unit, norms, back);
    const vectors = ['p', 'q', 'r', 's', 't', 'u', 'v'].map((name) => normals(rows, cols, seed, name));
    const pairs = matrix(rows, 23);
    kernels.pairDots({ vectors, out: pairs, firstColumn: 1 });
    const outs = vectors.map(() => matrix(rows, cols));
    kernels.pairDotsBackward({ vectors, gradient: normals(rows, 22, seed, 'h'), outs });
    // Bags of 0, 1, … 6 places.
    const offsets = new Int32Array(rows + 1);
    for (let i = 0; i < rows; i++) offsets[i + 1] = offsets[i]! + (i % 7);
    const places = offsets[rows]!;
    const y = normals(places, cols, seed, 'y');
    const dots = new Float32Array(places);
    kernels.bagDots({ x, y, offsets, out: dots });
    const [xOut, yOut] = [matrix(rows, cols), matrix(places, cols)];
    const factors = normals(places, 1, seed, 'z').data;
    kernels.bagDotsBackward({ x, y, offsets, gradient: factors, xOut, yOut });
    const named = Int32Array.from({ length: places }, (_, j) => (j * 5 + (seed % 7)) % Math.max(1, rows));
    const some = normals(rows, cols, seed, 'some');
    const [namedDots, namedX, namedY] = [new Float32Array(places), matrix(rows, cols), matrix(rows, cols)];
    kernels.bagDots({ x, y: some, offsets, places: named, out: namedDots });
    kernels.bagDotsBackward({ x, y: some, offsets, places: named, gradient: factors, xOut: namedX, yOut: namedY });
    const sums = new Float32Array(cols);
    kernels.sumRows(x, sums);
    kernels.addToRows(x, sums);
    return {
      scaled: scaled.data,
      losses,
      gradient: gradient.data,
      norms,
      unit: unit.data,
      back: back.data,
      pairs: pairs.data,
      first: outs[0]!.data,
      middle: outs[3]!.data,
      last: outs[6]!.data,
      dots,
      xOut: xOut.data,
      yOut: yOut.data,
      namedDots,
      namedX: namedX.data,
      namedY: namedY.data,
      sums,
      x: x.data,
      squares: Float32Array.of(kernels.sumSquares(x.data)),
    };
  };
  for (const set of instructionSets(addon)) {
    fc.assert(
      fc.property(shapes, ([rows, cols, seed]) => {
        const expected = run(portable, rows, cols, seed);
        for (const [name, found] of Object.entries(run(native(addon, 2, set), rows, cols, seed))) {
          const wanted = expected[name as keyof typeof expected];
          // Values are of order 1 to 20: 4e-5 is 32 roundings of 20, more than any of these makes (70 terms, in 4 or more
          // lanes), and far below what a wrong formula would give.
          expect(
            wanted.findIndex((x, i) => !(Math.abs(x - found[i]!) <= 4e-5 + 4e-6 * Math.abs(x))),
            name,
          ).toBe(-1);
        }
      }),
      { numRuns: 40 },
    );
  }
  const one = run(native(addon, 1), 3000, 65, 7);
  for (const threads of [2, 3, 8]) {
    for (const [name, found] of Object.entries(run(native(addon, threads), 3000, 65, 7))) {
      expect(bytes(found).equals(bytes(one[name as keyof typeof one])), name).toBe(true);
    }
  }
});

test('exponentials of the softmax are right to 3 ulp wherever their product with 1 / sum is a normal number', (context) => {
  const addon = needAddon(context);
  for (const set of instructionSets(addon)) {
    const cols = 4096;
    const logits = matrix(
      1,
      cols,
      Float32Array.from({ length: cols }, (_, i) => (-82 * i) / (cols - 1)),
    );
    const gradient = matrix(1, cols);
    native(addon, 1, set).softmaxCrossEntropy({
      logits,
      labels: Int32Array.of(cols - 1),
      losses: new Float32Array(1),
      gradient,
    });
    let sum = 0;
    for (const x of logits.data) sum += Math.exp(x);
    // 3 ulp of the exponential, and one each for the factor 1 / sum and the product with it.
    const worst = logits.data
      .subarray(0, cols - 1)
      .reduce((most, x, i) => Math.max(most, Math.abs((gradient.data[i]! * sum) / Math.exp(x) - 1)), 0);
    expect(worst).toBeLessThan(5 * 2 ** -23);
  }
});

test('searches find the first bad value wherever it stands', (context) => {
  const addon = needAddon(context);
  for (const set of instructionSets(addon)) {
    const one = addon.createContext(set, 1)!;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1300 }), fc.integer({ min: 0, max: 1300 }), (length, at) => {
        const values = Int32Array.from({ length }, (_, i) => i % 1000);
        expect(addon.firstOutside(one, values, -1, 1000)).toBe(-1);
        const repeated = Int32Array.from({ length }, (_, i) => i + 1);
        expect(addon.firstDescent(one, repeated)).toBe(-1);
        expect(addon.firstRepeated(repeated)).toBe(-1);
        if (at >= length) return;
        for (const bad of [-2, 1000, 0x7fffffff, -0x80000000]) {
          values[at] = bad;
          expect(addon.firstOutside(one, values, -1, 1000)).toBe(at);
        }
        if (at === 0) return;
        repeated[at] = 0;
        expect(addon.firstDescent(one, repeated)).toBe(at);
        repeated[at] = 1;
        expect(addon.firstRepeated(repeated)).toBe(at);
        // What one search marked must not trouble the next.
        expect(addon.firstRepeated(Int32Array.from({ length }, (_, i) => i))).toBe(-1);
      }),
      { numRuns: 50 },
    );
  }
});

test('a lookup leaves memory beside its outputs alone', (context) => {
  const kernels = native(needAddon(context));
  for (const dim of [1, 7, 9, 63]) {
    const x: LookupCase = {
      seed: 2,
      tableRows: 9,
      dim,
      rank: 3,
      bagSizes: [2, 0, 1],
      weighted: false,
      touched: 1,
      dtype: 'f16',
      shards: 1,
    };
    const fenced = new Float32Array(3 * dim + 32).fill(7);
    kernels.lookup({
      base: shardsOf(kernels, x),
      plan: planOf(x),
      out: matrix(3, dim, fenced.subarray(16, 16 + 3 * dim)),
    });
    expect([...fenced.subarray(0, 16), ...fenced.subarray(16 + 3 * dim)]).toEqual(new Array<number>(32).fill(7));
  }
});
