/** The tfjs device: its rows, names and room. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { testRowsOnDevice } from '@finetable/lora/testing';
import { openTable } from '@finetable/placement';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { tf } from '../load.ts';
import { tfjsDevice } from './device.ts';
import { onEachBackend } from '../testing/backends.ts';
import { subject } from '../testing/subject.ts';
import { normals, writeTable } from '@finetable/placement/testing';

const V = 50;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tfjs-device-'));
});
afterEach(() => rm(folder, { recursive: true }));

onEachBackend((backend) => {
  testRowsOnDevice(subject);

  test('names, room, and what there is no room for', async () => {
    const path = join(folder, 'rows.safetensors');
    await writeTable(path, normals(V, 6), { dtype: 'f32', dim: 6, groupDims: 0 });
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
