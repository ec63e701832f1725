/** Answers worked out by hand, for both implementations. */
import { bf16ToF32, f16ToF32, jagged, makePlan, matrix, type Matrix, type RowDtype } from '@finetable/core';
import fc from 'fast-check';
import { expect } from 'vitest';
import type { Kernels, RowStore } from './kernels.ts';
import { inOneStore, lookupCases, runLookup } from './testing/cases.ts';
import { testBoth } from './testing/implementations.ts';

const of = (rows: number, ...values: number[]): Matrix => matrix(rows, values.length / rows, Float32Array.from(values));

function storeOf(kernels: Kernels, values: Matrix, dtype: RowDtype = 'f32'): RowStore {
  const store = kernels.createRows(values.rows, values.cols, dtype);
  kernels.scatterRows(
    store,
    Int32Array.from({ length: values.rows }, (_, i) => i),
    values,
  );
  return store;
}

testBoth('lookup adds up rows with weights, an empty bag gives zeros', (kernels) => {
  const store = storeOf(kernels, of(3, 1, 2, 3, 4, 5, 6));
  const plan = makePlan(jagged([[0, 2], [], [1]], [[2, -1], [], [0.5]]), 3);
  const out = matrix(3, 2);
  kernels.lookup({ base: [{ store, firstRow: 0 }], plan, out });
  expect([...out.data]).toEqual([2 * 1 - 5, 2 * 2 - 6, 0, 0, 1.5, 2]);
});

testBoth('the delta is s Ā B, over touched rows alone', (kernels) => {
  const store = storeOf(kernels, of(3, 1, 2, 3, 4, 5, 6), 'f16');
  const plan = makePlan(jagged([[0, 2], [1]]), 3);
  const factors = storeOf(kernels, of(2, 10, 100, 1, 2));
  // Rows 0, 1, 2 have slots 1, none, 0; the second bag has no touched row.
  const delta = { factors, slots: Int32Array.of(1, -1, 0), b: of(2, 1, 0, 0, 3), scale: 2 };
  const out = matrix(2, 2);
  const pooledFactors = matrix(2, 2);
  kernels.lookup({ base: [{ store, firstRow: 0 }], plan, delta, out, pooledFactors });
  expect([...pooledFactors.data]).toEqual([11, 102, 0, 0]);
  expect([...out.data]).toEqual([6 + 2 * 11, 8 + 2 * 3 * 102, 3, 4]);
});

testBoth(
  'the base is kept before the delta, and columns are multiplied last, in bags without touched rows too',
  (kernels) => {
    const store = storeOf(kernels, of(2, 1, 2, 3, 4));
    const plan = makePlan(jagged([[0], [1], []]), 2);
    const factors = storeOf(kernels, of(1, 10));
    const pooledBase = matrix(3, 2);
    const columns = Float32Array.of(2, 0);
    const delta = { factors, slots: Int32Array.of(0, -1), b: of(1, 1, 2), scale: 1, columns, pooledBase };
    const out = matrix(3, 2);
    for (const base of [true, false]) {
      pooledBase.data.fill(NaN);
      if (base) kernels.lookup({ base: [{ store, firstRow: 0 }], plan, delta, out });
      else {
        kernels.lookup({ base: [{ store, firstRow: 0 }], plan, out });
        kernels.addDelta({ plan, delta, out });
      }
      expect([...pooledBase.data]).toEqual([1, 2, 3, 4, 0, 0]);
      expect([...out.data]).toEqual([22, 0, 6, 0, 0, 0]);
    }
    kernels.lookup({ base: [{ store, firstRow: 0 }], plan, delta: { ...delta, pooledBase: null }, out });
    expect([...out.data]).toEqual([22, 0, 6, 0, 0, 0]);
    kernels.lookup({ base: [{ store, firstRow: 0 }], plan, delta: { ...delta, columns: null }, out });
    expect([...out.data]).toEqual([11, 22, 3, 4, 0, 0]);
  },
);

testBoth('a dense delta has no B', (kernels) => {
  const store = storeOf(kernels, of(2, 1, 2, 3, 4));
  const plan = makePlan(jagged([[0, 1, 0]]), 2);
  const delta = { factors: storeOf(kernels, of(1, 0.5, 0.25)), slots: Int32Array.of(0, -1), b: null, scale: 4 };
  const out = matrix(1, 2);
  kernels.lookup({ base: [{ store, firstRow: 0 }], plan, delta, out });
  expect([...out.data]).toEqual([5 + 4, 8 + 2]);
});

