/** What an adapter can be asked for, each against the whole adapted table worked out in f64. */
import { jagged, makePlan, matrix, RandomStream, range, type LookupPlan, type Matrix } from '@finetable/core';
import { createTable, type ShardedTable } from '@finetable/placement';
import { describe, expect, test } from 'vitest';
import { createAdapter, type Adapter } from './adapter.ts';
import { adamw, sgd } from './optimizer.ts';
import type { AdapterOptions } from './options.ts';

const V = 14;
const D = 6;

function normals(rows: number, cols: number, stream: string, deviation = 1): Matrix {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data, deviation);
  return m;
}

const base = normals(V, D, 'table');
const table = (): ShardedTable => createTable('words', base);
const ids = [[3, 5, 3], [], [11], [0, 3, 5, 13], [12, 1]];
const weights = [[1, 0.5, -2], [], [1], [0.1, 0.2, 0.3, 0.4], [1, 1]];
const plan = (): LookupPlan => makePlan(jagged(ids, weights), V);

/** W + s A B of every row, times magnitude / column norm: by the definition. */
function whole(adapter: Adapter): Float64Array {
  const rows = Float64Array.from(base.data);
  for (const group of adapter.groups) {
    const own = range(V).filter((row) => group.members.has(row));
    group.deltaOf(own).data.forEach((x, i) => (rows[own[Math.floor(i / D)]! * D + (i % D)]! += x));
  }
  if (!adapter.magnitude) return rows;
  const norms = new Float64Array(D);
  rows.forEach((x, i) => (norms[i % D]! += x * x));
  return rows.map((x, i) => (x * adapter.magnitude![i % D]!) / Math.sqrt(norms[i % D]!));
}

function pooled(rows: Float64Array): number[] {
  return ids.flatMap((bag, b) =>
    Array.from({ length: D }, (_, j) => bag.reduce((sum, id, i) => sum + weights[b]![i]! * rows[id * D + j]!, 0)),
  );
}

function closeTo(found: ArrayLike<number>, expected: ArrayLike<number>, digits = 4): void {
  expect(found.length).toBe(expected.length);
  for (let i = 0; i < found.length; i++) expect(found[i]).toBeCloseTo(expected[i]!, digits);
}

function train(adapter: Adapter, steps: number, learningRate = 0.05): void {
  adapter.startTraining(adamw({ learningRate }));
  for (let step = 0; step < steps; step++) {
    const used = makePlan(jagged([[(step * 5) % V, (step * 3) % V], [step % V]]), V);
    const out = matrix(2, D);
    adapter.lookup(used, out, true);
    for (let i = 0; i < out.data.length; i++) out.data[i]! -= 1;
    adapter.update(used, adapter.gradients(used, out));
  }
  adapter.settle();
}

const cases: [string, AdapterOptions][] = [
  ['plain', { rank: 3, alpha: 6 }],
  ['groups', { rank: 2, alpha: 1, groups: [{ name: 'new', rows: { from: 11 }, kind: 'dense' }, { name: 'hot', rows: [3, 12], rank: 1, alpha: 2 }] }], // prettier-ignore
  ['some rows only', { rank: 2, rows: { from: 3, to: 12 } }],
  ['a padding row', { rank: 2, paddingRow: 0 }],
  ['orthogonal', { rank: 3, init: 'orthogonal' }],
  ['pissa', { rank: 2, init: 'pissa' }],
  ['keras', { rank: 2, alpha: 20, init: 'keras' }],
  ['dora', { rank: 2, alpha: 4, dora: true }],
  ['dora, B frozen', { rank: 2, alpha: 4, dora: true, freeze: 'B' }],
  ['dora of groups', { rank: 2, dora: true, groups: [{ name: 'new', rows: { from: 11 }, kind: 'dense' }] }],
  ['dense dora', { kind: 'dense', dora: true }],
];

