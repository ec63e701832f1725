import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { f32ToF16, FinetableError, jagged, makePlan, matrix } from '@finetable/core';
import { writeNpy, writeSafetensors } from '@finetable/formats';
import { loadKernels, type RowStore } from '@finetable/kernels';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createTable, openTable } from './open.ts';
import type { Home, ShardSpec } from './parts.ts';
import { ShardedTable } from './table.ts';

const V = 20;
const D = 3;
let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'placement-'));
  path = join(folder, 'words.safetensors');
  await writeSafetensors(path, [{ name: 'rows', dtype: 'F32', shape: [V, D], data: values() }]);
});
afterEach(() => rm(folder, { recursive: true }));

/** Row v holds v, v + 0.25, v + 0.5: exact in f16 too. */
const values = (): Float32Array => Float32Array.from({ length: V * D }, (_, i) => Math.floor(i / D) + (i % D) / 4);
const ids = jagged([[0, 19], [7, 7, 8], []]);

const placements: (Home | ShardSpec[])[] = [
  'mapped',
  'ram',
  [{ home: 'ram', rows: 8 }, { home: 'mapped' }],
  [
    { home: 'mapped', rows: 1 },
    { home: 'ram', rows: 7 },
    { home: 'mapped', rows: 12 },
  ],
];

test.each(placements)('rows are found wherever they live: %j', async (placement) => {
  const table = await openTable(path, { placement });
  expect(table).toMatchObject({ name: 'words', rows: V, dim: D, dtype: 'f32', sizeBytes: V * D * 4 });
  expect([...table.gather(Int32Array.of(7, 8, 0, 19)).data]).toEqual([
    7, 7.25, 7.5, 8, 8.25, 8.5, 0, 0.25, 0.5, 19, 19.25, 19.5,
  ]);
  const out = matrix(3, D);
  table.lookup(makePlan(ids, V), out);
  expect([...out.data]).toEqual([19, 19.5, 20, 22, 22.75, 23.5, 0, 0, 0]);
  table.close();
  table.close();
  expect(() => table.gather(Int32Array.of(1))).toThrow(expect.objectContaining({ code: 'CLOSED' }));
});