testBoth('lookup in every dtype; what is not a number stays that', (kernels) => {
  // Exact in every dtype: the largest of each row is 7 or 127 times a power of two.
  const values = { f32: 7, f16: 7, bf16: 7, int8: 127, int4: 7 };
  const plan = makePlan(jagged([[0, 1, 0], [1], [0, 1, 0, 1, 0]], [[1, 0.5, 1], [-1], [1, 2, 3, 4, 5]]), 2);
  for (const [dtype, most] of Object.entries(values)) {
    const store = storeOf(kernels, of(2, most, -1, 0, 2, 3, -4 * most, 8, 4, 0, -8), dtype as RowDtype);
    const out = matrix(3, 5);
    kernels.lookup({ base: [{ store, firstRow: 0 }], plan, out });
    expect([...out.data], dtype).toEqual([
      ...[0, 2, 2, 4, 2],
      ...[4 * most, -8, -4, 0, 8],
      ...[-15 * most, 39, 24, 18, -21],
    ]);
  }
  const special = [NaN, Infinity, -Infinity, 2 ** -24, -0, 2 ** -14];
  for (const dtype of ['f32', 'f16', 'bf16'] as const) {
    const store = storeOf(kernels, of(1, ...special), dtype);
    const out = matrix(2, 6);
    kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([[0], [0, 0, 0, 0]]), 1), out });
    const sums = [NaN, Infinity, -Infinity, 2 ** -22, 0, 2 ** -12];
    expect([...out.data], dtype).toEqual([NaN, Infinity, -Infinity, 2 ** -24, 0, 2 ** -14, ...sums]);
  }
});

testBoth('every f16 and bf16 has its value, alone and in sums of four', (kernels) => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const ids = [[0, 1, 2, 3], [7], [500, 40, 1000, 300, 700, 0, 1023, 512], [13, 13, 13, 13, 13]];
  const weights = ids.map((bag) => bag.map((_, i) => 0.5 * (i + 1)));
  for (const [dtype, valueOf] of [['f16', f16ToF32] as const, ['bf16', bf16ToF32] as const]) {
    const store = kernels.createRows(1024, 64, dtype);
    kernels.writeBytes(store, 0, new Uint8Array(bits.buffer));
    const alone = matrix(1024, 64);
    const plan = makePlan(jagged(Array.from({ length: 1024 }, (_, row) => [row])), 1024);
    kernels.lookup({ base: [{ store, firstRow: 0 }], plan, out: alone });
    expect(alone.data).toEqual(Float32Array.from(bits, (x) => valueOf(x) + 0));
    const out = matrix(ids.length, 64);
    kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged(ids, weights), 1024), out });
    const value = (row: number, c: number): number => valueOf(bits[row * 64 + c]!);
    ids.forEach((bag, b) => {
      for (let c = 0; c < 64; c++) {
        let sum = 0;
        let i = 0;
        for (; i + 4 <= bag.length; i += 4) {
          const [w0, w1, w2, w3] = weights[b]!.slice(i) as [number, number, number, number];
          const [r0, r1, r2, r3] = bag.slice(i) as [number, number, number, number];
          sum = Math.fround(sum + w0 * value(r0, c) + w1 * value(r1, c) + w2 * value(r2, c) + w3 * value(r3, c));
        }
        for (; i < bag.length; i++) sum = Math.fround(sum + weights[b]![i]! * value(bag[i]!, c));
        expect(out.data[b * 64 + c], `${dtype}, bag ${b}, column ${c}`).toBe(sum);
      }
    });
    store.close();
  }
});

testBoth('a bag longer than a block, and empty bags between', (kernels) => {
  // Sums of whole numbers are exact, so any order gives them.
  for (const dtype of ['f32', 'f16', 'bf16', 'int8', 'int4'] as const) {
    for (const dim of [8, 10, 64]) {
      const most = dtype === 'int4' ? 7 : 127;
      const rows = matrix(16, dim);
      rows.data.forEach((_, i) => (rows.data[i] = i % dim === 0 ? most : ((i * 5) % (2 * most + 1)) - most));
      const store = storeOf(kernels, rows, dtype);
      const bags = [801, 0, 3, 0, 0, 258, 1].map((n, b) => Array.from({ length: n }, (_, i) => (7 * i + b) % 16));
      const out = matrix(bags.length, dim);
      kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged(bags), 16), out });
      const sums = bags.flatMap((bag) =>
        Array.from({ length: dim }, (_, c) => bag.reduce((sum, row) => sum + rows.data[row * dim + c]!, 0)),
      );
      expect([...out.data], `${dtype}, D = ${dim}`).toEqual(sums);
      store.close();
    }
  }
});