describe.each(cases)('%s', (_, options) => {
  test('starts as the base, or keeps to it where A is 0', () => {
    closeTo([...whole(createAdapter(table(), options))], [...base.data], 5);
  });

  test('looks up what its definition says after training', () => {
    const adapter = createAdapter(table(), options);
    train(adapter, 25);
    const out = matrix(ids.length, D);
    adapter.lookup(plan(), out);
    const expected = whole(adapter);
    closeTo(out.data, pooled(expected));
    closeTo(adapter.vectors(range(V)).data, [...expected]);
    expect(Math.max(...expected.map((x, i) => Math.abs(x - base.data[i]!)))).toBeGreaterThan(0.01);
  });

  test('gradients agree with finite differences', () => {
    const adapter = createAdapter(table(), options);
    train(adapter, 25);
    const used = plan();
    const c = normals(ids.length, D, 'c');
    const out = matrix(ids.length, D);
    adapter.lookup(used, out, true);
    const gradients = adapter.gradients(used, c);
    // Column norms are constants of the gradient: their factors are kept, and only the numerator moves.
    const norms = adapter.norms?.norms();
    const factors = norms && adapter.magnitude!.map((m, j) => m / norms[j]!);
    const loss = (): number => {
      const magnitude = adapter.magnitude;
      const rows = Float64Array.from(base.data);
      for (const group of adapter.groups) {
        const own = range(V).filter((row) => group.members.has(row));
        group.deltaOf(own).data.forEach((x, i) => (rows[own[Math.floor(i / D)]! * D + (i % D)]! += x));
      }
      const scaled = rows.map((x, i) => (magnitude ? x * factors![i % D]! : x));
      return pooled(scaled).reduce((sum, x, i) => sum + x * c.data[i]!, 0);
    };
    const h = 1e-2; // linear in each value
    const { kernels } = adapter.table;
    adapter.groups.forEach((group, g) => {
      const { members, rows, b } = gradients.groups[g]!;
      expect(members).toEqual(group.members.indicesOf(used.uniqueRows));
      [...(members ?? range(used.uniqueRows.length))].forEach((unique, i) => {
        const slot = new Int32Array(1);
        group.slots.find(Int32Array.of(used.uniqueRows[unique]!), slot);
        if (slot[0]! < 0) return;
        const a = matrix(1, group.rank);
        kernels.gatherRows(group.factors, slot, a);
        for (let k = 0; k < group.rank; k++) {
          const kept = a.data[k]!;
          const at = (value: number): number => {
            a.data[k] = value;
            kernels.scatterRows(group.factors, slot, a);
            return loss();
          };
          const numeric = (at(kept + h) - at(kept - h)) / (2 * h);
          at(kept);
          expect(rows!.data[i * group.rank + k]).toBeCloseTo(numeric, 2);
        }
      });
      const analytic = b?.data.slice() ?? [];
      analytic.forEach((x, i) => {
        const kept = group.b!.data[i]!;
        const at = (value: number): number => {
          group.b!.data[i] = value;
          return loss();
        };
        const numeric = (at(kept + h) - at(kept - h)) / (2 * h);
        group.b!.data[i] = kept;
        expect(x).toBeCloseTo(numeric, 2);
      });
    });
    gradients.magnitude?.forEach((x, j) => {
      const numeric = out.data.reduce(
        (sum, e, i) => sum + (i % D === j ? (c.data[i]! * e) / adapter.magnitude![j]! : 0),
        0,
      );
      expect(x).toBeCloseTo(numeric, 4);
    });
  });
});

test('rows that may not be trained keep the bytes of the base, and get no slot', () => {
  const adapter = createAdapter(table(), { rank: 2, rows: { from: 3, to: 12 }, paddingRow: 5 });
  train(adapter, 40);
  const frozen = Int32Array.of(0, 1, 2, 5, 12, 13);
  expect(adapter.vectors(frozen).data).toEqual(adapter.table.gather(frozen).data);
  expect([...adapter.groups[0]!.slots.rows].sort((x, y) => x - y)).toEqual([3, 4, 6, 7, 8, 9, 10, 11]);
});

