/** Every argument check, on both implementations: what is refused, in which words, and that nothing was written then. */
import { isFinetableError, makePlan, jagged, matrix, type LookupPlan, type Matrix } from '@finetable/core';
import { expect } from 'vitest';
import type {
  Kernels,
  LookupArgs,
  ReplayRowsArgs,
  RowStore,
  StoreDtype,
  UpdateRowsArgs,
  UpdateRule,
} from '../kernels.ts';
import { SkippedSteps } from '../skipped.ts';
import { testBoth } from '../testing/implementations.ts';

type Changes<T> = { [K in keyof T]?: unknown };

/** Asserts that the call is refused with `code` and a message that starts with `where: argument`. */
function refused(call: () => void, where: string, argument: string, code = 'INVALID_ARGUMENT'): void {
  let error: unknown;
  try {
    call();
  } catch (thrown) {
    error = thrown;
  }
  if (!isFinetableError(error)) throw new Error(`${where}, wrong ${argument}: not refused (${String(error)})`);
  expect(error.code, error.message).toBe(code);
  expect(error.message.startsWith(`${where}: ${argument}`), error.message).toBe(true);
}

const shared = new Float32Array(64);

function lookupCase(kernels: Kernels) {
  const store = kernels.createRows(6, 4, 'f32');
  const plan = makePlan(jagged([[5, 1], [5], []], [[1, 2], [3], []]), 6);
  const factors = kernels.createRows(3, 2, 'f32');
  const delta = { factors, slots: Int32Array.of(2, -1), b: matrix(2, 4), scale: 1 };
  const out = matrix(3, 4);
  out.data.fill(7);
  return { base: [{ store, firstRow: 0 }], plan, delta, out, pooledFactors: matrix(3, 2) };
}

