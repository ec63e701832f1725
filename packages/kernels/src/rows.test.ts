/** Row stores of both implementations: memory, files, closing, and sizes beyond 32 bits. */
import { ftruncateSync, mkdtempSync, openSync, closeSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { f32ToF16, jagged, makePlan, matrix } from '@finetable/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FileRows, Kernels, RowStore } from './kernels.ts';
import { native, needAddon, portable, testBoth } from './testing/implementations.ts';

const addonFile = process.env.FINETABLE_ADDON ?? fileURLToPath(new URL('../build/finetable.node', import.meta.url));
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'finetable-rows-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const code = (expected: string, ...parts: string[]) =>
  expect.objectContaining({ code: expected, message: expect.stringMatching(parts.join('.*')) as string }) as Error;

function gather(kernels: Kernels, store: RowStore, ...rows: number[]): number[] {
  const out = matrix(rows.length, store.dim);
  kernels.gatherRows(store, Int32Array.from(rows), out);
  return [...out.data];
}

/** Row v holds v, v + 0.5, v + 1, … after `byteOffset` bytes of 0xff. */
function tableFile(name: string, rows: number, dim: number, dtype: 'f32' | 'f16', byteOffset: number): FileRows {
  const size = dtype === 'f32' ? 4 : 2;
  const bytes = Buffer.alloc(byteOffset + rows * dim * size, 0xff);
  for (let i = 0; i < rows * dim; i++) {
    const value = Math.floor(i / dim) + (i % dim) / 2;
    if (dtype === 'f32') bytes.writeFloatLE(value, byteOffset + i * 4);
    else bytes.writeUInt16LE(f32ToF16(value), byteOffset + i * 2);
  }
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return { path, byteOffset, rows, dim, dtype };
}

testBoth('a new store holds zeros; a row given twice keeps its last value', (kernels) => {
  const store = kernels.createRows(5, 3, 'f32');
  expect(store).toMatchObject({ rows: 5, dim: 3, dtype: 'f32', home: 'ram', sizeBytes: 60, closed: false });
  expect(gather(kernels, store, 0, 4)).toEqual([0, 0, 0, 0, 0, 0]);
  kernels.scatterRows(store, Int32Array.of(4, 1, 4), matrix(3, 3, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9)));
  expect(gather(kernels, store, 4, 1, 0)).toEqual([7, 8, 9, 4, 5, 6, 0, 0, 0]);
});

testBoth('stored bytes are read and written at any offset', (kernels) => {
  // 24 MiB: more than one chunk of the portable store.
  const store = kernels.createRows(3 * 2 ** 19, 4, 'f32');
  const bytes = Uint8Array.from({ length: 3_000_001 }, (_, i) => i * 31);
  const at = 2 ** 24 - 1_234_567;
  kernels.writeBytes(store, at, bytes);
  const out = new Uint8Array(bytes.length + 2);
  kernels.readBytes(store, at - 1, out);
  expect(out[0]).toBe(0);
  expect(out[out.length - 1]).toBe(0);
  expect(Buffer.from(out.buffer, 1, bytes.length).equals(Buffer.from(bytes.buffer))).toBe(true);
  store.close();
});

for (const home of ['ram', 'mapped'] as const) {
  for (const dtype of ['f32', 'f16'] as const) {
    for (const byteOffset of [0, 1, 8, 4095, 5003]) {
      testBoth(`${home} rows of ${dtype} from byte ${byteOffset} of a file`, (kernels) => {
        const file = tableFile(`${kernels.name}-${home}-${dtype}-${byteOffset}`, 700, 9, dtype, byteOffset);
        const store = kernels.openRows(file, home);
        expect(store).toMatchObject({ rows: 700, dim: 9, dtype, home });
        const rows = [0, 350, 699];
        expect(gather(kernels, store, ...rows)).toEqual(
          rows.flatMap((v) => Array.from({ length: 9 }, (_, i) => v + i / 2)),
        );
        const out = matrix(1, 9);
        kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([[1, 699]]), 700), out });
        expect([...out.data]).toEqual(Array.from({ length: 9 }, (_, i) => 700 + i));
        const raw = new Uint8Array(3);
        kernels.readBytes(store, store.sizeBytes - 3, raw);
        const last =
          dtype === 'f32'
            ? Buffer.from(Float32Array.of(699 + 4).buffer)
            : Buffer.from(Uint16Array.of(f32ToF16(702.5), f32ToF16(703)).buffer);
        expect([...raw]).toEqual([...last.subarray(1)]);
        store.close();
      });
    }
  }
}