test('f16 tensors, npy files, and a tensor among several', async () => {
  const halves = new Uint16Array(values().map(f32ToF16));
  const many = join(folder, 'many.safetensors');
  await writeSafetensors(many, [
    { name: 'a', dtype: 'F16', shape: [V, D], data: halves },
    { name: 'b', dtype: 'F32', shape: [V, D], data: values() },
    { name: 'scale', dtype: 'F32', shape: [V], data: new Float32Array(V) },
  ]);
  await expect(openTable(many)).rejects.toThrow(/several 2-d tensors \(b, a\); name the table's tensor/);
  await expect(openTable(many, { tensor: 'c' })).rejects.toThrow(/no tensor "c"; it has b, scale, a/);
  await expect(openTable(many, { tensor: 'scale' })).rejects.toThrow(/shape \[20\]; a table is \[rows, dims\]/);
  const table = await openTable(many, { tensor: 'a' });
  expect(table.dtype).toBe('f16');
  expect([...table.gather(Int32Array.of(19)).data]).toEqual([19, 19.25, 19.5]);
  table.close();

  const npy = join(folder, 'words.npy');
  await writeNpy(npy, { dtype: 'F32', shape: [V, D], data: values() });
  const numpy = await openTable(npy);
  expect([...numpy.gather(Int32Array.of(3)).data]).toEqual([3, 3.25, 3.5]);
  numpy.close();
});

describe('what is refused', () => {
  test.each<[ShardSpec[], RegExp]>([
    [[{ home: 'ram', rows: 8 }], /the shards hold 8 rows, the table has 20/],
    [[{ home: 'ram', rows: 21 }], /shard 0 has 21 rows; allowed: 1 to 20, what the shards above it leave of 20/],
    [
      [{ home: 'ram' }, { home: 'mapped' }],
      /shard 1 has no rows; allowed: no more shards: those before it hold all 20 rows/,
    ],
    [[{ home: 'ram', rows: 20 }, { home: 'mapped' }], /shard 1 has no rows/],
    [[], /a table needs at least one shard|the shards hold 0 rows/],
  ])('shards %j', async (placement, message) => {
    await expect(openTable(path, { placement })).rejects.toThrow(message);
  });

  test('ids and plans that do not fit', async () => {
    const table = await openTable(path);
    expect(() => table.gather(Int32Array.of(1, 20))).toThrow(/words: id 20 at place 1; allowed: 0 to 19/);
    expect(() => table.lookup(makePlan(ids, 21), matrix(3, D))).toThrow(
      /the plan was made for 21 rows, the table has 20/,
    );
    table.close();
  });

  test('files that are missing, cut short or of the wrong dtype', async () => {
    await expect(openTable(join(folder, 'none.safetensors'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const cut = join(folder, 'cut.safetensors');
    await writeFile(cut, (await readFile(path)).subarray(0, -4));
    await expect(openTable(cut)).rejects.toMatchObject({ code: 'INVALID_FILE' });
    const integers = join(folder, 'integers.safetensors');
    await writeSafetensors(integers, [{ name: 'rows', dtype: 'I32', shape: [V, D], data: new Int32Array(V * D) }]);
    await expect(openTable(integers, { tensor: 'rows' })).rejects.toThrow(
      /is I32; a base table is F32, F16, BF16, or I8 or U8 with scales/,
    );
  });
});

test('a shard that cannot be opened closes those before it', async () => {
  const kernels = loadKernels();
  const real = kernels.openRows.bind(kernels);
  const opened: RowStore[] = [];
  const spy = vi.spyOn(kernels, 'openRows').mockImplementation((file, home) => {
    if (opened.length === 2) throw new FinetableError('OUT_OF_MEMORY', 'no memory');
    opened.push(real(file, home));
    return opened.at(-1)!;
  });
  const placement = [{ home: 'ram', rows: 8 }, { home: 'mapped', rows: 4 }, { home: 'ram' }] as const;
  await expect(openTable(path, { placement, kernels })).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
  spy.mockRestore();
  expect(opened.map(({ closed }) => closed)).toEqual([true, true]);
});

describe('fingerprints', () => {
  test('are the same wherever the rows live, and differ for other rows, shapes and dtypes', async () => {
    const seen = new Set<string>();
    for (const placement of placements) {
      const table = await openTable(path, { placement });
      seen.add(table.fingerprint);
      table.close();
    }
    expect(seen.size).toBe(1);
    seen.add(createTable('words', matrix(V, D, values())).fingerprint);
    expect(seen.size).toBe(1);
    seen.add(createTable('words', matrix(V, D, values()), { dtype: 'f16' }).fingerprint);
    seen.add(createTable('words', matrix(D, V, values())).fingerprint);
    const other = values();
    other[V * D - 1]! += 1;
    seen.add(createTable('words', matrix(V, D, other)).fingerprint);
    expect(seen.size).toBe(4);
  });

  test('are those that adapter files hold already', () => {
    const large = matrix(40_000, 8);
    large.data.forEach((_, i) => (large.data[i] = i % 1009));
    const small = matrix(20, 3);
    small.data.forEach((_, i) => (small.data[i] = i));
    expect([
      createTable('large', large).fingerprint,
      createTable('large', large, { dtype: 'f16' }).fingerprint,
      createTable('small', small).fingerprint,
    ]).toEqual([
      'sha256-sampled:b6e971b5b38e70f17d3c1704ecee0271e7eed7dcc2b3e2541000e7a0f0ef4e12',
      'sha256-sampled:c2eb0513d0fc9d997ee46841c0ea9b64f02d9cd736f497b65d62b71324ab1683',
      'sha256-sampled:ed92fec1df2515d10cc329ec357b51ded42ac43a1a2e64421d26df3557212824',
    ]);
  });

  test('of quantised tables see scales, dtype and groups', () => {
    const values = matrix(40, 64);
    values.data.forEach((_, i) => (values.data[i] = (i % 7) - 3));
    const print = (dtype: 'int8' | 'int4', groupDims: number): string =>
      createTable('q', values, { dtype, groupDims }).fingerprint;
    const seen = new Set([print('int8', 64), print('int4', 64), print('int4', 32)]);
    // The same elements with other scales.
    for (let i = 0; i < 64; i++) values.data[39 * 64 + i]! *= 2;
    seen.add(print('int8', 64)).add(print('int4', 32));
    expect(seen.size).toBe(5);
  });

  test('of a large table: any change to the first or last block is seen', () => {
    const large = matrix(40_000, 8);
    large.data.forEach((_, i) => (large.data[i] = i % 1009));
    const print = (): string => createTable('large', large).fingerprint;
    const before = print();
    for (const at of [0, large.data.length - 1]) {
      const kept = large.data[at]!;
      large.data[at] = -1;
      expect(print()).not.toBe(before);
      large.data[at] = kept;
    }
    expect(print()).toBe(before);
  });
});

test('opening reads nothing: a sparse file of 64 GiB opens mapped, and its far end is read', async () => {
  const rows = 2 ** 28;
  const dim = 64;
  const huge = join(folder, 'huge.npy');
  await writeNpy(huge, { dtype: 'F32', shape: [1, dim], data: new Float32Array(dim) });
  const header = await readFile(huge);
  const text = header
    .subarray(0, -dim * 4)
    .toString('latin1')
    .replace(/\(1, 64\), \}( *)/, (_, spaces: string) => `(${rows}, 64), }${spaces.slice(String(rows).length - 1)}`);
  const file = await open(huge, 'w');
  await file.write(Buffer.from(text, 'latin1'), 0, text.length, 0);
  const end = text.length + rows * dim * 4;
  await file.write(new Uint8Array(Float32Array.of(42).buffer), 0, 4, end - 4);
  await file.close();
  const before = process.memoryUsage.rss();
  const table = await openTable(huge);
  const found = table.gather(Int32Array.of(0, rows - 1)).data;
  expect([found[0], found[127]]).toEqual([0, 42]);
  expect(process.memoryUsage.rss() - before).toBeLessThan(50 * 2 ** 20);
  table.close();
});

describe('rows that are drawn when they are first read', () => {
  const drawn = (): { readonly table: ShardedTable; readonly rows: Set<number> } => {
    const kernels = loadKernels();
    const store = kernels.createRows(V, D, 'f32');
    const rows = new Set<number>();
    const draw = (asked: Int32Array): void => {
      for (const row of asked) {
        if (rows.has(row)) continue;
        kernels.scatterRows(store, Int32Array.of(row), matrix(1, D, values().slice(row * D, (row + 1) * D)));
        rows.add(row);
      }
    };
    return { table: new ShardedTable('drawn', [{ store, firstRow: 0 }], kernels, { draw }), rows };
  };
  const reference = (): ShardedTable => createTable('drawn', matrix(V, D, values()));
  const plan = makePlan(ids, V);
  const pooled = async (table: ShardedTable): Promise<Float32Array> => {
    const out = matrix(3, D);
    await table.pool(plan, out);
    return out.data;
  };
  const lookedUp = (table: ShardedTable): Float32Array => {
    const out = matrix(3, D);
    table.lookup(plan, out);
    return out.data;
  };
  const stored = async (table: ShardedTable): Promise<Uint8Array> => {
    const out = new Uint8Array(2 * D * 4);
    await table.readStored(Int32Array.of(3, 4), out);
    return out;
  };
  test.each<[string, number[] | null, (table: ShardedTable) => unknown]>([
    ['lookup', [0, 7, 8, 19], lookedUp],
    ['pool', [0, 7, 8, 19], pooled],
    ['gather', [5, 2], (table) => table.gather(Int32Array.of(5, 2, 5)).data],
    ['gatherAsync', [5, 2], async (table) => (await table.gatherAsync(Int32Array.of(5, 2, 5))).data],
    ['readStored', [3, 4], stored],
    ['fingerprint', null, (table) => table.fingerprint],
    ['computeFingerprint', null, (table) => table.computeFingerprint()],
    ['nearest', null, (table) => table.nearest(matrix(1, D, Float32Array.of(1, 1, 1)), 3)],
  ])('%s has them', async (_, rows, read) => {
    const made = drawn();
    expect(await read(made.table)).toEqual(await read(reference()));
    if (rows) expect([...made.rows].sort((a, b) => a - b)).toEqual(rows.sort((a, b) => a - b));
  });
});