testBoth('lookup', (kernels) => {
  const args = lookupCase(kernels);
  const [store] = args.base.map((shard) => shard.store);
  const wrong = (argument: string, changes: Changes<LookupArgs>, code?: string) => {
    refused(() => kernels.lookup({ ...args, ...changes } as LookupArgs), 'lookup', argument, code);
  };
  const wrongPlan = (argument: string, changes: Changes<LookupPlan>, code?: string) => {
    wrong(argument, { plan: { ...args.plan, ...changes } }, code);
  };
  wrongPlan('plan.tableRows', { tableRows: -1 });
  wrongPlan('plan.offsets', { offsets: [0, 2, 3, 3] });
  wrongPlan('plan.offsets', { offsets: new Int32Array(0) });
  wrongPlan('plan.offsets', { offsets: Int32Array.of(1, 2, 3, 3) });
  wrongPlan('plan.offsets', { offsets: Int32Array.of(0, 3, 2, 3) });
  wrongPlan('plan.offsets', { offsets: Int32Array.of(0, 2, 3, 4) });
  wrongPlan('plan.placeRows', { placeRows: [5, 1, 5] });
  wrongPlan('plan.placeRows', { placeRows: Int32Array.of(5, 6, 5) }, 'ID_OUT_OF_RANGE');
  wrongPlan('plan.placeRows', { placeRows: Int32Array.of(5, -1, 5) }, 'ID_OUT_OF_RANGE');
  wrongPlan('plan.placeUnique', { placeUnique: Int32Array.of(1, 0) });
  wrongPlan('plan.placeUnique', { placeUnique: Int32Array.of(1, 0, 2) });
  wrongPlan('plan.placeUnique', { placeUnique: Int32Array.of(1, 0, -1) });
  wrongPlan('plan.weights', { weights: new Float32Array(2) });
  wrongPlan('plan.weights', { weights: new Float64Array(3) });
  wrongPlan('plan.uniqueRows', { uniqueRows: Int32Array.of(1, 6) }, 'ID_OUT_OF_RANGE');
  wrongPlan('plan.uniqueRows', { uniqueRows: Int32Array.of(-1, 5) }, 'ID_OUT_OF_RANGE');
  wrong('out', { out: matrix(2, 4) });
  wrong('out.data', { out: { data: new Float32Array(11), rows: 3, cols: 4 } });
  wrong('out.data', { out: { data: new Float64Array(12), rows: 3, cols: 4 } });
  wrong('base', { out: matrix(3, 5), delta: null, pooledFactors: null });
  wrong('base', { base: [] });
  wrong('base[0].store', { base: [{ store: {}, firstRow: 0 }] });
  wrong('base[0].store', { base: [{ store: kernels.createRows(6, 4, 'i32'), firstRow: 0 }] });
  wrong('base[0].firstRow', { base: [{ store, firstRow: 1 }] });
  wrong('base[1].firstRow', {
    base: [
      { store, firstRow: 0 },
      { store, firstRow: 5 },
    ],
  });
  wrong('base', { base: [{ store: kernels.createRows(5, 4, 'f32'), firstRow: 0 }] });
  const wrongDelta = (argument: string, changes: object) => {
    wrong(argument, { delta: { ...args.delta, ...changes } });
  };
  wrongDelta('delta.factors', { factors: kernels.createRows(3, 2, 'f16') });
  wrongDelta('delta.factors', { b: null });
  wrongDelta('delta.b', { b: matrix(3, 4) });
  wrongDelta('delta.b', { b: matrix(2, 3) });
  wrongDelta('delta.b', { b: matrix(4097, 4), factors: kernels.createRows(3, 4097, 'f32') });
  wrongDelta('delta.scale', { scale: NaN });
  wrongDelta('delta.slots', { slots: Int32Array.of(2) });
  wrongDelta('delta.slots', { slots: Int32Array.of(2, 3) });
  wrongDelta('delta.slots', { slots: Int32Array.of(-2, 2) });
  wrongDelta('delta.columns', { columns: new Float32Array(3) });
  wrongDelta('delta.pooledBase', { pooledBase: matrix(3, 3) });
  wrongDelta('delta.pooledBase', { pooledBase: args.out });
  wrongDelta('delta.pooledBase', { pooledBase: args.delta.b });
  wrongDelta('out', { columns: args.out.data.subarray(0, 4) });
  wrong('pooledFactors', { pooledFactors: matrix(3, 3) });
  wrong('pooledFactors', { delta: null });
  wrong('out', {
    out: matrix(3, 4, shared.subarray(0, 12)),
    delta: { ...args.delta, b: matrix(2, 4, shared.subarray(11, 19)) },
  });
  wrong('pooledFactors', {
    out: matrix(3, 4, shared.subarray(0, 12)),
    pooledFactors: matrix(3, 2, shared.subarray(11, 17)),
  });
  expect([...args.out.data]).toEqual(new Array<number>(12).fill(7));
});