testBoth('the last row of a file that ends with its last page', (kernels) => {
  // A vector read past the row's end would leave the mapping.
  for (const dim of [1, 7, 9, 63]) {
    for (const dtype of ['f32', 'f16'] as const) {
      const store = kernels.openRows(tableFile(`pages-${kernels.name}-${dtype}-${dim}`, 2048, dim, dtype, 0), 'mapped');
      const last = Array.from({ length: dim }, (_, i) => 2047 + (dtype === 'f32' ? i / 2 : Math.round(i / 2)));
      const out = matrix(1, dim);
      kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([[2047]]), 2048), out });
      // f16 steps by 1 between 1024 and 2048 and by 2 above: the first value is exact, the others within 1.
      expect(out.data[0]).toBe(2047);
      out.data.forEach((x, i) => expect(Math.abs(x - last[i]!)).toBeLessThanOrEqual(1));
      expect(gather(kernels, store, 2047)).toEqual([...out.data]);
      store.close();
    }
  }
});

describe('files that cannot be opened', () => {
  testBoth('too short: both sizes are named', (kernels) => {
    const file = { ...tableFile('short', 10, 4, 'f32', 16), rows: 11 };
    for (const home of ['ram', 'mapped'] as const) {
      expect(() => kernels.openRows(file, home)).toThrow(code('INVALID_FILE', 'short', '192', '176'));
    }
  });
  testBoth('not there, or not a file', (kernels) => {
    const file = { path: join(folder, 'absent'), byteOffset: 0, rows: 1, dim: 1, dtype: 'f32' as const };
    expect(() => kernels.openRows(file, 'mapped')).toThrow(code('NOT_FOUND', 'absent'));
    expect(() => kernels.openRows({ ...file, path: folder }, 'ram')).toThrow(
      code('INVALID_FILE', 'not a regular file'),
    );
  });
  test('portable: a file that becomes shorter is noticed when its row is read', () => {
    const file = tableFile('shrinks', 10, 4, 'f32', 0);
    const store = portable.openRows(file, 'mapped');
    writeFileSync(file.path, Buffer.alloc(100));
    expect(() => gather(portable, store, 9)).toThrow(code('INVALID_FILE', 'ends at byte'));
    store.close();
  });
});

testBoth('a mapped store cannot be written', (kernels) => {
  const store = kernels.openRows(tableFile('read-only', 4, 2, 'f32', 0), 'mapped');
  expect(() => kernels.scatterRows(store, Int32Array.of(0), matrix(1, 2))).toThrow(code('INVALID_ARGUMENT', 'mapped'));
  expect(() => kernels.writeBytes(store, 0, new Uint8Array(1))).toThrow(code('INVALID_ARGUMENT', 'mapped'));
  const rule = { type: 'sgd', learningRate: 1, weightDecay: 0 } as const;
  const update = { parameters: store, state: [], rule, step: 1, slots: Int32Array.of(0), gradients: matrix(1, 2) };
  expect(() => kernels.updateRows(update)).toThrow(code('INVALID_ARGUMENT', 'mapped'));
  expect(gather(kernels, store, 0)).toEqual([0, 0.5]);
  store.close();
});

