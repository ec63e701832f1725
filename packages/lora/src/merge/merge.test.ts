import { link, mkdtemp, open, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, range, type Matrix, type RowFormat } from '@finetable/core';
import { openSafetensors, readSafetensorsHeader, savePeftAdapter, writeSafetensors } from '@finetable/formats';
import type { Kernels } from '@finetable/kernels';
import { createTable, growTable, openTable, type ShardedTable } from '@finetable/placement';
import { normals, writeTable } from '@finetable/placement/testing';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createAdapter, type Adapter } from '../adapter.ts';
import { adapterTensors, loadAdapterOf, loadAdapters, saveAdapters } from '../files.ts';
import { adamw } from '../optimizer.ts';
import type { AdapterOptions } from '../options.ts';
import { mergeAdapter, unmergeTable } from './merge.ts';
import { blockRowsOf } from './merged-rows.ts';

const V = 70;
const D = 36;
let folder: string;
const opened: { close(): void }[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'merge-'));
});
afterEach(async () => {
  vi.restoreAllMocks();
  for (const one of opened.splice(0)) one.close();
  await rm(folder, { recursive: true });
});

const keep = <T extends { close(): void }>(one: T): T => {
  opened.push(one);
  return one;
};
const at = (name: string): string => join(folder, name);

const formats: readonly RowFormat[] = [
  { dtype: 'f32', dim: D, groupDims: 0 },
  { dtype: 'f16', dim: D, groupDims: 0 },
  { dtype: 'bf16', dim: D, groupDims: 0 },
  { dtype: 'int8', dim: D, groupDims: D },
  { dtype: 'int4', dim: D, groupDims: 32 },
];
const nameOf = ({ dtype, groupDims }: RowFormat): string => (groupDims === 0 ? dtype : `${dtype}/${groupDims}`);

/** Rows of a table file: elements and scales as they are stored, one after the other. */
async function storedRows(path: string): Promise<string[]> {
  const model = await openSafetensors(path);
  const [name] = [...model.tensors.keys()].filter((tensor) => !tensor.endsWith('.scale'));
  const rows = Array.from({ length: model.tensors.get(name!)!.shape[0]! }, () => '');
  for (const tensor of [name!, `${name!}.scale`]) {
    const info = model.tensors.get(tensor);
    if (!info) continue;
    const bytes = (await readFile(info.file)).subarray(info.byteOffset, info.byteOffset + info.byteLength);
    const width = bytes.length / rows.length;
    rows.forEach((_, i) => (rows[i] += `${bytes.subarray(i * width, (i + 1) * width).toString('hex')};`));
  }
  return rows;
}

/** Steps that touch some rows, in the last steps others than in the first. */
function train(adapter: Adapter, touched: readonly number[] = [3, 11, 12, 13, 40, 69]): Adapter {
  adapter.startTraining(adamw({ learningRate: 0.05 }));
  for (let step = 0; step < 6; step++) {
    const plan = makePlan(jagged([[touched[step % touched.length]!, touched[(step * 5 + 1) % touched.length]!], [touched[0]!]]), adapter.table.rows); // prettier-ignore
    const out = matrix(2, adapter.table.dim);
    adapter.lookup(plan, out, true);
    adapter.update(plan, adapter.gradients(plan, out));
  }
  return adapter;
}

async function openBase(format = formats[0]!, rows = V): Promise<ShardedTable> {
  await writeTable(at('base.safetensors'), normals(rows, format.dim, 1), format);
  return keep(await openTable(at('base.safetensors'), { name: 'words' }));
}

/** Rows of `adapter` and of the merged file, as f32. */
async function both(adapter: Adapter, path: string): Promise<[Matrix, Matrix]> {
  const ids = range(adapter.table.rows);
  const merged = await openTable(path);
  try {
    return [adapter.vectors(ids), merged.gather(ids)];
  } finally {
    merged.close();
  }
}

function largestDifference(x: Matrix, y: Matrix): number {
  expect(y.data.length).toBe(x.data.length);
  return x.data.reduce((most, value, i) => Math.max(most, Math.abs(value - y.data[i]!)), 0);
}