testBoth('lookup through parts and copies', (kernels) => {
  const plan = makePlan(jagged([[5, 1]]), 6);
  const part = (rows: number, dim: number, dtype: 'f32' | 'int4' = 'f32', groupDims?: number) =>
    kernels.createRows(rows, dim, dtype, groupDims);
  const wrong = (argument: string, changes: Changes<LookupArgs>) => {
    const args = { base: [{ store: part(6, 4), firstRow: 0 }], plan, out: matrix(1, 4), ...changes };
    refused(() => kernels.lookup(args as LookupArgs), 'lookup', argument);
  };
  const columns = (first: number, dim: number, rows = 6) => ({
    store: part(rows, dim),
    firstRow: 0,
    firstColumn: first,
  });
  wrong('base', { base: [columns(0, 3)] });
  wrong('base[1].firstColumn', { base: [columns(0, 3), columns(2, 1)] });
  wrong('base', { base: [columns(0, 3), columns(3, 1, 5)] });
  wrong('base[1].store', { base: [columns(0, 3), { store: part(6, 1, 'int4'), firstRow: 0, firstColumn: 3 }] });
  const overlay = { rows: part(2, 4), slots: Int32Array.of(-1, 1) };
  wrong('overlay.rows', { overlay: { ...overlay, rows: part(2, 3) } });
  wrong('overlay.slots', { overlay: { ...overlay, slots: Int32Array.of(-1) } });
  wrong('overlay.slots', { overlay: { ...overlay, slots: Int32Array.of(-1, 2) } });
  // Row 1 is in no shard and has no copy.
  wrong('overlay.slots', { overlay, base: [{ store: part(4, 4), firstRow: 2 }] });
  wrong('overlay.slots', { overlay, base: [] });
  wrong('base[0].firstRow', { base: [{ store: part(4, 4), firstRow: 2 }] });
  const scaled = { rows: part(2, 96, 'int4', 32), slots: Int32Array.of(-1, 1) };
  const int4 = (firstColumn: number, dim: number, groupDims: number) => ({
    store: part(6, dim, 'int4', groupDims),
    firstRow: 0,
    firstColumn,
  });
  const out = matrix(1, 96);
  wrong('base[0].store', { out, overlay: scaled, base: [int4(0, 96, 96)] });
  wrong('base[0].store', { out, overlay: scaled, base: [int4(0, 48, 48), int4(48, 48, 48)] });
  kernels.lookup({ plan, out, overlay: scaled, base: [int4(0, 64, 32), int4(64, 32, 32)] });
});

testBoth('addDelta', (kernels) => {
  const { plan, delta, out, pooledFactors } = lookupCase(kernels);
  refused(
    () => kernels.addDelta({ plan, delta: { ...delta, slots: Int32Array.of(9, 0) }, out }),
    'addDelta',
    'delta.slots',
  );
  refused(() => kernels.addDelta({ plan, delta, out: matrix(3, 5) }), 'addDelta', 'delta.b');
  const dense = { ...delta, factors: kernels.createRows(3, 4, 'f32'), b: null };
  refused(() => kernels.addDelta({ plan, delta: dense, out, pooledFactors }), 'addDelta', 'pooledFactors');
  expect([...out.data]).toEqual(new Array<number>(12).fill(7));
});

testBoth('segmentSum', (kernels) => {
  const { plan } = lookupCase(kernels);
  const out = matrix(2, 4);
  out.data.fill(7);
  const wrong = (argument: string, changes: Changes<LookupPlan>, values: Matrix = matrix(3, 4), to: Matrix = out) => {
    refused(
      () => kernels.segmentSum({ plan: { ...plan, ...changes } as LookupPlan, values, out: to }),
      'segmentSum',
      argument,
    );
  };
  wrong('plan.groupOffsets', { groupOffsets: Int32Array.of(0, 1) });
  wrong('plan.groupOffsets', { groupOffsets: Int32Array.of(0, 4, 3) });
  wrong('plan.groupOffsets', { groupOffsets: Int32Array.of(0, 1, 2) });
  wrong('plan.groupPlaces', { groupPlaces: Int32Array.of(1, 0, 3) });
  wrong('plan.groupBags', { groupBags: Int32Array.of(0, 0, 3) });
  wrong('plan.groupBags', { groupBags: Int32Array.of(0, 0) });
  wrong('plan.weights', { weights: new Float32Array(4) });
  wrong('values', {}, matrix(4, 4));
  wrong('out', {}, matrix(3, 4), matrix(2, 5));
  for (const uniques of [Int32Array.of(0, 2), Int32Array.of(-1, 0)]) {
    refused(() => kernels.segmentSum({ plan, values: matrix(3, 4), uniques, out }), 'segmentSum', 'uniques');
  }
  const one = { plan, values: matrix(3, 4), uniques: Int32Array.of(1) };
  refused(() => kernels.segmentSum({ ...one, out }), 'segmentSum', 'out');
  wrong('out', {}, matrix(3, 4, shared.subarray(0, 12)), matrix(2, 4, shared.subarray(4, 12)));
  expect([...out.data]).toEqual(new Array<number>(8).fill(7));
});

