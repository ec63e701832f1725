import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, RandomStream, range, rowsOf, type Matrix } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { createTable, growTable, openTable, type ShardedTable } from '@finetable/placement';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createAdapter, type Adapter } from './adapter.ts';
import { mergeAdapter } from './merge/merge.ts';
import { adapterOf, adapterTensors, loadAdapters, saveAdapters } from './files.ts';
import { adamw } from './optimizer.ts';
import type { AdapterOptions } from './options.ts';

const V = 40;
const K = 5;
const D = 6;
const all = normals(V + 2 * K, 1);
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'grown-'));
});
afterEach(() => rm(folder, { recursive: true }));

function normals(rows: number, seed: number): Matrix {
  const values = matrix(rows, D);
  new RandomStream(seed, 'rows').fillNormal(values.data);
  return values;
}

const base = (rows = V): ShardedTable => createTable('words', rowsOf(all, 0, rows));

async function grown(table = base(), rows = K): Promise<ShardedTable> {
  return growTable(table, { vectors: rowsOf(all, table.rows, rows) });
}

/** Steps over old rows and those from V on. */
function train(adapter: Adapter, steps = 5): Adapter {
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  const { rows } = adapter.table;
  for (let step = 0; step < steps; step++) {
    const plan = makePlan(jagged([[step, V + (step % (rows - V))], [rows - 1]]), rows);
    const out = matrix(2, D);
    adapter.lookup(plan, out, true);
    adapter.update(plan, adapter.gradients(plan, out));
  }
  return adapter;
}

const vectors = (adapter: Adapter, rows = adapter.table.rows): Float32Array => adapter.vectors(range(rows)).data;
const names = (adapter: Adapter): [string, string, number][] =>
  adapter.groups.map(({ name, kind, members }) => [name, kind, members.count]);

test.each<[string, AdapterOptions, [string, string, number][]]>([
  [
    'by default',
    { rank: 2 },
    [
      ['rest', 'lora', V],
      ['grown', 'dense', K],
    ],
  ],
  ['tied', { rank: 2, grown: 'tied' }, [['rest', 'lora', V + K]]],
  [
    'factors of their own',
    { rank: 2, grown: { rank: 3 } },
    [
      ['rest', 'lora', V],
      ['grown', 'lora', K],
    ],
  ],
  ['all dense', { kind: 'dense' }, [['rest', 'dense', V + K]]],
  ['only the new rows', { rank: 2, rows: { from: V } }, [['rest', 'lora', K]]],
  [
    'some in a group',
    { rank: 2, groups: [{ name: 'x', rank: 1, rows: [0, V + 1] }] },
    [
      ['rest', 'lora', V - 1],
      ['x', 'lora', 2],
      ['grown', 'dense', K - 1],
    ],
  ],
  [
    'a group of that name',
    { rank: 2, groups: [{ name: 'grown', rank: 1, rows: [V] }] },
    [
      ['rest', 'lora', V + K - 1],
      ['grown', 'lora', 1],
    ],
  ],
])('rows that were added: %s', async (_, options, expected) => {
  expect(names(createAdapter(await grown(), options))).toEqual(expected);
});

test('the group of rows that were added is refused where it makes no sense', async () => {
  expect(() => createAdapter(base(), { rank: 2, grown: { rank: 1 } })).toThrow(/this one was not grown/);
  expect(names(createAdapter(base(), { rank: 2, grown: 'tied' }))).toEqual([['rest', 'lora', V]]);
  const table = await grown();
  expect(() => createAdapter(table, { rank: 2, grown: 'loose' as 'tied' })).toThrow(/allowed: "tied", or the factors/);
  expect(() => createAdapter(table, { rank: 2, rows: { from: V }, grown: { rank: 1 } })).toThrow(
    /grown goes without rows/,
  );
});

test('arrays of a grown adapter are about the base and bring the rows that were added', async () => {
  const table = await grown();
  const tensors = adapterTensors(train(createAdapter(table, { rank: 2 })));
  expect(tensors.base).toEqual({ rows: V, dim: D, dtype: 'f32', fingerprint: base().fingerprint });
  expect(tensors.grown).toEqual(rowsOf(all, V, K).data.slice());
  const again = adapterOf(table, tensors);
  expect(adapterTensors(again)).toEqual(tensors);
});