test('dropout leaves places out while training, keeps the mean, and is drawn again every step', () => {
  const adapter = createAdapter(table(), { kind: 'dense', dropout: 0.25 });
  train(adapter, 10);
  const count = 20_000;
  const used = makePlan({ values: new Int32Array(count).fill(3), offsets: range(count + 1) }, V);
  const kept = matrix(count, D);
  adapter.lookup(used, kept, true);
  const full = adapter.vectors(Int32Array.of(3)).data;
  const dropped = Array.from({ length: count }, (_, i) => kept.data[i * D] === base.data[3 * D]);
  expect(dropped.filter(Boolean).length / count).toBeCloseTo(0.25, 1);
  const delta = full[0]! - base.data[3 * D]!;
  dropped.forEach((out, i) => {
    expect(kept.data[i * D]! - base.data[3 * D]!).toBeCloseTo(out ? 0 : delta / 0.75, 5);
  });
  const again = matrix(count, D);
  adapter.lookup(used, again, true);
  expect(again.data).toEqual(kept.data);
  adapter.update(used, adapter.gradients(used, matrix(count, D)));
  adapter.lookup(used, again, true);
  expect(again.data).not.toEqual(kept.data);
  adapter.lookup(used, again);
  expect(again.data.subarray(0, D)).toEqual(adapter.vectors(Int32Array.of(3)).data);
});

test('dropout of the gradient is that of the lookup', () => {
  const adapter = createAdapter(table(), { kind: 'dense', dropout: 0.5 });
  adapter.startTraining(sgd({ learningRate: 1 }));
  const used = makePlan(jagged([[3], [3], [3], [3], [3], [3]]), V);
  const ones = matrix(6, D, new Float32Array(6 * D).fill(1));
  const out = matrix(6, D);
  adapter.lookup(used, out, true);
  const first = adapter.gradients(used, ones).groups[0]!.rows!.data[0]!;
  expect(first % 2).toBe(0);
  adapter.update(used, adapter.gradients(used, ones));
  expect(adapter.vectors(Int32Array.of(3)).data[0]).toBeCloseTo(base.data[3 * D]! - first, 5);
});

test('rows longer than maxNorm are read as if scaled to it, with their gradient', () => {
  const adapter = createAdapter(table(), { kind: 'dense', maxNorm: 1.5 });
  adapter.startTraining(sgd({ learningRate: 0.5 }));
  const lengths = Array.from({ length: V }, (_, row) => Math.hypot(...base.data.subarray(row * D, (row + 1) * D)));
  const vectors = adapter.vectors(range(V));
  vectors.data.forEach((x, i) => {
    const length = lengths[Math.floor(i / D)]!;
    expect(x).toBeCloseTo((base.data[i]! * Math.min(length, 1.5)) / length, 5);
  });
  const used = makePlan(jagged([[3, 5]]), V);
  const out = matrix(1, D);
  adapter.lookup(used, out, true);
  const { rows } = adapter.gradients(used, matrix(1, D, new Float32Array(D).fill(1))).groups[0]!;
  expect(rows!.data[0]).toBeCloseTo(Math.min(1, 1.5 / lengths[3]!), 5);
  expect(rows!.data[D]).toBeCloseTo(Math.min(1, 1.5 / lengths[5]!), 5);
  expect(() => adapter.addDelta(used, out)).toThrow(/maxNorm rescales base rows too/);
});

test('keras: untouched rows move with B, and take no memory', () => {
  const adapter = createAdapter(table(), { rank: 2, alpha: 20, init: 'keras', seed: 3 });
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  const used = makePlan(jagged([[3]]), V);
  const out = matrix(1, D);
  for (let i = 0; i < 3; i++) {
    adapter.lookup(used, out, true);
    adapter.update(used, adapter.gradients(used, out));
  }
  const all = adapter.vectors(range(V));
  expect(adapter.touchedRows).toBe(1);
  for (let row = 0; row < V; row++) expect(all.data[row * D]).not.toBe(base.data[row * D]);
  closeTo(all.data, [...whole(adapter)], 5);
});