const adam: UpdateRule = {
  type: 'adam',
  learningRate: 0.1,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0,
  decay: 'decoupled',
};

testBoth('updateRows and replayRows', (kernels) => {
  const make = (dim: number, dtype: StoreDtype = 'f32') => kernels.createRows(5, dim, dtype);
  const args = {
    rule: adam,
    step: 1,
    parameters: make(2),
    state: [make(2), make(2)],
    lastSteps: make(1, 'i32'),
    slots: Int32Array.of(4, 0),
    gradients: matrix(2, 2, Float32Array.of(1, 1, 1, 1)),
  };
  const skipped = new SkippedSteps(adam);
  const wrong = (argument: string, changes: Changes<UpdateRowsArgs>) => {
    refused(() => kernels.updateRows({ ...args, ...changes } as UpdateRowsArgs), 'updateRows', argument);
    if ('gradients' in changes || 'rule' in changes) return;
    refused(() => kernels.replayRows({ ...args, skipped, ...changes } as ReplayRowsArgs), 'replayRows', argument);
  };
  wrong('step', { step: 0 });
  wrong('step', { step: 1.5 });
  wrong('slots', { slots: [0, 4] });
  wrong('slots', { slots: Int32Array.of(4, 5) });
  wrong('slots', { slots: Int32Array.of(4, -2) });
  wrong('slots', { slots: Int32Array.of(4, 4) });
  wrong('gradients', { gradients: matrix(2, 3) });
  wrong('parameters', { parameters: make(2, 'i32') });
  wrong('state', { state: [make(2)] });
  wrong('state[1]', { state: [make(2), make(3)] });
  wrong('state[0]', { state: [kernels.createRows(4, 2, 'f32'), make(2)] });
  wrong('state', { state: [args.parameters, make(2)] });
  wrong('state[0]', { state: [make(2, 'int8'), make(2)] });
  wrong('state[1]', { state: [make(2, 'bf16'), make(2)] });
  wrong('roundingSeed', { roundingSeed: -1 });
  refused(() => kernels.replayRows({ ...args, skipped: {} as SkippedSteps }), 'replayRows', 'skipped');
  wrong('lastSteps', { lastSteps: make(1) });
  wrong('lastSteps', { lastSteps: make(2, 'i32') });
  refused(() => kernels.updateRows({ ...args, slots: Int32Array.of(4, -1) }), 'updateRows', 'slots');
  const [cross, gram] = [new Float64Array(6), new Float64Array(4)];
  const products = { base: make(3), rows: Int32Array.of(1, 2), counted: make(2), cross, gram };
  for (const [argument, changes] of [
    ['rows', { rows: Int32Array.of(1, 5) }],
    ['slots', { rows: Int32Array.of(1) }],
    ['counted', { counted: args.parameters }],
    ['counted', { counted: args.state[0]! }],
    ['base', { base: make(3, 'i32') }],
    ['base', { base: { rows: 5, cols: 3, data: new Float32Array(14) } }],
    ['base', { base: null as unknown as RowStore }],
    ['rows', { base: matrix(2, 3) }],
    ['cross', { cross: gram }],
  ] as const) {
    const wrongProducts = { ...products, ...changes };
    refused(() => kernels.updateRows({ ...args, products: wrongProducts }), 'updateRows', argument);
  }
  const wrongRule = (field: string, changes: object) => {
    wrong(`rule.${field}`, { rule: { ...adam, ...changes } });
    refused(() => new SkippedSteps({ ...adam, ...changes } as UpdateRule), 'SkippedSteps', `rule.${field}`);
  };
  const plain = { weightDecay: 0, decay: 'l2' } as const;
  const sgd = { type: 'sgd', learningRate: 1, momentum: 1, ...plain } as const;
  wrong('rule.momentum', { rule: sgd, state: [] });
  wrong('state', { rule: { ...sgd, momentum: 0.5 }, state: [] });
  wrong('state', { rule: { ...sgd, momentum: 0 } });
  wrongRule('decay', { decay: undefined });
  wrongRule('weightDecay', { weightDecay: -1 });
  wrongRule('type', { type: 'momentum' });
  wrongRule('type', { type: 'toString' });
  wrongRule('learningRate', { learningRate: -1 });
  wrongRule('learningRate', { learningRate: undefined });
  wrongRule('beta1', { beta1: 1 });
  wrongRule('beta2', { beta2: NaN });
  wrongRule('epsilon', { epsilon: 0 });
  wrongRule('epsilon', { epsilon: 1e-60 });
  wrongRule('weightDecay', { weightDecay: Infinity });
  wrong('rule.epsilon', { rule: { type: 'adagrad', learningRate: 1, epsilon: 0, ...plain }, state: [make(2)] });
  const left = matrix(5, 2);
  kernels.gatherRows(args.parameters, Int32Array.of(0, 1, 2, 3, 4), left);
  expect([...left.data]).toEqual(new Array<number>(10).fill(0));
});

