/** Whole adapters in exact mode against dense optimisers over all of A, and what lazy mode and 16-bit state do instead. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, RandomStream, range, type LookupPlan, type Matrix } from '@finetable/core';
import { createTable } from '@finetable/placement';
import { describe, expect, test } from 'vitest';
import { createAdapter, type Adapter } from './adapter.ts';
import { adagrad, adam, adamw, rateOf, rowwiseAdagrad, rowwiseAdam, sgd, type OptimizerSpec } from './optimizer.ts';
import type { Schedule } from './schedule.ts';
import { loadAdapterState, saveAdapterState } from './state.ts';

const V = 12;
const D = 7;
const rank = 3;
const steps = 200;

const normals = (rows: number, cols: number, stream: string): Matrix => {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data);
  return m;
};

const adapterWith = (spec: OptimizerSpec): Adapter => {
  const adapter = createAdapter(createTable('words', matrix(V, D)), { rank });
  adapter.startTraining(spec);
  return adapter;
};

/** Gradients of single places: rows 2 to 7 often and more than once, row 9 in the first step and the last, row 1 never. */
interface Step {
  readonly plan: LookupPlan;
  readonly ids: readonly number[];
  /** ∂L/∂E of each id. */
  readonly gradient: Matrix;
}

const random = new RandomStream(3, 'ids');
const batches: readonly Step[] = Array.from({ length: steps }, (_, step) => {
  const drawn = Array.from({ length: 4 }, (_, i) => [2, 3, 4, 5, 6, 7][random.below(step * 4 + i, 6)]!);
  const rare = step === 0 || step === steps - 1 ? [9] : [];
  const ids = step > 50 && step < 150 ? [drawn[0]! % 2] : [...drawn, drawn[0]!, ...rare];
  return { plan: makePlan(jagged(ids.map((id) => [id])), V), ids, gradient: normals(ids.length, rank, `g/${step}`) };
});

/** Trains A alone: the gradients of its rows are given. */
function train(adapter: Adapter, from = 0, to = steps): void {
  for (const { plan, gradient } of batches.slice(from, to)) {
    const rows = matrix(plan.uniqueRows.length, rank);
    adapter.table.kernels.segmentSum({ plan, values: gradient, out: rows });
    adapter.lookup(plan, matrix(plan.offsets.length - 1, D));
    adapter.update(plan, { groups: [{ members: null, rows, b: null }], magnitude: null });
  }
}

/** A, `[V, r]`. */
function valuesOf(adapter: Adapter): Float64Array {
  adapter.settle();
  const found = matrix(adapter.touchedRows, rank);
  const { factors, slots } = adapter.groups[0]!;
  adapter.table.kernels.gatherRows(factors, range(adapter.touchedRows), found);
  const all = new Float64Array(V * rank);
  slots.rows.forEach((row, slot) => all.set(found.data.subarray(slot * rank, (slot + 1) * rank), row * rank));
  return all;
}

/** The dense optimiser over all of A, in f64. */
function dense(spec: OptimizerSpec): Float64Array {
  const [a, m, h] = [new Float64Array(V * rank), new Float64Array(V * rank), new Float64Array(V * rank)];
  const { weightDecay = 0 } = spec;
  const decoupled =
    'decay' in spec ? spec.decay === 'decoupled' : spec.type === 'adamw' || spec.type === 'rowwise-adam';
  batches.forEach(({ ids, gradient }, step) => {
    const t = step + 1;
    const lr = rateOf(spec)(t);
    const g = new Float64Array(V * rank);
    ids.forEach((id, i) =>
      gradient.data.subarray(i * rank, (i + 1) * rank).forEach((x, j) => (g[id * rank + j]! += x)),
    );
    a.forEach((x, j) => {
      if (decoupled) a[j]! *= 1 - lr * weightDecay;
      else g[j]! += weightDecay * x;
    });
    a.forEach((_, j) => {
      const row = Math.floor(j / rank);
      const mean = g.subarray(row * rank, (row + 1) * rank).reduce((sum, x) => sum + x * x, 0) / rank;
      const square = spec.type.startsWith('rowwise') ? mean : g[j]! ** 2;
      if (spec.type === 'sgd') {
        m[j] = (spec.momentum ?? 0) * m[j]! + g[j]!;
        a[j]! -= lr * m[j]!;
      } else if (spec.type === 'adagrad' || spec.type === 'rowwise-adagrad') {
        h[j]! += square;
        a[j]! -= (lr * g[j]!) / (Math.sqrt(h[j]!) + 1e-10);
      } else {
        m[j] = 0.9 * m[j]! + 0.1 * g[j]!;
        h[j] = 0.999 * h[j]! + 0.001 * square;
        a[j]! -= (lr * (m[j]! / (1 - 0.9 ** t))) / (Math.sqrt(h[j]! / (1 - 0.999 ** t)) + 1e-8);
      }
    });
  });
  return a;
}