testBoth('an overlay stands in for rows of the shards, or for all of them', (kernels) => {
  const store = storeOf(kernels, of(3, 1, 2, 3, 4, 5, 6));
  const [left, right] = [storeOf(kernels, of(2, 1, 3)), storeOf(kernels, of(2, 2, 4))];
  const copies = storeOf(kernels, of(2, 10, 20, 30, 40));
  const plan = makePlan(jagged([[0, 2], [1]]), 3);
  const out = matrix(2, 2);
  const slots = Int32Array.of(1, -1, 0);
  kernels.lookup({ base: [{ store, firstRow: 0 }], overlay: { rows: copies, slots }, plan, out });
  expect([...out.data]).toEqual([40, 60, 3, 4]);
  // Row 2 is in the overlay alone; the columns are in two stores.
  const base = [
    { store: left, firstRow: 0, firstColumn: 0 },
    { store: right, firstRow: 0, firstColumn: 1 },
  ];
  kernels.lookup({ base, overlay: { rows: copies, slots: Int32Array.of(-1, -1, 1) }, plan, out });
  expect([...out.data]).toEqual([31, 42, 3, 4]);
  kernels.lookup({ base: [], overlay: { rows: copies, slots: Int32Array.of(0, 1, 0) }, plan, out });
  expect([...out.data]).toEqual([20, 40, 30, 40]);
});

testBoth(
  'a table cut by rows and columns, with and without copies of its rows, gives the bytes of one store',
  (kernels) => {
    const bytes = ({ data }: Matrix) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    fc.assert(
      fc.property(lookupCases, (x) => {
        const whole = runLookup(kernels, inOneStore(x));
        const cut = runLookup(kernels, x);
        expect(bytes(cut.out).equals(bytes(whole.out))).toBe(true);
        if (whole.pooled) expect(bytes(cut.pooled!).equals(bytes(whole.pooled))).toBe(true);
      }),
      { numRuns: 60 },
    );
  },
);

testBoth('lookupAsync throws bad arguments at once and settles with the result', async (kernels) => {
  const store = storeOf(kernels, of(3, 1, 2, 3, 4, 5, 6));
  const plan = makePlan(jagged([[0, 2]]), 3);
  const out = matrix(1, 2);
  const args = { base: [{ store, firstRow: 0 }], plan, out };
  expect(() => kernels.lookupAsync({ ...args, out: matrix(2, 2) })).toThrow('lookupAsync: out');
  await expect(kernels.lookupAsync(args)).resolves.toBeUndefined();
  expect([...out.data]).toEqual([6, 8]);
});

testBoth('addChosen gives each bag its own delta, of its own rank', (kernels) => {
  const plan = makePlan(jagged([[5, 7], [5], [7], [7]], [[1, 2], [10], [1], [1]]), 10);
  const filled = (dim: number, ...values: number[]) => {
    const store = kernels.createRows(2, dim, 'f32');
    kernels.scatterRows(store, Int32Array.of(0, 1), of(2, ...values));
    return store;
  };
  const tableOf = (rows: number[], first = 0): Int32Array => {
    const table = new Int32Array(8).fill(-1);
    kernels.insertSlots(table, Int32Array.from(rows), new Int32Array(rows.length).fill(-1), first);
    return table;
  };
  const deltas = [
    { factors: filled(1, 9, 2), slots: tableOf([5], 1), b: of(1, 10, 20), scale: 0.5 },
    { factors: filled(2, 1, 2, 3, 4), slots: tableOf([5, 7]), b: null, scale: 2 },
  ];
  const out = of(4, 1, 1, 1, 1, 1, 1, 1, 1);
  // Bag 0 has delta 1, bag 1 delta 0, bag 2 none, bag 3 a row that delta 0 has not.
  const args = { plan, deltas, bagDeltas: Int32Array.of(1, 0, -1, 0), out };
  kernels.addChosen(args);
  // 1 + 2 (1·[1, 2] + 2·[3, 4]); 1 + 0.5 · 10 · 2 · [10, 20]
  expect([...out.data]).toEqual([15, 21, 101, 201, 1, 1, 1, 1]);
  const beyond = { ...deltas[0]!, slots: tableOf([5], 2) };
  expect(() => kernels.addChosen({ ...args, deltas: [beyond, deltas[1]!] })).toThrow(
    'addChosen: deltas have a slot beyond their factors',
  );
  expect(() => kernels.addChosen({ ...args, bagDeltas: Int32Array.of(2, 0, 0, 0) })).toThrow('addChosen: bagDeltas');
  expect(() =>
    kernels.addChosen({ ...args, deltas: [{ ...deltas[0]!, slots: new Int32Array(6) }, deltas[1]!] }),
  ).toThrow('addChosen: table must have');
});

