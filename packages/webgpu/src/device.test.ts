/** The WebGPU device: its rows, names and room. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { testRowsOnDevice } from '@finetable/lora/testing';
import { openTable } from '@finetable/placement';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { webgpuDevice, type WebgpuDevice, type WebgpuDeviceOptions } from './device.ts';
import { onAdapter } from './testing/adapter.ts';
import { subject } from './testing/subject.ts';
import { normals, writeTable } from '@finetable/placement/testing';

const V = 50;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webgpu-device-'));
});
afterEach(() => rm(folder, { recursive: true }));

const openDevice = (options: WebgpuDeviceOptions = {}): Promise<WebgpuDevice> =>
  webgpuDevice({ software: true, ...options });

onAdapter(() => {
  testRowsOnDevice(subject);

  test('names, room, and what there is no room for', async () => {
    const path = join(folder, 'rows.safetensors');
    await writeTable(path, normals(V, 6), { dtype: 'f32', dim: 6, groupDims: 0 });
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
