/** Whatever a table's rows are kept in, what is fetched from a tfjs device is what is in the file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, range, type RowFormat } from '@finetable/core';
import { openTable } from '@finetable/placement';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tf } from '../load.ts';
import { tfjsDevice } from './device.ts';
import { onEachBackend } from '../testing/backends.ts';
import { normals, writeTable } from '@finetable/placement/testing';

const V = 50;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tfjs-device-'));
});
afterEach(() => rm(folder, { recursive: true }));

const formats: readonly RowFormat[] = [
  { dtype: 'f32', dim: 6, groupDims: 0 },
  { dtype: 'f16', dim: 5, groupDims: 0 },
  { dtype: 'f16', dim: 8, groupDims: 0 },
  { dtype: 'bf16', dim: 7, groupDims: 0 },
  { dtype: 'int8', dim: 7, groupDims: 7 },
  { dtype: 'int8', dim: 16, groupDims: 16 },
  { dtype: 'int4', dim: 70, groupDims: 32 },
  { dtype: 'int4', dim: 9, groupDims: 9 },
];

onEachBackend((backend) => {
  describe.each(formats)('$dtype, $dim dims', (format) => {
    test('the bytes of the file, in one tensor or several, whole or by columns', async () => {
      const path = join(folder, 'rows.safetensors');
      await writeTable(path, normals(V, format.dim), format);
      const plain = await openTable(path);
      const ids = Int32Array.from({ length: 30 }, (_, i) => (i * 17) % V);
      const plan = makePlan(jagged([[...ids.subarray(0, 9)], [], [...ids.subarray(9)]]), V, { pooling: 'mean' });
      const expected = matrix(3, format.dim);
      plain.lookup(plan, expected);
      const { numTensors } = tf.memory();
      const columns = format.groupDims > 0 ? Math.min(format.groupDims, format.dim) : 4;
      for (const [tensorBytes, cut] of [
        [undefined, false],
        [300, false],
        [300, true],
      ] as const) {
        const device = await tfjsDevice({ tensorBytes });
        const placement =
          cut && columns < format.dim
            ? ([
                { home: device, columns, rows: 20 },
                { home: 'ram' },
                { home: 'mapped', rows: 10 },
                { home: device },
              ] as const)
            : device;
        const table = await openTable(path, { placement });
        expect(table.fingerprint).toBe(plain.fingerprint);
        expect(await table.gatherAsync(ids)).toEqual(plain.gather(ids));
        const out = matrix(3, format.dim);
        await table.pool(plan, out);
        expect(out).toEqual(expected);
        table.close();
        expect(tf.memory().numTensors).toBe(numTensors);
      }
      plain.close();
    });

    test('decoded on the device as the kernels do', async () => {
      const path = join(folder, 'rows.safetensors');
      const values = normals(V, format.dim);
      await writeTable(path, values, format);
      const plain = await openTable(path);
      const device = await tfjsDevice({ tensorBytes: 400 });
      const table = await openTable(path, { placement: device });
      const bags = range(V + 1);
      const lookup = table.begin(makePlan({ values: range(V), offsets: bags }, V));
      const e = lookup.adapt([]);
      const out = matrix(V, format.dim);
      await e.read(out);
      // Bags of one without weights: nothing is added up, so nothing is rounded.
      expect(out).toEqual(plain.gather(range(V)));
      e.dispose();
      lookup.dispose();
      table.close();
      plain.close();
    });
  });

  test('what is not a number stays it, bit by bit', async () => {
    const path = join(folder, 'rows.safetensors');
    const odd = [NaN, Infinity, -Infinity, -0, 1e-45, 3.4e38];
    await writeTable(path, matrix(2, 6, Float32Array.of(...odd, ...odd)), formats[0]!);
    const table = await openTable(path, { placement: await tfjsDevice() });
    expect([...(await table.gatherAsync(Int32Array.of(1))).data]).toEqual(odd.map(Math.fround));
    table.close();
  });

  test('names, room, and what there is no room for', async () => {
    const path = join(folder, 'rows.safetensors');
    await writeTable(path, normals(V, 6), formats[0]!);
    const { numTensors, numBytes } = tf.memory();
    const device = await tfjsDevice({ memoryBytes: numBytes + 3000 });
    expect(device).toMatchObject({ name: `tfjs:${backend}`, kind: 'gpu', isGpu: false });
    expect(device.capacityBytes).toBe(3000);
    const table = await openTable(path, { placement: device });
    expect(table.sizeBytes).toBe(V * 24);
    expect(device.capacityBytes).toBe(3000 - V * 24);
    expect(device.note).toMatch(/ given, tfjs holds /);
    const second = await openTable(path, { placement: device });
    await expect(openTable(path, { placement: device })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/^rows: its shards on device "tfjs:\w+" take 1\.17 KiB; the device has 600 B$/),
    });
    second.close();
    table.close();
    expect(device.capacityBytes).toBe(3000);
    const other = await tfjsDevice({ tensorBytes: 20 });
    await expect(openTable(path, { placement: other })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/a row takes 24 bytes, a tensor at most 20/),
    });
    expect(tf.memory().numTensors).toBe(numTensors);
  });

  test('options that are none', async () => {
    await expect(tfjsDevice({ memory: 3 } as object)).rejects.toThrow(/there is no option "memory"; allowed: name, /);
    await expect(tfjsDevice({ memoryBytes: NaN })).rejects.toThrow(/memoryBytes NaN; allowed/);
  });
});