const schedule: Schedule = { type: 'cosine', totalSteps: 220, warmupSteps: 20, finalFactor: 0.1 };
const specs: readonly OptimizerSpec[] = [
  sgd({ learningRate: 0.02 }),
  sgd({ learningRate: 0.02, momentum: 0.9, schedule }),
  sgd({ learningRate: 0.02, momentum: 0.9, weightDecay: 0.1, decay: 'decoupled', schedule }),
  sgd({ learningRate: 0.02, momentum: 0.9, weightDecay: 0.1, schedule }),
  adagrad({ learningRate: 0.05, weightDecay: 0.1, schedule }),
  rowwiseAdagrad({ learningRate: 0.05, weightDecay: 0.1, decay: 'decoupled', schedule }),
  adam({ learningRate: 0.01, weightDecay: 0.1, schedule }),
  adamw({ learningRate: 0.01 }),
  adamw({ learningRate: 0.01, weightDecay: 0.1, schedule }),
  rowwiseAdam({ learningRate: 0.01, weightDecay: 0.1, schedule }),
];

describe.each(specs)('$type, momentum $momentum, weight decay $weightDecay $decay', (spec) => {
  test('exact mode is the dense optimiser: duplicates, skipped rows, decay and schedule', () => {
    const adapter = adapterWith(spec);
    train(adapter);
    const expected = dense(spec);
    const off = valuesOf(adapter).map((x, i) => Math.abs(x - expected[i]!));
    expect(Math.max(...off)).toBeLessThan(1e-5);
    expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(0.05);
    expect([...adapter.groups[0]!.slots.rows].sort((a, b) => a - b)).not.toContain(8);
  });

  test.each(['f32', 'bf16'] as const)(
    'goes on from a file with the bytes of never having stopped, %s state',
    async (stateDtype) => {
      const folder = await mkdtemp(join(tmpdir(), 'finetable-optimizer-'));
      try {
        const [whole, begun, resumed] = [0, 1, 2].map(() => adapterWith({ ...spec, stateDtype })) as [
          Adapter,
          Adapter,
          Adapter,
        ];
        train(whole);
        train(begun, 0, 120);
        await saveAdapterState(join(folder, 'state.safetensors'), begun);
        await loadAdapterState(join(folder, 'state.safetensors'), resumed);
        train(resumed, 120);
        expect(valuesOf(resumed)).toEqual(valuesOf(whole));
      } finally {
        await rm(folder, { recursive: true });
      }
    },
  );
});

test('lazy mode leaves rows of other batches alone', () => {
  const adapter = adapterWith(adamw({ learningRate: 0.01, weightDecay: 0.1, mode: 'lazy' }));
  train(adapter, 0, 1);
  const after = valuesOf(adapter).slice(9 * rank);
  train(adapter, 1, steps - 1);
  expect(valuesOf(adapter).slice(9 * rank)).toEqual(after);
  const exact = adapterWith(adamw({ learningRate: 0.01, weightDecay: 0.1 }));
  train(exact, 0, steps - 1);
  expect(valuesOf(exact)[9 * rank]).not.toBeCloseTo(after[0]!, 3);
});

test.each([
  ['bf16', 2],
  ['f16', 2],
  ['f32', 4],
] as const)('%s state: %d bytes a value, and a training that stays near the one in f32', (stateDtype, bytes) => {
  const spec = adamw({ learningRate: 0.01, weightDecay: 0.1 });
  const [adapter, full] = [adapterWith({ ...spec, stateDtype }), adapterWith(spec)];
  train(adapter);
  train(full);
  expect(adapter.memory.optimizerBytes).toBe(adapter.touchedRows * (2 * rank * bytes + 4) + 2 * rank * D * 4);
  const expected = valuesOf(full);
  // Rows move by up to 0.5. bf16 keeps 8 bits of m and v.
  valuesOf(adapter).forEach((x, i) =>
    expect(Math.abs(x - expected[i]!)).toBeLessThan(stateDtype === 'f32' ? 1e-9 : 0.03),
  );
});

test('rules that leave rows alone without a gradient count no steps', () => {
  const bytesOf = (optimizer: OptimizerSpec): number => {
    const adapter = createAdapter(createTable('words', matrix(V, D)), { kind: 'dense' });
    adapter.startTraining(optimizer);
    adapter.groups[0]!.reset(Int32Array.of(1, 2, 3));
    return adapter.memory.optimizerBytes;
  };
  expect(bytesOf(sgd({ learningRate: 0.1 }))).toBe(0);
  expect(bytesOf(sgd({ learningRate: 0.1, weightDecay: 0.1 }))).toBe(3 * 4);
  expect(bytesOf(sgd({ learningRate: 0.1, momentum: 0.9 }))).toBe(3 * (4 * D + 4));
  expect(bytesOf(adagrad({ learningRate: 0.1 }))).toBe(3 * 4 * D);
});