const cases: [string, AdapterOptions][] = [
  ['dense beside low rank', { rank: 2 }],
  ['tied', { rank: 2, grown: 'tied' }],
  ['he-uniform A', { rank: 2, init: 'keras', grown: 'tied' }],
  ['dora', { rank: 2, dora: true }],
];
test.each(cases)('saved and loaded onto the base, the grown table and a larger one: %s', async (_, options) => {
  const adapter = train(createAdapter(await grown(), options));
  const right = vectors(adapter);
  await saveAdapters(join(folder, 'a'), [adapter]);

  const old = base();
  const [onBase] = await loadAdapters(join(folder, 'a'), [old]);
  expect(onBase!.table).toMatchObject({ rows: V + K, grownFrom: V });
  expect(vectors(onBase!)).toEqual(right);
  const { table: own } = onBase!;
  onBase!.close();
  expect([own.closed, old.closed]).toEqual([true, false]);
  expect(old.gather(Int32Array.of(0)).data).toEqual(rowsOf(all, 0, 1).data.slice());

  // The rows may be in one file, have been added before, or have been added in part.
  const part = await growTable(base(), { vectors: rowsOf(all, V, 2) });
  for (const table of [base(V + K), await grown(), part]) {
    const [found] = await loadAdapters(join(folder, 'a'), [table]);
    expect(found!.table === table).toBe(table !== part);
    expect(vectors(found!)).toEqual(right);
    found!.close();
    expect(table.closed).toBe(false);
  }

  const larger = await grown(await grown());
  const [more] = await loadAdapters(join(folder, 'a'), [larger]);
  expect(vectors(more!, V + K)).toEqual(right);
  const free = more!.vectors(range(K).map((i) => V + K + i)).data;
  const factors = more!.columnFactors();
  expect(free).toEqual(rowsOf(all, V + K, K).data.map((x, i) => Math.fround(x * Math.fround(factors?.[i % D] ?? 1))));
});

test('an adapter of the table before it grew: the new rows get no delta, and training gives them a dense one', async () => {
  const adapter = createAdapter(base(), { rank: 2, init: 'keras' });
  adapter.startTraining(adamw({ learningRate: 0.1 }));
  const plan = makePlan(jagged([[1, 2]]), V);
  const out = matrix(1, D);
  adapter.lookup(plan, out, true);
  adapter.update(plan, adapter.gradients(plan, out));
  await saveAdapters(join(folder, 'a'), [adapter]);
  const [loaded] = await loadAdapters(join(folder, 'a'), [await grown()]);
  expect(vectors(loaded!, V)).toEqual(vectors(adapter));
  expect(loaded!.vectors(range(K).map((i) => V + i)).data).toEqual(rowsOf(all, V, K).data.slice());
  expect(names(loaded!)).toEqual([
    ['rest', 'lora', V],
    ['grown', 'dense', K],
  ]);
  train(loaded!);
  expect(loaded!.groups[1]!.touchedRows).toBe(K);
  await saveAdapters(join(folder, 'b'), [loaded!]);
  const [again] = await loadAdapters(join(folder, 'b'), [base()]);
  expect(vectors(again!)).toEqual(vectors(loaded!));
  // Once more, and the new group has another name.
  const [larger] = await loadAdapters(join(folder, 'b'), [base(V + K + 2)]);
  expect(names(larger!).map(([name]) => name)).toEqual(['rest', 'grown', `grown-${V + K}`]);
});

test('another base, and other rows added, are refused', async () => {
  await saveAdapters(join(folder, 'a'), [train(createAdapter(await grown(), { rank: 2 }))]);
  const load = (table: ShardedTable): Promise<Adapter[]> => loadAdapters(join(folder, 'a'), [table]);
  const other = createTable('words', normals(V + K, 2));
  await expect(load(other)).rejects.toMatchObject({
    code: 'MISMATCH',
    message: expect.stringMatching(/fingerprint of its first 40 rows/),
  });
  await expect(load(base(V - 1))).rejects.toMatchObject({
    code: 'MISMATCH',
    message: expect.stringMatching(/rows 40; "words" has 39/),
  });
  const vectorsOf = rowsOf(all, V, K).data.slice();
  vectorsOf[2 * D] = 7;
  const changed = await growTable(base(), { vectors: matrix(K, D, vectorsOf) });
  await expect(load(changed)).rejects.toMatchObject({
    code: 'MISMATCH',
    message: expect.stringMatching(/other vectors in rows that were added to its 40, from row 42/),
  });
});

test.each(['f16', 'int8'] as const)('rows that were added to a table of %s', async (dtype) => {
  const table = createTable('words', rowsOf(all, 0, V), { dtype });
  const adapter = train(createAdapter(await grown(table), { rank: 2 }));
  await saveAdapters(join(folder, 'a'), [adapter]);
  for (const other of [table, adapter.table]) {
    const [loaded] = await loadAdapters(join(folder, 'a'), [other]);
    vectors(loaded!).forEach((x, i) => expect(x).toBeCloseTo(vectors(adapter)[i]!, 5));
  }
});

test('merged into a file of all rows, from the base and the folder alone', async () => {
  const file = join(folder, 'words.safetensors');
  await writeSafetensors(file, [{ name: 'rows', dtype: 'F32', shape: [V, D], data: rowsOf(all, 0, V).data.slice() }]);
  const opened = await openTable(file);
  const adapter = train(createAdapter(await grown(opened), { rank: 2 }));
  await saveAdapters(join(folder, 'a'), [adapter]);
  const [loaded] = await loadAdapters(join(folder, 'a'), [opened]);
  expect(await mergeAdapter(loaded!, join(folder, 'merged.safetensors'))).toMatchObject({ rows: V + K });
  const merged = await openTable(join(folder, 'merged.safetensors'));
  const rows = merged.gather(range(V + K)).data;
  vectors(adapter).forEach((x, i) => expect(rows[i]).toBeCloseTo(x, 6));
  for (const part of [loaded!, opened, merged]) part.close();
});
