/** Whatever a table's rows are kept in, what is fetched from a WebGPU device is what is in the file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, range, type RowFormat } from '@finetable/core';
import { openTable } from '@finetable/placement';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { webgpuDevice, type WebgpuDevice, type WebgpuDeviceOptions } from './device.ts';
import { deviceRowBytes } from './rows.ts';
import { onAdapter } from './testing/adapter.ts';
import { normals, writeTable } from '@finetable/placement/testing';

const V = 50;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webgpu-device-'));
});
afterEach(() => rm(folder, { recursive: true }));

const openDevice = (options: WebgpuDeviceOptions = {}): Promise<WebgpuDevice> =>
  webgpuDevice({ software: true, ...options });

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

onAdapter(() => {
  describe.each(formats)('$dtype, $dim dims', (format) => {
    test('the bytes of the file, in one buffer or several, whole or by columns', async () => {
      const path = join(folder, 'rows.safetensors');
      await writeTable(path, normals(V, format.dim), format);
      const plain = await openTable(path);
      const ids = Int32Array.from({ length: 30 }, (_, i) => (i * 17) % V);
      const plan = makePlan(jagged([[...ids.subarray(0, 9)], [], [...ids.subarray(9)]]), V, { pooling: 'mean' });
      const expected = matrix(3, format.dim);
      plain.lookup(plan, expected);
      const columns = format.groupDims > 0 ? Math.min(format.groupDims, format.dim) : 4;
      for (const [bufferBytes, cut] of [
        [undefined, false],
        [300, false],
        [300, true],
      ] as const) {
        const device = await openDevice({ bufferBytes });
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
        expect(device.heldBytes).toBe(0);
      }
      plain.close();
    });

    test('decoded on the device as the kernels do', async () => {
      const path = join(folder, 'rows.safetensors');
      await writeTable(path, normals(V, format.dim), format);
      const plain = await openTable(path);
      // Three buffers, in one pass.
      const device = await openDevice({ bufferBytes: 17 * deviceRowBytes(format) });
      const table = await openTable(path, { placement: device });
      const lookup = table.begin(makePlan({ values: range(V), offsets: range(V + 1) }, V));
      const e = lookup.adapt([]);
      const out = matrix(V, format.dim);
      await e.read(out);
      // Bags of one without weights: nothing is added up, so nothing is rounded.
      expect(out).toEqual(plain.gather(range(V)));
      e.dispose();
      lookup.dispose();
      table.close();
      plain.close();
      expect(device.heldBytes).toBe(0);
    });
  });

  test('what is not a number stays it, bit by bit', async () => {
    const path = join(folder, 'rows.safetensors');
    const odd = [NaN, Infinity, -Infinity, -0, 1e-45, 3.4e38];
    await writeTable(path, matrix(2, 6, Float32Array.of(...odd, ...odd)), formats[0]!);
    const table = await openTable(path, { placement: await openDevice() });
    expect([...(await table.gatherAsync(Int32Array.of(1))).data]).toEqual(odd.map(Math.fround));
    table.close();
  });

  test('names, room, and what there is no room for', async () => {
    const path = join(folder, 'rows.safetensors');
    await writeTable(path, normals(V, 6), formats[0]!);
    // Six columns are filled up to eight.
    const rowBytes = 32;
    const device = await openDevice({ memoryBytes: 4000 });
    expect(device).toMatchObject({
      name: `webgpu:${device.adapter.name}`,
      kind: 'gpu',
      isGpu: !device.adapter.software,
    });
    expect(device.capacityBytes).toBe(4000);
    const table = await openTable(path, { placement: device });
    expect(table.sizeBytes).toBe(V * rowBytes);
    expect([device.heldBytes, device.capacityBytes]).toEqual([V * rowBytes, 4000 - V * rowBytes]);
    expect(device.note).toBe('3.91 KiB given, 1.56 KiB held');
    const second = await openTable(path, { placement: device });
    await expect(openTable(path, { placement: device })).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
    second.close();
    table.close();
    expect(device.capacityBytes).toBe(4000);
    const other = await openDevice({ bufferBytes: 20, name: 'small' });
    await expect(openTable(path, { placement: other })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/device "small": a row takes 32 B, a buffer at most 20 B/),
    });
    expect([device.heldBytes, other.heldBytes]).toEqual([0, 0]);
  });

  test('options that are none', async () => {
    await expect(openDevice({ memory: 3 } as object)).rejects.toThrow(/there is no option "memory"; allowed: name, /);
    await expect(openDevice({ memoryBytes: NaN })).rejects.toThrow(/memoryBytes NaN; allowed/);
  });
});