testBoth('updateDense', (kernels) => {
  const args = {
    rule: adam,
    step: 1,
    parameters: new Float32Array(3),
    state: [new Float32Array(3), new Float32Array(3)],
    gradients: Float32Array.of(1, 1, 1),
  };
  const wrong = (argument: string, changes: object) => {
    refused(() => kernels.updateDense({ ...args, ...changes }), 'updateDense', argument);
  };
  wrong('gradients', { gradients: new Float32Array(2) });
  wrong('parameters', { parameters: new Float64Array(3) });
  wrong('state', { state: [] });
  wrong('state[1]', { state: [new Float32Array(3), new Float32Array(1)] });
  wrong('state[0]', { state: [args.parameters, new Float32Array(3)] });
  wrong('parameters', { gradients: args.parameters });
  wrong('step', { step: -1 });
  const rowwise = { type: 'rowwise-adagrad', learningRate: 1, epsilon: 1, weightDecay: 0, decay: 'l2' };
  wrong('state[0]', { rule: rowwise, state: [new Float32Array(3)] });
  expect([...args.parameters]).toEqual([0, 0, 0]);
});

testBoth('row stores', (kernels) => {
  refused(() => kernels.createRows(-1, 2, 'f32'), 'createRows', 'rows');
  refused(() => kernels.createRows(2 ** 31, 2, 'f32'), 'createRows', 'rows');
  refused(() => kernels.createRows(2, 0, 'f32'), 'createRows', 'dim');
  refused(() => kernels.createRows(2, 2.5, 'f32'), 'createRows', 'dim');
  refused(() => kernels.createRows(2, 2, 'f64' as 'f32'), 'createRows', 'dtype');
  const store = kernels.createRows(3, 2, 'f32');
  const three = Int32Array.of(0, 2, 3);
  refused(() => kernels.gatherRows(store, three, matrix(3, 2)), 'gatherRows', 'rows[2] is 3', 'ID_OUT_OF_RANGE');
  refused(() => kernels.gatherRows(store, Int32Array.of(0), matrix(2, 2)), 'gatherRows', 'out');
  refused(
    () => kernels.gatherRows(kernels.createRows(3, 1, 'i32'), Int32Array.of(0), matrix(1, 1)),
    'gatherRows',
    'store',
  );
  refused(() => kernels.scatterRows(store, three, matrix(3, 2)), 'scatterRows', 'rows[2] is 3', 'ID_OUT_OF_RANGE');
  refused(() => kernels.scatterRows(store, Int32Array.of(0), matrix(1, 3)), 'scatterRows', 'values');
  refused(() => kernels.readBytes(store, 20, new Uint8Array(5)), 'readBytes', 'byteOffset');
  refused(() => kernels.readBytes(store, 0, new Uint8Array(25)), 'readBytes', 'out');
  refused(() => kernels.readBytes(store, 0, new Float32Array(1) as unknown as Uint8Array), 'readBytes', 'out');
  refused(() => kernels.writeBytes(store, -1, new Uint8Array(5)), 'writeBytes', 'byteOffset');
  const file = { path: '/dev/null', byteOffset: 0, rows: 1, dim: 1, dtype: 'f32' as const };
  refused(() => kernels.openRows(file, 'gpu' as 'ram'), 'openRows', 'home');
  refused(() => kernels.openRows({ ...file, byteOffset: -4 }, 'ram'), 'openRows', 'byteOffset');
  refused(() => kernels.openRows({ ...file, dtype: 'i32' as 'f32' }, 'ram'), 'openRows', 'dtype');
  refused(() => kernels.openRows({ ...file, path: 3 as unknown as string }, 'ram'), 'openRows', 'path');
  refused(() => kernels.withThreads(0), 'withThreads', 'threads');
  refused(() => kernels.withThreads(5000), 'withThreads', 'threads');
  expect(kernels.withThreads(3).threads).toBe(3);
});