testBoth(
  'addRowProducts adds what rows of A that changed add to products with the base and with themselves',
  (kernels) => {
    const rowsOfBase = of(3, 1, 2, 3, 4, 5, 6);
    const base = kernels.createRows(3, 2, 'f32');
    kernels.scatterRows(base, Int32Array.of(0, 1, 2), rowsOfBase);
    const [factors, counted] = [kernels.createRows(4, 1, 'f32'), kernels.createRows(4, 1, 'f32')];
    kernels.scatterRows(factors, Int32Array.of(0, 3), of(2, 10, 20));
    kernels.scatterRows(counted, Int32Array.of(0, 3), of(2, 9, 18));
    const cross = Float64Array.of(100, 200);
    const gram = Float64Array.of(1000);
    const rows = Int32Array.of(2, 0, 1);
    const args = { base, rows, factors, slots: Int32Array.of(3, -1, 0), counted, cross, gram };
    kernels.addRowProducts(args);
    expect([...cross]).toEqual([100 + 2 * 5 + 3, 200 + 2 * 6 + 4]);
    expect([...gram]).toEqual([1000 + 400 - 324 + 100 - 81]);
    kernels.addRowProducts(args); // counted
    expect([...cross]).toEqual([100 + 2 * 5 + 3, 200 + 2 * 6 + 4]);
    const fromZero = new Float64Array(1);
    kernels.addRowProducts({ ...args, counted: null, gram: fromZero });
    expect(fromZero[0]).toBe(400 + 100);
    const fromMatrix = Float64Array.of(0, 0);
    kernels.addRowProducts({ ...args, base: rowsOfBase, counted: null, cross: fromMatrix });
    expect([...fromMatrix]).toEqual([20 * 5 + 10 * 3, 20 * 6 + 10 * 4]);
    expect(() => kernels.addRowProducts({ ...args, counted: factors })).toThrow('addRowProducts: counted');
    expect(() => kernels.addRowProducts({ ...args, rows: Int32Array.of(3, 0, 0) })).toThrow('addRowProducts: rows');
    expect(() => kernels.addRowProducts({ ...args, slots: Int32Array.of(4, 0, 0) })).toThrow('addRowProducts: slots');
    expect(() => kernels.addRowProducts({ ...args, cross: gram })).toThrow('addRowProducts: cross must have 2 values');
  },
);

testBoth('segmentSum gives each unique row its bags, weighted', (kernels) => {
  const plan = makePlan(jagged([[5, 7], [5]], [[1, 2], [10]]), 10);
  const out = matrix(2, 2);
  kernels.segmentSum({ plan, values: of(2, 1, 2, 3, 4), out });
  expect([...out.data]).toEqual([1 + 30, 2 + 40, 2, 4]);
  const chosen = matrix(3, 2);
  const values = of(2, 1, 2, 3, 4);
  kernels.segmentSum({ plan, values, uniques: Int32Array.of(1, 0, 1), out: chosen });
  expect([...chosen.data]).toEqual([2, 4, 1 + 30, 2 + 40, 2, 4]);
  kernels.segmentSum({ plan, values, uniques: new Int32Array(0), out: matrix(0, 2) });
});

testBoth('the three products, scaled', (kernels) => {
  const a = of(2, 1, 2, 3, 4, 5, 6);
  const b = of(2, 1, 0, 2, 0, 1, 3);
  const nt = matrix(2, 2);
  kernels.matmul({ a, b, out: nt, transposeB: true, scale: 2 });
  expect([...nt.data]).toEqual([14, 22, 32, 46]);
  const tn = matrix(3, 3);
  kernels.matmul({ a, b, out: tn, transposeA: true });
  expect([...tn.data]).toEqual([1, 4, 14, 2, 5, 19, 3, 6, 24]);
  const nn = matrix(2, 1);
  kernels.matmul({ a, b: of(3, 1, 1, 2), out: nn });
  expect([...nn.data]).toEqual([9, 21]);
});