test('a frozen factor keeps its values', () => {
  const b = createAdapter(table(), { rank: 2, freeze: 'B' });
  const before = b.groups[0]!.b!.data.slice();
  train(b, 10);
  expect(b.groups[0]!.b!.data).toEqual(before);
  expect(b.touchedRows).toBeGreaterThan(5);
  const a = createAdapter(table(), { rank: 2, alpha: 20, init: 'keras', freeze: 'A' });
  train(a, 10);
  expect(a.touchedRows).toBe(0);
  expect(a.vectors(Int32Array.of(3)).data).not.toEqual(a.table.gather(Int32Array.of(3)).data);
  expect(() => createAdapter(table(), { rank: 2, freeze: 'A' }).startTraining(adamw({ learningRate: 1 }))).toThrow(
    /A is frozen at 0, so nothing would be trained/,
  );
});

test.each<[string, AdapterOptions]>([
  ['one group', { rank: 3, dora: true }],
  ['groups', { rank: 2, dora: true, groups: [{ name: 'some', rows: { from: 40, to: 90 }, rank: 3 }] }],
])('DoRA counts rows that a lookup left as those of the table: %s', (_, options) => {
  const rows = 200;
  const random = new RandomStream(4, 'ids');
  const adapters = [true, false].map((whole) => {
    const adapter = createAdapter(createTable('items', normals(rows, D, 'items')), options);
    adapter.startTraining(adamw({ learningRate: 0.02, weightDecay: 0.01 }));
    const steps = 200;
    for (let step = 0; step < steps; step++) {
      // The last one has all rows, which are then as they were counted.
      const values = step === steps - 1 ? range(rows) : range(40).map((i) => random.below(40 * step + i, rows));
      const used = makePlan({ values, offsets: range(values.length + 1) }, rows);
      const out = matrix(values.length, D);
      adapter.lookup(used, out, true);
      for (let i = 0; i < out.data.length; i++) out.data[i]! -= 1;
      // Of unique rows alone it is not known where a lookup left them.
      adapter.update(whole ? used : { uniqueRows: used.uniqueRows }, adapter.gradients(used, out));
    }
    return adapter;
  });
  const [left, read] = adapters.map((adapter) => adapter.norms!.norms());
  expect(left).toEqual(read);
  const exact = adapters[0]!.norms!.norms(true);
  left!.forEach((norm, j) => expect(Math.abs(norm / exact[j]! - 1)).toBeLessThan(1e-6));
});

test('DoRA counts what it keeps of touched rows', () => {
  const bytes = [false, true].map((dora) => {
    const adapter = createAdapter(table(), { rank: 2, dora });
    train(adapter, 5);
    return { touched: adapter.touchedRows, ...adapter.memory };
  });
  const [plain, dora] = bytes as [(typeof bytes)[0], (typeof bytes)[0]];
  expect(dora.touched).toBe(plain.touched);
  expect(dora.adapterBytes - plain.adapterBytes).toBe(4 * D);
  expect(dora.optimizerBytes - plain.optimizerBytes).toBe(4 * 2 * dora.touched + 8 * (D + 2 * D + 2 * 2));
});

test('orthogonal rows of B are orthogonal and √D long; pissa takes the principal directions of the base', () => {
  const rowsOf = (adapter: Adapter): Float32Array[] => {
    const { b, rank } = adapter.groups[0]!;
    return Array.from({ length: rank }, (_, k) => b!.data.subarray(k * D, (k + 1) * D));
  };
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, v, i) => sum + v * y[i]!, 0);
  const orthogonal = rowsOf(createAdapter(table(), { rank: 4, init: 'orthogonal' }));
  orthogonal.forEach((x, i) => orthogonal.forEach((y, j) => expect(dot(x, y)).toBeCloseTo(i === j ? D : 0, 4)));
  const pissa = rowsOf(createAdapter(table(), { rank: D, init: 'pissa' }));
  pissa.forEach((v, k) => {
    // WᵀW v = σ² v, and |v|² = σ
    const sigma = dot(v, v);
    const wv = Float32Array.from({ length: V }, (_, row) => dot(base.data.subarray(row * D, (row + 1) * D), v));
    for (let j = 0; j < D; j++) {
      const back = wv.reduce((sum, x, row) => sum + x * base.data[row * D + j]!, 0);
      expect(back / (sigma * sigma)).toBeCloseTo(v[j]!, 3);
    }
    if (k > 0) expect(sigma).toBeLessThanOrEqual(dot(pissa[k - 1]!, pissa[k - 1]!) + 1e-4);
  });
});

