import { jagged, makePlan, matrix, RandomStream, range, type LookupPlan, type Matrix } from '@finetable/core';
import { createTable, type ShardedTable } from '@finetable/placement';
import { beforeEach, describe, expect, test } from 'vitest';
import { createAdapter, type Adapter } from './adapter.ts';
import { combineAdapters } from './combine/adapters.ts';
import { adamw } from './optimizer.ts';
import type { AdapterOptions } from './options.ts';
import { AdapterSet } from './set.ts';

const V = 30;
const D = 6;

function normals(rows: number, cols: number, stream: string): Matrix {
  const m = matrix(rows, cols);
  new RandomStream(1, stream).fillNormal(m.data);
  return m;
}

let table: ShardedTable;
let set: AdapterSet;
beforeEach(() => {
  table = createTable('words', normals(V, D, 'table'));
  set = new AdapterSet(table);
});

function trained(options: AdapterOptions, first = 0, stride = 3): Adapter {
  const adapter = createAdapter(table, options);
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  for (let step = 0; step < 12; step++) {
    const plan = makePlan(jagged([[(first + step * stride) % V, (first + step) % V]]), V);
    const out = matrix(1, D);
    adapter.lookup(plan, out, true);
    adapter.update(plan, adapter.gradients(plan, out));
  }
  adapter.settle();
  return adapter;
}

const bags = [[1, 2, 3], [4], [], [5, 5], [0, 29], [1, 2, 3]];
const plan = (): LookupPlan => makePlan(jagged(bags), V, { pooling: 'mean' });
const all = (): Int32Array => range(V);
const base = (): Float32Array => table.gather(all()).data;
const closeTo = (found: Float32Array, expected: ArrayLike<number>, digits = 5): void =>
  found.forEach((x, i) => expect(x).toBeCloseTo(expected[i]!, digits));

describe('active adapters', () => {
  test('add up; none gives the base; deleting frees', () => {
    const [a, b] = [trained({ rank: 2 }), trained({ rank: 4, alpha: 1 }, 7)];
    const [ofA, ofB] = [a.vectors(all()).data, b.vectors(all()).data];
    set.add('a', a);
    set.add('b', b);
    expect(set.names).toEqual(['a', 'b']);
    expect(set.vectors(all()).data).toEqual(base());
    set.activate('b');
    expect(set.vectors(all()).data).toEqual(ofB);
    set.activate('a', 'b');
    closeTo(
      set.vectors(all()).data,
      base().map((w, i) => ofA[i]! + ofB[i]! - w),
    );
    set.delete('b');
    expect(set.active).toEqual(['a']);
    expect(b.groups[0]!.factors.closed).toBe(true);
    expect(set.vectors(all()).data).toEqual(ofA);
    set.disable();
    expect(set.vectors(all()).data).toEqual(base());
    set.close();
    expect(a.groups[0]!.factors.closed).toBe(true);
    expect(table.closed).toBe(false);
  });

  test('a lookup under way sees the adapters that it began with, and keeps them alive', async () => {
    const [old, next] = [trained({ rank: 2 }), trained({ rank: 3 }, 5)];
    const [ofOld, ofNext] = [old.vectors(all()).data, next.vectors(all()).data];
    set.add('live', old);
    set.activate('live');
    const each = makePlan({ values: all(), offsets: range(V + 1) }, V);
    const [before, after, mixed] = [matrix(V, D), matrix(V, D), matrix(V, D)];
    const pending = set.lookupAsync(each, before);
    const pendingMixed = set.lookupMixedAsync(
      each,
      Array.from(all(), () => 'live'),
      mixed,
    );
    set.replace('live', next);
    expect(old.groups[0]!.factors.closed).toBe(false);
    await set.lookupAsync(each, after);
    await Promise.all([pending, pendingMixed]);
    expect(before.data).toEqual(ofOld);
    closeTo(mixed.data, ofOld);
    expect(after.data).toEqual(ofNext);
    expect(old.groups[0]!.factors.closed).toBe(true);
    expect(next.groups[0]!.factors.closed).toBe(false);
  });

  test('an adapter that was deleted closes after a lookup that fails, and does not come back', async () => {
    const adapter = trained({ rank: 2 });
    set.add('live', adapter);
    set.activate('live');
    const failing = set.lookupAsync(makePlan(jagged([[1]]), V + 1), matrix(1, D));
    set.delete('live');
    expect(adapter.groups[0]!.factors.closed).toBe(false);
    const again = {
      code: 'CLOSED',
      message: 'words: adapter "again" is closed, or will be with the lookups that use it',
    };
    expect(() => set.add('again', adapter)).toThrow(expect.objectContaining(again));
    await expect(failing).rejects.toMatchObject({ code: 'MISMATCH' });
    expect(adapter.groups[0]!.factors.closed).toBe(true);
    expect(() => set.add('again', adapter)).toThrow(expect.objectContaining(again));
    expect(set.names).toEqual([]);
  });
});