describe('what is merged', () => {
  const kinds: [string, AdapterOptions][] = [
    ['lora', { rank: 4, alpha: 8 }],
    ['rsLoRA', { rank: 4, alpha: 8, rsLora: true }],
    ['dense', { kind: 'dense' }],
    ['groups', { rank: 2, groups: [{ name: 'hot', rows: { from: 10, to: 20 }, rank: 4 }, { name: 'new', rows: { from: 60 }, kind: 'dense' }] }], // prettier-ignore
    ['keras-init', { rank: 3, init: 'keras' }],
    [
      'a group of keras-init',
      { rank: 2, groups: [{ name: 'hot', rows: { from: 5, to: 30 }, rank: 3, init: 'keras' }] },
    ],
    ['dora', { rank: 4, dora: true }],
    ['dora with groups', { rank: 2, dora: true, groups: [{ name: 'hot', rows: { from: 10, to: 20 }, kind: 'dense' }] }],
  ];
  test.each(kinds)('%s: the merged rows are the adapted ones', async (_, options) => {
    const adapter = keep(train(createAdapter(await openBase(), options)));
    const before = adapter.vectors(range(V));
    const merged = await mergeAdapter(adapter, at('merged.safetensors'));
    const [adapted, rows] = await both(adapter, merged.path);
    expect(largestDifference(adapted, rows)).toBeLessThanOrEqual(1e-6);
    expect(largestDifference(adapted, adapter.table.gather(range(V))), 'it was trained').toBeGreaterThan(0.01);
    expect(adapted, 'merging changes nothing').toEqual(before);
    const [were, are] = [await storedRows(at('base.safetensors')), await storedRows(merged.path)];
    const changed = were.flatMap((bytes, row) => (bytes === are[row] ? [] : [row]));
    const all = { 'keras-init': V, 'a group of keras-init': 25 + 3, dora: V, 'dora with groups': V }[_] ?? 6;
    expect(merged).toMatchObject({ rows: V, tensor: 'rows', changedRows: all });
    expect(changed).toHaveLength(all);
  });

  test('an adapter that was loaded, sparse or PEFT', async () => {
    const table = await openBase();
    const adapter = keep(train(createAdapter(table, { rank: 4, dora: true })));
    await saveAdapters(at('sparse'), [adapter]);
    await saveAdapters(at('peft'), [adapter], { format: 'peft' });
    for (const name of ['sparse', 'peft']) {
      const [loaded] = await loadAdapters(at(name), [table]);
      await mergeAdapter(keep(loaded!), at(`${name}.safetensors`));
      const [adapted, rows] = await both(adapter, at(`${name}.safetensors`));
      expect(largestDifference(adapted, rows)).toBeLessThanOrEqual(2e-6);
    }
  });

  test('an adapter that touched nothing: the table again', async () => {
    const adapter = keep(createAdapter(await openBase(), { rank: 2 }));
    expect((await mergeAdapter(adapter, at('merged.safetensors'))).changedRows).toBe(0);
    expect(await storedRows(at('merged.safetensors'))).toEqual(await storedRows(at('base.safetensors')));
  });

  test('a table in memory, in parts or on a device gives the same file', async () => {
    const format = formats[4]!;
    const table = await openBase(format);
    const options = { rank: 3 };
    await mergeAdapter(keep(train(createAdapter(table, options))), at('merged.safetensors'));
    const wanted = await readFile(at('merged.safetensors'));
    const placements = ['ram', [{ home: 'ram', columns: 32, rows: 20 }, { home: 'mapped' }, { home: 'ram' }]] as const;
    for (const placement of placements) {
      const other = keep(await openTable(at('base.safetensors'), { name: 'words', placement }));
      await mergeAdapter(keep(train(createAdapter(other, options))), at('other.safetensors'), { overwrite: true });
      expect((await readFile(at('other.safetensors'))).equals(wanted)).toBe(true);
    }
    const values = keep(createTable('words', normals(V, D, 1), { dtype: 'int4', groupDims: 32 }));
    await mergeAdapter(keep(train(createAdapter(values, options))), at('values.safetensors'), { tensor: 'rows' });
    const [a, b] = [await storedRows(at('values.safetensors')), await storedRows(at('merged.safetensors'))];
    expect(a).toEqual(b);
  });

  test('rows that were added to the table come out with it, and unmerge gives the table before they were', async () => {
    const base = await openBase(formats[1]);
    const grown = keep(await growTable(base, { vectors: normals(5, D, 9) }));
    const adapter = keep(train(createAdapter(grown, { rank: 2 }), [3, V, V + 4]));
    await saveAdapters(at('adapter'), [adapter]);
    const loaded = keep(await loadAdapterOf(at('adapter'), base));
    for (const one of [adapter, loaded]) {
      const merged = await mergeAdapter(one, at('merged.safetensors'), { dtype: 'f32', overwrite: true });
      expect(merged).toMatchObject({ rows: V + 5, changedRows: 3 });
      const [adapted, rows] = await both(adapter, at('merged.safetensors'));
      expect(largestDifference(adapted, rows)).toBeLessThanOrEqual(1e-6);
    }
    await unmergeTable(at('merged.safetensors'), base, at('restored.safetensors'));
    expect((await readFile(at('restored.safetensors'))).equals(await readFile(at('base.safetensors')))).toBe(true);
    const onto = mergeAdapter(loaded, at('base.safetensors'), { overwrite: true });
    await expect(onto).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('bytes', () => {
  test.each(formats.map((format) => [nameOf(format), format] as const))(
    '%s: untouched rows keep theirs, touched ones are rounded as a table would, and unmerge gives all back',
    async (_, format) => {
      const adapter = keep(train(createAdapter(await openBase(format), { rank: 4 })));
      await mergeAdapter(adapter, at('merged.safetensors'));
      const [were, are] = [await storedRows(at('base.safetensors')), await storedRows(at('merged.safetensors'))];
      const changed = were.flatMap((bytes, row) => (bytes === are[row] ? [] : [row]));
      expect(changed).toEqual([3, 11, 12, 13, 40, 69]);
      await writeTable(at('expected.safetensors'), adapter.vectors(range(V)), format);
      const expected = await storedRows(at('expected.safetensors'));
      for (const row of changed) expect(are[row]).toBe(expected[row]);

      await unmergeTable(at('merged.safetensors'), adapter.table, at('restored.safetensors'));
      expect((await readFile(at('restored.safetensors'))).equals(await readFile(at('base.safetensors')))).toBe(true);
    },
  );

  const pairs = formats.flatMap((from) => formats.map((to) => [nameOf(from), nameOf(to), from, to] as const));
  test.each(pairs.filter(([from, to]) => from !== to))(
    '%s to %s: all rows as a table would be rounded',
    async (...args) => {
      const [, , from, to] = args;
      const adapter = keep(train(createAdapter(await openBase(from), { rank: 4 })));
      const { dtype, groupDims } = to;
      await mergeAdapter(adapter, at('merged.safetensors'), { dtype, ...(dtype === 'int4' && { groupDims }) });
      await writeTable(at('expected.safetensors'), adapter.vectors(range(V)), to);
      expect(await storedRows(at('merged.safetensors'))).toEqual(await storedRows(at('expected.safetensors')));
      expect(await openTable(at('merged.safetensors')).then(keep)).toMatchObject({ dtype, groupDims });
      await unmergeTable(at('merged.safetensors'), adapter.table, at('restored.safetensors'));
      expect((await readFile(at('restored.safetensors'))).equals(await readFile(at('base.safetensors')))).toBe(true);
    },
  );

  test('int4 in other groups is rounded anew; its groups stay where none are asked for', async () => {
    const adapter = keep(train(createAdapter(await openBase(formats[4]), { rank: 2 })));
    expect((await mergeAdapter(adapter, at('a.safetensors'))).format).toEqual(formats[4]);
    expect((await mergeAdapter(adapter, at('b.safetensors'), { dtype: 'int4', groupDims: D })).format.groupDims).toBe(
      D,
    );
    expect((await storedRows(at('b.safetensors')))[0]).not.toBe((await storedRows(at('a.safetensors')))[0]);
  });

  test('a table of several files: rows of its tensor, under its name', async () => {
    await writeTable(at('one.safetensors'), normals(4, 3, 8), { dtype: 'f32', dim: 3, groupDims: 0 }, 'head');
    await writeTable(at('two.safetensors'), normals(V, D, 1), formats[3], 'rows');
    const weightMap = { head: 'one.safetensors', rows: 'two.safetensors', 'rows.scale': 'two.safetensors' };
    await writeFile(at('model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
    const table = keep(await openTable(at('model.safetensors.index.json'), { tensor: 'rows' }));
    const adapter = keep(train(createAdapter(table, { rank: 4 })));
    const merged = await mergeAdapter(adapter, at('merged.safetensors'));
    const [were, are] = [await storedRows(at('two.safetensors')), await storedRows(merged.path)];
    expect(were.flatMap((bytes, row) => (bytes === are[row] ? [] : [row]))).toEqual([3, 11, 12, 13, 40, 69]);
    await unmergeTable(merged.path, table, at('restored.safetensors'));
    expect(await readFile(at('restored.safetensors'))).toEqual(await readFile(at('two.safetensors')));
    for (const file of ['one.safetensors', 'model.safetensors.index.json'])
      await expect(mergeAdapter(adapter, at(file), { overwrite: true })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
  });

  test('an npy table', async () => {
    const table = await openBase();
    const header = Buffer.from(`{'descr': '<f4', 'fortran_order': False, 'shape': (${V}, ${D}), }`.padEnd(117) + '\n');
    const start = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length, 0]);
    const rows = await storedRows(at('base.safetensors'));
    await writeFile(
      at('base.npy'),
      Buffer.concat([start, header, Buffer.from(rows.join('').replaceAll(';', ''), 'hex')]),
    );
    const npy = keep(await openTable(at('base.npy')));
    await mergeAdapter(keep(train(createAdapter(table, { rank: 2 }))), at('a.safetensors'));
    const adapter = keep(train(createAdapter(npy, { rank: 2 })));
    expect(await mergeAdapter(adapter, at('b.safetensors'))).toMatchObject({ tensor: 'embeddings', changedRows: 6 });
    await unmergeTable(at('b.safetensors'), npy, at('restored.safetensors'));
    expect(await storedRows(at('restored.safetensors'))).toEqual(rows);
  });

  test('the file says what it was made of, and keeps what the base said', async () => {
    const adapter = keep(train(createAdapter(await openBase(), { rank: 2 })));
    await mergeAdapter(adapter, at('merged.safetensors'));
    const { metadata } = await readSafetensorsHeader(at('merged.safetensors'));
    expect(metadata).toEqual({ format: 'pt', 'finetable-merged': expect.any(String) as string });
    expect(JSON.parse(metadata['finetable-merged']!)).toEqual({
      table: 'words',
      base: { rows: V, dim: D, dtype: 'f32', fingerprint: adapter.table.fingerprint },
    });
  });
});

/** Rows enough for three blocks, the last one short. */
const blocks = 3;
const wide = 2 ** 18;
const manyRows = 2 * blockRowsOf(wide) + 1;

describe('in blocks', () => {
  const format: RowFormat = { dtype: 'f16', dim: wide, groupDims: 0 };

  test('nothing as long as the table is made: every store, read and write is of a block', async () => {
    const table = await openBase(format, manyRows);
    const adapter = keep(createAdapter(table, { kind: 'dense' }));
    const stores = vi.spyOn(Object.getPrototypeOf(table.kernels) as Kernels, 'createRows');
    const handle = await open(at('base.safetensors'));
    await handle.close();
    const files = Object.getPrototypeOf(handle) as typeof handle;
    const reads = vi.spyOn(files, 'read');
    const writes = vi.spyOn(files, 'write');
    const progress: number[][] = [];
    for (const dtype of ['f16', 'int8'] as const) {
      await mergeAdapter(adapter, at('merged.safetensors'), {
        dtype,
        overwrite: true,
        onProgress: (...now) => progress.push(now),
      });
    }
    const rowsInBlock = blockRowsOf(wide);
    expect(stores.mock.calls.map(([rows]) => rows)).toEqual([rowsInBlock, rowsInBlock, rowsInBlock, rowsInBlock]);
    const lengths = (calls: readonly unknown[][]): number[] => calls.map(([, , length]) => length as number);
    expect(Math.max(...lengths(reads.mock.calls))).toBe(rowsInBlock * wide * 2);
    expect(Math.max(...lengths(writes.mock.calls))).toBe(rowsInBlock * wide * 2);
    expect(progress.slice(0, blocks)).toEqual([
      [rowsInBlock, manyRows],
      [2 * rowsInBlock, manyRows],
      [manyRows, manyRows],
    ]);
  });

  test('changed rows in the first, a middle and the last block', async () => {
    const adapter = keep(train(createAdapter(await openBase(format, manyRows), { rank: 1 }), [0, 5, manyRows - 1]));
    await mergeAdapter(adapter, at('merged.safetensors'));
    const [were, are] = [await storedRows(at('base.safetensors')), await storedRows(at('merged.safetensors'))];
    expect(were.flatMap((bytes, row) => (bytes === are[row] ? [] : [row]))).toEqual([0, 5, manyRows - 1]);
  });

  test('stopped in any block, or on a disk that refuses, it leaves nothing and what was there', async () => {
    const adapter = keep(createAdapter(await openBase(format, manyRows), { rank: 1 }));
    await writeFile(at('merged.safetensors'), 'before');
    const before = await readdir(folder);
    const unharmed = async (): Promise<void> => {
      expect(await readdir(folder)).toEqual(before);
      expect(await readFile(at('merged.safetensors'), 'utf8')).toBe('before');
    };
    for (let after = 0; after < blocks; after++) {
      const abort = new AbortController();
      const onProgress = (done: number): void => {
        if (done >= after * blockRowsOf(wide)) abort.abort();
      };
      if (after === 0) abort.abort();
      const merging = mergeAdapter(adapter, at('merged.safetensors'), {
        overwrite: true,
        signal: abort.signal,
        onProgress,
      });
      await expect(merging).rejects.toMatchObject({ code: 'INTERRUPTED' });
      await unharmed();
    }
    const handle = await open(at('base.safetensors'));
    await handle.close();
    const files = Object.getPrototypeOf(handle) as typeof handle;
    const write = files.write as (...args: unknown[]) => unknown;
    for (const good of [0, 1, 2, 3]) {
      let calls = 0;
      const spy = vi.spyOn(files, 'write').mockImplementation(function (this: unknown, ...args: unknown[]) {
        if (calls++ < good) return write.apply(this, args) as never;
        return Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })) as never;
      });
      await expect(mergeAdapter(adapter, at('merged.safetensors'), { overwrite: true })).rejects.toMatchObject({
        code: 'IO',
        details: { errno: 'ENOSPC' },
      });
      spy.mockRestore();
      await unharmed();
    }
    await mergeAdapter(adapter, at('merged.safetensors'), { overwrite: true });
    expect(await readdir(folder)).toEqual(before);
    expect(await storedRows(at('merged.safetensors'))).toEqual(await storedRows(at('base.safetensors')));
  });

  test.each([
    ['written to', async (path: string) => writeFile(path, Buffer.from([1]), { flag: 'r+' }), 'it was written to'],
    ['cut short', async (path: string) => truncate(path, 100), 'cut short'],
  ])('a base that is %s meanwhile is an error', async (_, spoil, says) => {
    const adapter = keep(createAdapter(await openBase(format, manyRows), { rank: 1 }));
    let spoiled: Promise<void> | undefined;
    const onProgress = (): void => {
      spoiled ??= spoil(at('base.safetensors'));
    };
    const merging = mergeAdapter(adapter, at('merged.safetensors'), { onProgress });
    await expect(merging).rejects.toMatchObject({
      code: 'INVALID_FILE',
      message: expect.stringContaining(says) as string,
    });
    await spoiled;
    expect(await readdir(folder)).toEqual(['base.safetensors']);
  });
});

describe('refused', () => {
  async function refused(merge: () => Promise<unknown>, code: string, ...says: string[]): Promise<void> {
    const before = (await readdir(folder)).sort();
    const error = await merge().then(
      () => new Error('not refused'),
      (reason: Error) => reason,
    );
    expect(error).toMatchObject({ code });
    for (const part of says) expect(error.message).toContain(part);
    expect((await readdir(folder)).sort()).toEqual(before);
  }

  test('an output that is there, or is an input by whatever name', async () => {
    const adapter = keep(train(createAdapter(await openBase(), { rank: 2 })));
    await writeFile(at('there.safetensors'), 'before');
    await refused(() => mergeAdapter(adapter, at('there.safetensors')), 'EXISTS', 'there.safetensors is there already');
    expect(await readFile(at('there.safetensors'), 'utf8')).toBe('before');
    await link(at('base.safetensors'), at('hard.safetensors'));
    await symlink(at('base.safetensors'), at('soft.safetensors'));
    const bytes = await readFile(at('base.safetensors'));
    for (const name of ['base', 'hard', 'soft'])
      await refused(() => mergeAdapter(adapter, at(`${name}.safetensors`), { overwrite: true }), 'INVALID_ARGUMENT', `${name}.safetensors: is `, 'input', 'name another output'); // prettier-ignore
    expect((await readFile(at('base.safetensors'))).equals(bytes)).toBe(true);
    await refused(() => mergeAdapter(adapter, folder, { overwrite: true }), 'INVALID_ARGUMENT', 'is a folder');
    await refused(
      () => mergeAdapter(adapter, at('no/where.safetensors')),
      'IO',
      'no/where.safetensors',
      'create the folder',
    );
    await mergeAdapter(adapter, at('there.safetensors'), { overwrite: true });
    expect(await storedRows(at('there.safetensors'))).toHaveLength(V);
  });

  test('maxNorm, dtypes, groups and names that are none', async () => {
    const table = await openBase();
    const shortened = keep(createAdapter(table, { rank: 2, maxNorm: 1 }));
    await refused(() => mergeAdapter(shortened, at('o.safetensors')), 'UNSUPPORTED', 'words', 'maxNorm');
    const adapter = keep(createAdapter(table, { rank: 2 }));
    const merge = (options: object) => mergeAdapter(adapter, at('o.safetensors'), options);
    await refused(() => merge({ dtype: 'f64' }), 'INVALID_ARGUMENT', 'f64', 'allowed: f32, f16, bf16, int8, int4');
    await refused(() => merge({ dtype: 'int4', groupDims: 48 }), 'INVALID_ARGUMENT', '48', 'allowed: 32, 64, 128, 36');
    await refused(() => merge({ dtype: 'f16', groupDims: 32 }), 'INVALID_ARGUMENT', 'goes with int4');
    await refused(() => merge({ tensor: '__metadata__' }), 'INVALID_ARGUMENT', '__metadata__');
    table.close();
    await refused(() => merge({}), 'CLOSED', 'words');
  });

  test('numbers that are none, in the adapter or in the result', async () => {
    const table = await openBase();
    const merge = (adapter: Adapter, options = {}) => mergeAdapter(keep(adapter), at('o.safetensors'), options);
    const b = train(createAdapter(table, { rank: 2 }));
    b.groups[0]!.b!.data[D + 5] = NaN;
    await refused(() => merge(b), 'NON_FINITE', 'B of group "rest" [1, 5] is NaN', 'diverged');
    const magnitude = createAdapter(table, { rank: 2, dora: true });
    magnitude.magnitude![7] = Infinity;
    await refused(() => merge(magnitude), 'NON_FINITE', 'magnitude [7] is Infinity');
    const dense = train(createAdapter(table, { kind: 'dense' }));
    const put = (adapter: Adapter, value: number): void => {
      const rows = matrix(1, D, new Float32Array(D));
      rows.data[4] = value;
      const slots = new Int32Array(1);
      adapter.groups[0]!.slots.find(Int32Array.of(40), slots);
      table.kernels.scatterRows(adapter.groups[0]!.factors, slots, rows);
    };
    put(dense, -Infinity);
    await refused(() => merge(dense), 'NON_FINITE', 'row 40, dim 4', '-Infinity', 'the adapter is not');
    const large = train(createAdapter(table, { kind: 'dense' }));
    put(large, 1e5);
    await refused(() => merge(large, { dtype: 'f16' }), 'NON_FINITE', 'row 40, dim 4', 'too large for f16', '65504');
    expect((await merge(large, { dtype: 'bf16' })).changedRows).toBe(6);
  });

  test('a base that holds NaN: an untouched row keeps it, a row that is worked out does not', async () => {
    const values = normals(V, D, 1);
    values.data[20 * D + 3] = NaN;
    await writeTable(at('base.safetensors'), values);
    const table = keep(await openTable(at('base.safetensors')));
    const adapter = keep(train(createAdapter(table, { rank: 2 })));
    await refused(
      () => mergeAdapter(adapter, at('o.safetensors'), { dtype: 'f16' }),
      'NON_FINITE',
      'row 20, dim 3',
      'so is the base',
    );
    await mergeAdapter(adapter, at('o.safetensors'));
    expect((await storedRows(at('o.safetensors')))[20]).toBe((await storedRows(at('base.safetensors')))[20]);
  });

  test('unmerge from another base, of a file that was not merged, or onto its inputs', async () => {
    const table = await openBase();
    await mergeAdapter(keep(train(createAdapter(table, { rank: 2 }))), at('merged.safetensors'));
    const other = keep(createTable('other', normals(V, D, 2)));
    const out = at('o.safetensors');
    await refused(() => unmergeTable(at('merged.safetensors'), other, out), 'MISMATCH', 'it was made of [70, 36] f32', table.fingerprint, other.fingerprint); // prettier-ignore
    await refused(() => unmergeTable(at('base.safetensors'), table, out), 'INVALID_FILE', 'finetable-merged');
    await writeSafetensors(at('odd.safetensors'), [], { 'finetable-merged': '{"table":1}' });
    await refused(
      () => unmergeTable(at('odd.safetensors'), table, out),
      'INVALID_FILE',
      'not as docs/guide/12-formats.md has it',
    );
    await refused(() => unmergeTable(at('none.safetensors'), table, out), 'NOT_FOUND', 'none.safetensors');
    for (const name of ['merged', 'base'])
      await refused(() => unmergeTable(at('merged.safetensors'), table, at(`${name}.safetensors`), { overwrite: true }), 'INVALID_ARGUMENT', 'input'); // prettier-ignore
    await writeFile(out, 'before');
    await refused(() => unmergeTable(at('merged.safetensors'), table, out), 'EXISTS', 'o.safetensors');
    const stopped = AbortSignal.abort();
    await refused(
      () => unmergeTable(at('merged.safetensors'), table, out, { overwrite: true, signal: stopped }),
      'INTERRUPTED',
    );
    expect(await readFile(out, 'utf8')).toBe('before');
  });
});

test('one adapter of a folder with several', async () => {
  const [words, items] = [keep(createTable('words', normals(V, D, 1))), keep(createTable('items', normals(V, D, 2)))];
  const adapters = [words, items].map((table) => keep(train(createAdapter(table, { rank: 2 }))));
  await saveAdapters(at('both'), adapters);
  const renamed = keep(createTable('renamed', normals(V, D, 2)));
  const loaded = keep(await loadAdapterOf(at('both'), renamed, 'items'));
  expect(loaded.vectors(range(V))).toEqual(adapters[1]!.vectors(range(V)));
  await expect(loadAdapterOf(at('both'), renamed)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('adapts several tables; name one; allowed: ') as string,
  });
  await expect(loadAdapterOf(at('both'), renamed, 'users')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(loadAdapterOf(at('both'), renamed, 'words')).rejects.toMatchObject({ code: 'MISMATCH' });
  await savePeftAdapter(at('one'), [adapterTensors(adapters[0]!)]);
  const other = keep(createTable('any name', normals(V, D, 1)));
  expect(keep(await loadAdapterOf(at('one'), other)).touchedRows).toBe(6);
});