test.each<[AdapterOptions, RegExp]>([
  [{ rank: 2, dropout: 1 }, /words: dropout 1; allowed: 0 or more and below 1/],
  [{ rank: 2, maxNorm: 0 }, /words: maxNorm 0; allowed: a number above 0/],
  [{ rank: 2, maxNorm: 1, dora: true }, /maxNorm goes without dora/],
  [{ rank: 2, init: 'keras', dora: true }, /dora with init "keras"/],
  [{ rank: 2, init: 'random' as never }, /init "random"; allowed: sparse, orthogonal, pissa, keras/],
  [{ rank: 2, freeze: 'C' as never }, /freeze "C"; allowed: A, B/],
  [{ rank: 2, paddingRow: 14 }, /words: paddingRow: found row 14/],
  [{ rank: 2, groups: [{ name: 'rest', rows: [1], rank: 1 }] }, /group name "rest"; allowed: text .*, each once/],
  [{ rank: 2, groups: [{ name: 'a\0', rows: [1], rank: 1 }] }, /group name "a.u0000"; allowed: text without NUL/],
  [{ rank: 2, groups: [{ name: '\ud800', rows: [1], rank: 1 }] }, /half a surrogate pair/],
  [
    {
      rank: 2,
      groups: [
        { name: 'a', rows: [1], rank: 1 },
        { name: 'a', rows: [2], rank: 1 },
      ],
    },
    /group name "a"/,
  ],
  [
    {
      rank: 2,
      groups: [
        { name: 'a', rows: [1], rank: 1 },
        { name: 'b', rows: [1], rank: 1 },
      ],
    },
    /group "b": all its rows/,
  ],
  [{ rank: 2, groups: [{ name: 'a', rows: [1, 99], rank: 1 }] }, /group "a": rows: found row 99/],
  [{ rank: 2, groups: [{ name: 'a', rows: [1], rank: 9 }] }, /group "a": rank 9; allowed: an integer from 1 to 6/],
  [{ kind: 'dense', rank: 2 } as never, /words: there is no option "rank"/],
  [{ kind: 'dense', freeze: 'B' } as never, /words: there is no option "freeze"/],
  [
    { rank: 2, groups: [{ name: 'a', rows: [1], kind: 'dense', alpha: 2 } as never] },
    /words: groups\[0\]: there is no option "alpha"/,
  ],
  [{ rank: 2, learningRateB: -1 }, /words: learningRateB -1; allowed: 0 or more/],
  [{ kind: 'dense', weightDecay: NaN }, /words: weightDecay NaN; allowed: 0 or more/],
  [{ rank: 2, freeze: 'B', learningRateB: 0.1 }, /words: learningRateB 0.1 with freeze "B"/],
  [{ rank: 2, rows: { form: 3 } as never }, /words: rows: there is no option "form"/],
  [{ rank: 2, rows: new Set([1]) as never }, /words: rows: found an object without from and to/],
  [{ rank: 2, groups: [{ name: 'a', rank: 1 } as never] }, /group "a": rows: found undefined/],
])('refuses %j', (options, message) => {
  expect(() => createAdapter(table(), options)).toThrow(message);
});

test('keras: weight decay is refused where it would have to reach rows that no batch holds', () => {
  const decaying = adamw({ learningRate: 0.1, weightDecay: 0.1 });
  const start = (options: Partial<AdapterOptions>, optimizer = decaying): void =>
    createAdapter(table(), { rank: 2, init: 'keras', ...options } as AdapterOptions).startTraining(optimizer);
  expect(() => start({})).toThrow(
    /words: weightDecay 0.1 in exact mode .* allowed: mode "lazy", weightDecay 0, or freeze "A"/,
  );
  for (const options of [{ weightDecay: 0 }, { freeze: 'A' }, { init: 'sparse' }] as const)
    expect(() => start(options)).not.toThrow();
  expect(() => start({}, { ...decaying, mode: 'lazy' })).not.toThrow();
});