test('a mixed batch gives each bag what its own adapter alone would', () => {
  const options: Record<string, AdapterOptions> = {
    small: { rank: 1 },
    wide: { rank: 5, alpha: 2, rsLora: true },
    grouped: { rank: 2, groups: [{ name: 'some', rows: [1, 2, 5, 7], kind: 'dense' }] },
    dense: { kind: 'dense' },
    dora: { rank: 2, dora: true },
    keras: { rank: 3, alpha: 30, init: 'keras' },
  };
  const names = Object.keys(options);
  names.forEach((name, i) => set.add(name, trained(options[name]!, i)));
  const used = plan();
  const alone = new Map(
    names.map((name) => {
      const out = matrix(bags.length, D);
      set.get(name).lookup(used, out);
      return [name, out.data];
    }),
  );
  const unchanged = matrix(bags.length, D);
  table.lookup(used, unchanged);
  alone.set('base', unchanged.data);
  for (let shift = 0; shift < 7; shift++) {
    const chosen = bags.map((_, bag) => [...names, 'base'][(bag + shift) % 7]!);
    const out = matrix(bags.length, D);
    set.lookupMixed(used, chosen, out);
    chosen.forEach((name, bag) => {
      const slice = (data: Float32Array): Float32Array => data.subarray(bag * D, (bag + 1) * D);
      closeTo(slice(out.data), slice(alone.get(name)!), 6);
    });
  }
});

test('combined adapters: cat is the weighted sum of the deltas, svd its best approximation', () => {
  const parts = [trained({ rank: 4 }), trained({ rank: 5, alpha: 3, rsLora: true }, 4), trained({ rank: 2, groups: [{ name: 'g', rows: { from: 10 }, rank: 1 }] }, 9)]; // prettier-ignore
  const weights = [0.7, -1.5, 2];
  const expected = base();
  parts.forEach((adapter, p) =>
    adapter.vectors(all()).data.forEach((x, i) => (expected[i]! += weights[p]! * (x - base()[i]!))),
  );
  parts.forEach((adapter, p) => set.add(`part${p}`, adapter));
  const named = weights.map((weight, p) => ({ name: `part${p}`, weight }));
  const cat = set.combine('cat', named, { method: 'cat' });
  expect(cat.groups[0]!.rank).toBe(4 + 5 + 2 + 1);
  closeTo(cat.vectors(all()).data, expected);
  const svd = set.combine('svd', named, { method: 'svd', rank: D });
  closeTo(svd.vectors(all()).data, expected, 4);
  expect(set.names).toEqual(['part0', 'part1', 'part2', 'cat', 'svd']);
});

test('what does not go is refused, and changes nothing', () => {
  const adapter = trained({ rank: 2 });
  set.add('a', adapter);
  const other = createAdapter(createTable('other', normals(V, D, 'table')), { rank: 2 });
  const out = matrix(bags.length, D);
  const cases: [() => unknown, RegExp][] = [
    [() => set.add('a', adapter), /words: there is an adapter "a"; replace it/],
    [() => set.add('base', adapter), /adapter name "base"; allowed: text other than "base"/],
    [() => set.add('b', adapter), /this adapter is there as "a"/],
    [() => set.add('b', other), /adapter "b" is one of another table, "other" with/],
    [() => set.add('b', createAdapter(table, { rank: 2, maxNorm: 1 })), /"b" has maxNorm/],
    [() => set.get('b'), /no adapter "b"; there are "a"/],
    [() => set.activate('a', 'a'), /named twice: a, a/],
    [() => set.activate('b'), /no adapter "b"/],
    [() => set.replace('b', other), /no adapter "b"/],
    [() => set.lookupMixed(plan(), ['a'], out), /1 adapter names for 6 bags/],
    [() => set.combine('a', [{ name: 'gone', weight: 1 }], { method: 'cat' }), /there is an adapter "a"/],
    [() => set.combine('base', [{ name: 'a', weight: 1 }], { method: 'cat' }), /adapter name "base"/],
    [() => combineAdapters([], { method: 'cat' }), /no adapters; at least one/],
    [
      () =>
        combineAdapters(
          [
            { adapter, weight: 1 },
            { adapter: other, weight: 1 },
          ],
          { method: 'cat' },
        ),
      /one table/,
    ],
    [
      () => combineAdapters([{ adapter: trained({ kind: 'dense' }), weight: 1 }], { method: 'cat' }),
      /dense group "rest"/,
    ],
    [() => combineAdapters([{ adapter: trained({ rank: 2, dora: true }), weight: 1 }], { method: 'cat' }), /DoRA/],
  ];
  for (const [attempt, message] of cases) expect(attempt).toThrow(message);
  expect(set.names).toEqual(['a']);
  expect(set.active).toEqual([]);
  set.close();
  expect(() => set.lookup(plan(), out)).toThrow(/the set of adapters is closed/);
});