testBoth('a product over no terms is zero', (kernels) => {
  const out = of(2, 7, 7, 7, 7);
  kernels.matmul({ a: matrix(2, 0), b: matrix(0, 2), out });
  expect([...out.data]).toEqual([0, 0, 0, 0]);
});

testBoth('row sums and additions', (kernels) => {
  const x = of(3, 1, 2, 3, 4, 5, 6);
  const sums = new Float32Array(2);
  kernels.sumRows(x, sums);
  expect([...sums]).toEqual([9, 12]);
  kernels.addToRows(x, Float32Array.of(10, 20));
  expect([...x.data]).toEqual([11, 22, 13, 24, 15, 26]);
  kernels.columnDots(x, of(3, 1, 0, 0, 1, 2, 3), sums);
  expect([...sums]).toEqual([11 + 30, 24 + 78]);
  kernels.scaleColumns(x, Float32Array.of(2, -1));
  expect([...x.data]).toEqual([22, -22, 26, -24, 30, -26]);
});

testBoth('cross-entropy of equal logits is ln C; its gradient may overwrite the logits', (kernels) => {
  const logits = of(2, 3, 3, 3, 3, 1000, 0, 0, 0);
  const losses = new Float32Array(2);
  kernels.softmaxCrossEntropy({ logits, labels: Int32Array.of(2, 0), losses, gradient: logits, scale: 0.5 });
  expect(losses[0]).toBeCloseTo(Math.log(4), 6);
  expect(losses[1]).toBe(0);
  expect([...logits.data]).toEqual([0.125, 0.125, -0.375, 0.125, 0, 0, 0, 0]);
});

testBoth('a NaN among the logits makes the loss NaN', (kernels) => {
  for (const at of [0, 3, 8]) {
    const logits = matrix(1, 9);
    logits.data[at] = NaN;
    const losses = new Float32Array(1);
    kernels.softmaxCrossEntropy({ logits, labels: Int32Array.of(4), losses });
    expect(losses[0]).toBeNaN();
  }
});

testBoth('dots of all pairs of an example, and their gradient', (kernels) => {
  // Two examples of three vectors.
  const vectors = [of(2, 1, 2, 1, 0), of(2, 3, 4, 0, 1), of(2, 5, 6, 2, 2)];
  const out = of(2, 9, 0, 0, 0, 9, 9, 0, 0, 0, 9);
  kernels.pairDots({ vectors, out, firstColumn: 1 });
  // (1, 0), (2, 0), (2, 1); the columns beside them stay.
  expect([...out.data]).toEqual([9, 11, 17, 39, 9, 9, 0, 2, 2, 9]);
  const outs = [matrix(2, 2), null, matrix(2, 2)];
  const gradient = of(2, 9, 1, 10, 100, 9, 9, 1, 0, -1, 9);
  kernels.pairDotsBackward({ vectors, gradient, firstColumn: 1, outs });
  expect([...outs[0]!.data]).toEqual([1 * 3 + 10 * 5, 1 * 4 + 10 * 6, 0, 1]);
  expect([...outs[2]!.data]).toEqual([10 * 1 + 100 * 3, 10 * 2 + 100 * 4, 0, -1]);
});

testBoth('a vector does not reach its own gradient', (kernels) => {
  const vectors = [of(1, Infinity), of(1, 2), of(1, 3)];
  const outs = [matrix(1, 1), matrix(1, 1), matrix(1, 1)];
  kernels.pairDotsBackward({ vectors, gradient: of(1, 1, 1, 1), outs });
  expect(outs.map(({ data }) => data[0])).toEqual([5, Infinity, Infinity]);
});

testBoth('dots of a vector with each of a bag, and their gradient', (kernels) => {
  const x = of(3, 1, 2, 3, 4, 5, 6);
  const y = of(3, 1, 0, 0, 1, 2, 2);
  const offsets = Int32Array.of(0, 2, 2, 3);
  const out = new Float32Array(3);
  kernels.bagDots({ x, y, offsets, out });
  expect([...out]).toEqual([1, 2, 22]);
  const [xOut, yOut] = [matrix(3, 2), matrix(3, 2)];
  for (const m of [xOut, yOut]) m.data.fill(7);
  kernels.bagDotsBackward({ x, y, offsets, gradient: Float32Array.of(10, 100, -1), xOut, yOut });
  expect([...xOut.data]).toEqual([10, 100, 0, 0, -2, -2]);
  expect([...yOut.data]).toEqual([10, 20, 100, 200, -5, -6]);
});

