/** Lookups off the JavaScript thread: their results, and what may happen around them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { makePlan, matrix, type Matrix } from '@finetable/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Kernels } from '../kernels.ts';
import { normals, upTo } from '../testing/cases.ts';
import { native, needAddon } from '../testing/implementations.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'finetable-async-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const [rows, dim, bags, bagSize] = [4000, 48, 2000, 20];
const plan = makePlan(
  {
    values: Int32Array.from({ length: bags * bagSize }, (_, i) => (i * 7919) % rows),
    offsets: Int32Array.from({ length: bags + 1 }, (_, i) => i * bagSize),
  },
  rows,
);

/** A mapped table, with a delta of every second unique row. */
function setUp(kernels: Kernels, name: string) {
  const table = normals(rows, dim, 3, 'table').data;
  const path = join(folder, name);
  writeFileSync(path, Buffer.from(table.buffer, table.byteOffset, table.byteLength));
  const store = kernels.openRows({ path, byteOffset: 0, rows, dim, dtype: 'f32' }, 'mapped');
  const factors = kernels.createRows(rows, 8, 'f32');
  kernels.scatterRows(factors, upTo(rows), normals(rows, 8, 4, 'A'));
  const slots = plan.uniqueRows.map((row) => (row % 2 === 0 ? row : -1));
  const delta = { factors, slots, b: normals(8, dim, 5, 'B'), scale: 0.5 };
  return { store, args: () => ({ base: [{ store, firstRow: 0 }], plan, delta, out: matrix(bags, dim) }), factors };
}

const bytes = ({ data }: Matrix): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

test('gives the bytes of the lookup, many at once', async (context) => {
  const addon = needAddon(context);
  for (const threads of [1, 3]) {
    const kernels = native(addon, threads);
    const { store, factors, args } = setUp(kernels, `at-once-${threads}`);
    const expected = args();
    kernels.lookup(expected);
    const found = Array.from({ length: 8 }, args);
    const settled = found.map((x) => kernels.lookupAsync(x));
    // The JavaScript thread may use the kernels meanwhile.
    const meanwhile = args();
    kernels.lookup(meanwhile);
    expect(await Promise.all(settled)).toEqual(new Array<undefined>(8).fill(undefined));
    for (const { out } of [meanwhile, ...found]) expect(bytes(out).equals(bytes(expected.out))).toBe(true);
    store.close();
    factors.close();
  }
});

test('a store closed meanwhile is freed when it has settled, and arrays nobody holds stay', async (context) => {
  const addon = needAddon(context);
  const kernels = native(addon, 2);
  const { store, factors, args } = setUp(kernels, 'closed');
  const expected = args();
  kernels.lookup(expected);
  const before = addon.mappedFiles();
  const outs = Array.from({ length: 6 }, () => {
    const { out, ...rest } = args();
    // Copies that only the call knows.
    const copied = { ...plan, offsets: plan.offsets.slice(), placeRows: plan.placeRows.slice() };
    return { out, settled: kernels.lookupAsync({ ...rest, out, plan: copied }) };
  });
  store.close();
  factors.close();
  expect(addon.mappedFiles()).toBe(before);
  expect(() => kernels.lookupAsync(args())).toThrow(expect.objectContaining({ code: 'CLOSED' }) as Error);
  for (const { out, settled } of outs) {
    await settled;
    expect(bytes(out).equals(bytes(expected.out))).toBe(true);
  }
  while (addon.mappedFiles() === before) await delay(1);
  expect(addon.mappedFiles()).toBe(before - 1);
});

const addonFile = fileURLToPath(new URL('../../build/finetable.node', import.meta.url));

/** Begins a search and lookups of about 100 ms in all, 17 at once, of rows whose store is closed at once. */
const begin = `
  const addon = require(${JSON.stringify(addonFile)});
  const context = addon.createContext(null, 2);
  const [bags, bagSize, dim] = [20000, 20, 64];
  const rows = addon.createRows(100000, dim, 0, 0);
  const offsets = Int32Array.from({ length: bags + 1 }, (_, i) => i * bagSize);
  const places = Int32Array.from({ length: bags * bagSize }, (_, i) => i % 100000);
  const uniqueRows = Int32Array.from({ length: 100000 }, (_, i) => i);
  const search = addon.nearest(context, dim, 100000, [rows, 0, 0], new Float32Array(64 * dim), 64, 10, true, null, null,
    null, null, 0, new Int32Array(640), new Float32Array(640));
  const settled = Array.from({ length: 16 }, () => addon.lookupAsync(context, dim, [rows, 0, 0], null, null, offsets,
    places, places, uniqueRows, null, null, null, null, 0, new Float32Array(bags * dim), null));
  addon.closeRows(rows);`;

test('a process or a worker may end while lookups and searches run', (context) => {
  needAddon(context);
  const endings = {
    // 'clean' is written first, so that what is checked is how the process ends.
    exit: `${begin} process.stdout.write('clean', () => process.exit(0));`,
    'uncaught end of the program': `${begin} process.stdout.write('clean');`,
    'worker terminated': `
      const { Worker } = require('node:worker_threads');
      const worker = new Worker(${JSON.stringify(`${begin} require('node:worker_threads').parentPort.postMessage(0);`)}, { eval: true });
      worker.once('message', () => worker.terminate().then(() => process.stdout.write('clean')));`,
    'worker exits': `
      const { Worker } = require('node:worker_threads');
      const worker = new Worker(${JSON.stringify(`${begin} process.exit(0);`)}, { eval: true });
      worker.once('exit', () => process.stdout.write('clean'));`,
  };
  for (const [name, program] of Object.entries(endings)) {
    const child = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8', timeout: 30_000 });
    expect({ name, ...child }).toMatchObject({ name, status: 0, signal: null, stdout: 'clean', stderr: '' });
  }
});