testBoth('dense operations', (kernels) => {
  const x = matrix(2, 3);
  const floats = (length: number) => new Float32Array(length);
  refused(() => kernels.matmul({ a: x, b: x, out: matrix(2, 3) }), 'matmul', 'b must agree');
  refused(
    () => kernels.matmul({ a: x, b: x, out: matrix(2, 2), transposeA: true, transposeB: true }),
    'matmul',
    'transposeB',
  );
  refused(() => kernels.matmul({ a: x, b: x, out: matrix(2, 3), transposeB: true }), 'matmul', 'out');
  refused(() => kernels.matmul({ a: x, b: matrix(3, 3), out: x }), 'matmul', 'out shares');
  refused(() => kernels.matmul({ a: x, b: matrix(3, 3), out: matrix(2, 3), scale: NaN }), 'matmul', 'scale');
  refused(() => kernels.matmul({ a: null as unknown as Matrix, b: x, out: x }), 'matmul', 'a');
  refused(() => kernels.addToRows(x, floats(2)), 'addToRows', 'row');
  refused(() => kernels.scaleColumns(x, floats(2)), 'scaleColumns', 'row');
  refused(() => kernels.columnDots(x, matrix(1, 3), floats(3)), 'columnDots', 'y');
  refused(() => kernels.columnDots(x, x, floats(2)), 'columnDots', 'out');
  refused(() => kernels.scaleColumns(x, x.data.subarray(3)), 'scaleColumns', 'x shares');
  refused(() => kernels.addToRows(x, x.data.subarray(3)), 'addToRows', 'x shares');
  refused(() => kernels.sumRows(x, floats(2)), 'sumRows', 'out');
  const labels = Int32Array.of(0, 2);
  const softmax = (changes: object) => () =>
    kernels.softmaxCrossEntropy({ logits: x, labels, losses: floats(2), ...changes });
  refused(softmax({ labels: Int32Array.of(0, 3) }), 'softmaxCrossEntropy', 'labels');
  refused(softmax({ labels: Int32Array.of(-1, 2) }), 'softmaxCrossEntropy', 'labels');
  refused(softmax({ labels: Int32Array.of(0) }), 'softmaxCrossEntropy', 'labels');
  refused(softmax({ losses: floats(3) }), 'softmaxCrossEntropy', 'losses');
  refused(softmax({ gradient: matrix(2, 2) }), 'softmaxCrossEntropy', 'gradient');
  refused(
    softmax({ logits: matrix(2, 3, shared.subarray(0, 6)), gradient: matrix(2, 3, shared.subarray(1, 7)) }),
    'softmaxCrossEntropy',
    'gradient',
  );
  refused(softmax({ scale: Infinity }), 'softmaxCrossEntropy', 'scale');
  const pairs = { vectors: [x, x, x], out: matrix(2, 4), firstColumn: 1 };
  const pairsOf = (changes: object) => () => kernels.pairDots({ ...pairs, ...changes });
  refused(pairsOf({ vectors: [x] }), 'pairDots', 'vectors.length');
  refused(pairsOf({ vectors: [x, matrix(2, 2), x] }), 'pairDots', 'vectors[1]');
  refused(pairsOf({ out: matrix(3, 4) }), 'pairDots', 'out');
  refused(pairsOf({ out: matrix(2, 2), firstColumn: 0 }), 'pairDots', 'out must have 3 columns');
  refused(pairsOf({ firstColumn: 2 }), 'pairDots', 'firstColumn');
  refused(pairsOf({ vectors: [x, x], out: x }), 'pairDots', 'out shares');
  const back = { vectors: [x, x], gradient: matrix(2, 1), outs: [matrix(2, 3), null] };
  const backOf = (changes: object) => () => kernels.pairDotsBackward({ ...back, ...changes });
  refused(backOf({ outs: [null] }), 'pairDotsBackward', 'outs');
  refused(backOf({ outs: [null, matrix(2, 2)] }), 'pairDotsBackward', 'outs[1]');
  refused(backOf({ outs: [x, null] }), 'pairDotsBackward', 'outs[0] shares');
  refused(backOf({ outs: [back.outs[0], back.outs[0]] }), 'pairDotsBackward', 'outs[1] shares');
  const bags = { x, y: matrix(4, 3), offsets: Int32Array.of(0, 1, 4) };
  const bagsOf = (changes: object) => () => kernels.bagDots({ ...bags, out: floats(4), ...changes });
  refused(bagsOf({ y: matrix(4, 2) }), 'bagDots', 'y');
  refused(bagsOf({ offsets: Int32Array.of(0, 4) }), 'bagDots', 'offsets');
  refused(bagsOf({ offsets: Int32Array.of(0, 5, 4) }), 'bagDots', 'offsets must ascend');
  refused(bagsOf({ offsets: Int32Array.of(0, 1, 3) }), 'bagDots', 'offsets must go');
  refused(bagsOf({ offsets: Int32Array.of(-1, 1, 4) }), 'bagDots', 'offsets must go');
  refused(bagsOf({ out: floats(3) }), 'bagDots', 'out');
  refused(bagsOf({ places: Int32Array.of(0, 1, 2) }), 'bagDots', 'offsets must go');
  refused(bagsOf({ places: Int32Array.of(0, 1, 4, 2) }), 'bagDots', 'places');
  const bagsBackOf = (changes: object) => () => kernels.bagDotsBackward({ ...bags, gradient: floats(4), ...changes });
  refused(bagsBackOf({ gradient: floats(3) }), 'bagDotsBackward', 'gradient');
  refused(bagsBackOf({ xOut: matrix(2, 2) }), 'bagDotsBackward', 'xOut');
  refused(bagsBackOf({ yOut: matrix(3, 3) }), 'bagDotsBackward', 'yOut');
  refused(bagsBackOf({ xOut: x }), 'bagDotsBackward', 'xOut shares');
  refused(bagsBackOf({ yOut: bags.y }), 'bagDotsBackward', 'yOut shares');
  refused(() => kernels.normalizeRows(x, floats(3)), 'normalizeRows', 'norms');
  refused(() => kernels.normalizeRowsBackward(x, floats(2), matrix(2, 2)), 'normalizeRowsBackward', 'gradient');
  refused(() => kernels.sumSquares([1] as unknown as Float32Array), 'sumSquares', 'x');
  refused(() => kernels.scaleInPlace(floats(1), NaN), 'scaleInPlace', 'factor');
  refused(() => kernels.firstNonFinite(new Float64Array(1) as unknown as Float32Array), 'firstNonFinite', 'x');
  expect([...x.data]).toEqual([0, 0, 0, 0, 0, 0]);
});