testBoth('a closed store may be closed again and is refused everywhere else', (kernels) => {
  const store = kernels.createRows(2, 2, 'f32');
  store.close();
  store.close();
  expect(store.closed).toBe(true);
  const out = matrix(1, 2);
  const plan = makePlan(jagged([[1]]), 2);
  const rule = { type: 'sgd', learningRate: 1, weightDecay: 0 } as const;
  const delta = { factors: store, slots: Int32Array.of(0), b: null, scale: 1 };
  const calls: (() => void)[] = [
    () => kernels.gatherRows(store, Int32Array.of(0), out),
    () => kernels.scatterRows(store, Int32Array.of(0), out),
    () => kernels.readBytes(store, 0, new Uint8Array(1)),
    () => kernels.writeBytes(store, 0, new Uint8Array(1)),
    () => kernels.lookup({ base: [{ store, firstRow: 0 }], plan, out }),
    () => kernels.addDelta({ plan, delta, out }),
    () => kernels.updateRows({ parameters: store, state: [], rule, step: 1, slots: Int32Array.of(0), gradients: out }),
    () =>
      kernels.replayRows({ parameters: store, state: [], rule, step: 1, slots: Int32Array.of(0), lastSteps: store }),
  ];
  for (const call of calls) expect(call).toThrow(code('CLOSED', 'closed'));
});

testBoth('a store of more than 2^31 elements, of which two rows are used', (kernels) => {
  const rows = 2 ** 25;
  const store = kernels.createRows(rows, 128, 'f32'); // 16 GiB of addresses
  const values = matrix(
    2,
    128,
    Float32Array.from({ length: 256 }, (_, i) => i),
  );
  kernels.scatterRows(store, Int32Array.of(rows - 1, 2 ** 24), values);
  expect(gather(kernels, store, rows - 1)).toEqual([...values.data.subarray(0, 128)]);
  const out = matrix(1, 128);
  kernels.lookup({
    base: [{ store, firstRow: 0 }],
    plan: makePlan(jagged([[2 ** 24, rows - 1, 2 ** 24 - 1]]), rows),
    out,
  });
  expect([...out.data]).toEqual(Array.from({ length: 128 }, (_, i) => 2 * i + 128));
  const raw = new Uint8Array(4);
  kernels.readBytes(store, store.sizeBytes - 4, raw);
  expect(new Float32Array(raw.buffer)[0]).toBe(127);
  const delta = { factors: store, slots: Int32Array.of(rows - 1), b: null, scale: 1 };
  kernels.lookup({ base: [{ store, firstRow: 0 }], plan: makePlan(jagged([[0]]), rows), delta, out });
  expect([...out.data]).toEqual([...values.data.subarray(0, 128)]);
  store.close();
});

testBoth('a sparse file of more than 4 GiB is mapped and read at its far end', (kernels) => {
  const path = join(folder, `sparse-${kernels.name}`);
  const [rows, dim, byteOffset] = [70_000_001, 16, 12_345];
  const descriptor = openSync(path, 'w');
  ftruncateSync(descriptor, byteOffset + rows * dim * 4);
  writeSync(
    descriptor,
    Buffer.from(Float32Array.from({ length: dim }, (_, i) => i + 1).buffer),
    0,
    dim * 4,
    byteOffset + (rows - 1) * dim * 4,
  );
  closeSync(descriptor);
  const store = kernels.openRows({ path, byteOffset, rows, dim, dtype: 'f32' }, 'mapped');
  expect(gather(kernels, store, rows - 1, rows - 2)).toEqual([
    ...Array.from({ length: dim }, (_, i) => i + 1),
    ...new Array<number>(dim).fill(0),
  ]);
  // The same bytes as a shard that begins beyond 4 GiB.
  const tail = kernels.openRows(
    { path, byteOffset: byteOffset + (rows - 10) * dim * 4, rows: 10, dim, dtype: 'f32' },
    'mapped',
  );
  expect(gather(kernels, tail, 9)[15]).toBe(16);
  tail.close();
  store.close();
  rmSync(path);
});

testBoth('a size that no machine has is refused', (kernels) => {
  expect(() => kernels.createRows(0x7fffffff, 2 ** 24, 'f32')).toThrow(code('OUT_OF_MEMORY', 'TiB'));
});

