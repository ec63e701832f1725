/** Adapters of a table on a WebGPU device. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix } from '@finetable/core';
import { createAdapter, sgd } from '@finetable/lora';
import { testAdaptersOnDevice } from '@finetable/lora/testing';
import { openTable } from '@finetable/placement';
import { normals, writeTable } from '@finetable/placement/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { webgpuDevice } from './device.ts';
import { onAdapter } from './testing/adapter.ts';
import { subject } from './testing/subject.ts';

const D = 24;
let folder: string;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'webgpu-adapter-'))));
afterEach(() => rm(folder, { recursive: true }));

onAdapter(() => {
  testAdaptersOnDevice(subject);

  test('what crosses: ids, weights where there are any, rows of A, B, E and its gradient', async () => {
    const device = await webgpuDevice({ software: true });
    const path = join(folder, 'rows.safetensors');
    await writeTable(path, normals(60, D), { dtype: 'f32', dim: D, groupDims: 0 });
    const table = await openTable(path, { placement: device });
    const adapter = createAdapter(table, { rank: 4 });
    adapter.startTraining(sgd({ learningRate: 0.1 }));
    const bags = Array.from({ length: 8 }, (_, b) => [b, b + 1, b + 2, 50]);
    const plan = makePlan(jagged(bags), 60);
    const u = 11;
    let { uploadedBytes: up, downloadedBytes: down } = device.traffic;
    const crossed = (): number[] => {
      const { uploadedBytes, downloadedBytes } = device.traffic;
      const bytes = [uploadedBytes - up, downloadedBytes - down];
      [up, down] = [uploadedBytes, downloadedBytes];
      return bytes;
    };
    const lookup = adapter.table.begin(plan);
    // The unique row of each place, the unique rows, where bags begin.
    expect(crossed()).toEqual([4 * (32 + u + 9), 0]);
    const e = adapter.adapt(lookup, true);
    expect(crossed()).toEqual([4 * 4 * (u + D), 0]);
    await e.read(matrix(8, D));
    expect(crossed()).toEqual([0, 4 * 8 * D]);
    await adapter.deviceGradients(lookup, [e]);
    // The bag of each grouped place, where the groups begin, and the one piece of B's gradient.
    expect(crossed()).toEqual([4 * (32 + u + 1) + 4 * 2, 4 * 4 * (u + D)]);
    e.dispose();
    lookup.dispose();
    adapter.close();
    table.close();
  });
});