testBoth('products of a vector with those at its places, which several may name', (kernels) => {
  const x = of(2, 1, 2, 3, 4);
  const y = of(3, 1, 0, 0, 1, 9, 9);
  const offsets = Int32Array.of(0, 3, 5);
  const places = Int32Array.of(1, 0, 1, 0, 1);
  const out = new Float32Array(5);
  kernels.bagDots({ x, y, offsets, places, out });
  expect([...out]).toEqual([2, 1, 2, 3, 4]);
  const [xOut, yOut] = [matrix(2, 2), matrix(3, 2)];
  for (const m of [xOut, yOut]) m.data.fill(7);
  kernels.bagDotsBackward({ x, y, offsets, places, gradient: Float32Array.of(1, 10, 100, 2, -1), xOut, yOut });
  expect([...xOut.data]).toEqual([10, 101, 2, -1]);
  // Row 0: 10 x_0 + 2 x_1; row 1: 101 x_0 - x_1; nobody names row 2.
  expect([...yOut.data]).toEqual([16, 28, 98, 198, 0, 0]);
});

testBoth('normalised rows and their gradient; a zero row stays zero', (kernels) => {
  const x = of(2, 3, 4, 0, 0);
  const norms = new Float32Array(2);
  kernels.normalizeRows(x, norms);
  expect([...norms]).toEqual([5, 0]);
  expect([...x.data]).toEqual([Math.fround(0.6), Math.fround(0.8), 0, 0]);
  const gradient = of(2, 1, 0, 1, 1);
  kernels.normalizeRowsBackward(x, norms, gradient);
  // (g - (g·y) y) / 5 with g·y = 0.6; rounding of 0.6 and 0.8 to f32 leaves about 1e-8.
  expect(gradient.data[0]).toBeCloseTo((1 - 0.36) / 5, 7);
  expect(gradient.data[1]).toBeCloseTo((0 - 0.48) / 5, 7);
  expect([...gradient.data.subarray(2)]).toEqual([0, 0]);
});

testBoth('norms of values whose squares leave the range of f32', (kernels) => {
  const x = of(2, 3e30, 4e30, 3e-30, 4e-30);
  const norms = new Float32Array(2);
  kernels.normalizeRows(x, norms);
  expect(norms[0]! / 5e30).toBeCloseTo(1, 6);
  expect(norms[1]! / 5e-30).toBeCloseTo(1, 6);
  expect(kernels.sumSquares(Float32Array.of(1e30, 1e-30)) / 1e60).toBeCloseTo(1, 6);
});

testBoth('scaling, sums of squares, and the first value that is not finite', (kernels) => {
  const x = Float32Array.of(1, -2, 3);
  expect(kernels.sumSquares(x)).toBe(14);
  kernels.scaleInPlace(x, -0.5);
  expect([...x]).toEqual([-0.5, 1, -1.5]);
  expect(kernels.firstNonFinite(x)).toBe(-1);
  for (const [bad, at] of [
    [NaN, 0],
    [Infinity, 700],
    [-Infinity, 1999],
  ] as const) {
    const long = new Float32Array(2000);
    long[1999] = NaN;
    long[at] = bad;
    expect(kernels.firstNonFinite(long)).toBe(at);
  }
});

testBoth('empty inputs are allowed', (kernels) => {
  const store = kernels.createRows(1, 4, 'f32');
  const plan = makePlan(jagged([]), 1);
  kernels.lookup({ base: [{ store, firstRow: 0 }], plan, out: matrix(0, 4) });
  kernels.segmentSum({ plan, values: matrix(0, 4), out: matrix(0, 4) });
  kernels.gatherRows(store, new Int32Array(0), matrix(0, 4));
  kernels.sumRows(matrix(0, 2), new Float32Array(2));
  kernels.pairDots({ vectors: [matrix(0, 3), matrix(0, 3)], out: matrix(0, 1) });
  kernels.pairDots({ vectors: [matrix(2, 0), matrix(2, 0)], out: matrix(2, 1) });
  kernels.bagDots({ x: matrix(0, 3), y: matrix(0, 3), offsets: Int32Array.of(0), out: new Float32Array(0) });
  kernels.softmaxCrossEntropy({ logits: matrix(0, 3), labels: new Int32Array(0), losses: new Float32Array(0) });
  expect(kernels.sumSquares(new Float32Array(0))).toBe(0);
  expect(kernels.firstNonFinite(new Float32Array(0))).toBe(-1);
});