test('a store of the other implementation is refused', (context) => {
  const other = native(needAddon(context));
  const store = portable.createRows(1, 1, 'f32');
  expect(() => other.gatherRows(store, Int32Array.of(0), matrix(1, 1))).toThrow(code('INVALID_ARGUMENT', 'native'));
  expect(() => portable.gatherRows(other.createRows(1, 1, 'f32'), Int32Array.of(0), matrix(1, 1))).toThrow(
    code('INVALID_ARGUMENT', 'portable'),
  );
});

describe('native: one mapping for all threads', () => {
  test('a worker that opens the same file gets the same mapping; it goes with its last store', async (context) => {
    const addon = needAddon(context);
    const kernels = native(addon);
    const file = tableFile('shared', 1000, 8, 'f32', 64);
    const before = addon.mappedFiles();
    const store = kernels.openRows(file, 'mapped');
    expect(addon.mappedFiles()).toBe(before + 1);
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const addon = require(workerData.addonFile);
       const descriptor = require('node:fs').openSync(workerData.path, 'r');
       const rows = addon.mapRows(descriptor, 64, 1000 * 8 * 4);
       const other = addon.mapRows(descriptor, 128, 10 * 8 * 4);
       parentPort.postMessage(addon.mappedFiles());
       parentPort.once('message', () => {
         const out = new Float32Array(8);
         addon.gatherRows(addon.createContext(null, 4), rows, 8, false, Int32Array.of(7), out);
         addon.closeRows(rows);
         parentPort.postMessage({ out, left: addon.mappedFiles() });
         parentPort.close();
       });`,
      { eval: true, workerData: { addonFile, path: file.path } },
    );
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    const next = () => new Promise<unknown>((resolve, reject) => worker.once('message', resolve).once('error', reject));
    // The whole table is one mapping, though two stores are over it; the part is another.
    expect(await next()).toBe(before + 2);
    store.close();
    expect(addon.mappedFiles()).toBe(before + 2);
    const reply = next();
    worker.postMessage('go on');
    expect(await reply).toEqual({ out: Float32Array.from({ length: 8 }, (_, i) => 7 + i / 2), left: before + 1 });
    await exited;
    // The store that the worker left open was freed with the worker.
    expect(addon.mappedFiles()).toBe(before);
  });

  test('a file that was replaced is another mapping', (context) => {
    const addon = needAddon(context);
    const kernels = native(addon);
    const first = kernels.openRows(tableFile('versions', 10, 2, 'f32', 0), 'mapped');
    rmSync(join(folder, 'versions'));
    const second = kernels.openRows({ ...tableFile('versions', 10, 2, 'f32', 8), byteOffset: 0 }, 'mapped');
    expect(gather(kernels, first, 3)).toEqual([3, 3.5]);
    expect(gather(kernels, second, 3)).toEqual([2, 2.5]);
    first.close();
    second.close();
  });

  test('a process ends cleanly whose only users of the addon were workers', (context) => {
    needAddon(context);
    // Each worker leaves the pool's threads asleep in code that Node would unload with it.
    const work = `const { Worker } = require('node:worker_threads');
      const body = ${JSON.stringify(`
        const addon = require(${JSON.stringify(addonFile)});
        const context = addon.createContext(null, 8);
        const a = new Float32Array(512 * 512).fill(1), out = new Float32Array(512 * 512);
        addon.matmul(context, 512, 512, 512, a, false, a, false, out, 1);
        if (out[12345] !== 512) throw new Error('wrong product ' + out[12345]);`)};
      const run = () => new Promise((done, fail) => new Worker(body, { eval: true }).once('error', fail).once('exit', done));
      (async () => {
        await run();
        await Promise.all([run(), run(), run()]);
        await new Promise((done) => setTimeout(done, 50));
        process.stdout.write('clean');
      })();`;
    const child = spawnSync(process.execPath, ['-e', work], { encoding: 'utf8', timeout: 30_000 });
    expect(child).toMatchObject({ status: 0, signal: null, stdout: 'clean', stderr: '' });
  });
});
