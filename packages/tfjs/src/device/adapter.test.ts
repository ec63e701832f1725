/** Adapters of a table on a tfjs device. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix } from '@finetable/core';
import { createAdapter, sgd } from '@finetable/lora';
import { testAdaptersOnDevice } from '@finetable/lora/testing';
import { openTable } from '@finetable/placement';
import { normals, writeTable } from '@finetable/placement/testing';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { subject } from '../testing/subject.ts';
import { tfjsDevice } from './device.ts';
import { TfjsMatrix } from './matrix.ts';

const D = 24;
let folder: string;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'tfjs-adapter-'))));
afterEach(() => rm(folder, { recursive: true }));

onEachBackend(() => {
  testAdaptersOnDevice(subject);

  test('what crosses: ids, weights where there are any, rows of A, B, E and its gradient', async () => {
    const device = await tfjsDevice();
    const path = join(folder, 'rows.safetensors');
    await writeTable(path, normals(60, D), { dtype: 'f32', dim: D, groupDims: 0 });
    const table = await openTable(path, { placement: device });
    const adapter = createAdapter(table, { rank: 4 });
    adapter.startTraining(sgd({ learningRate: 0.1 }));
    const bags = Array.from({ length: 8 }, (_, b) => [b, b + 1, b + 2, 50]);
    const plan = makePlan(jagged(bags), 60);
    const u = 11;
    const before = { ...device.traffic };
    const lookup = adapter.table.begin(plan);
    const sent = (): number => device.traffic.uploadedBytes - before.uploadedBytes;
    const received = (): number => device.traffic.downloadedBytes - before.downloadedBytes;
    // Unique rows, and the place of each id among them.
    expect([sent(), received()]).toEqual([4 * (u + 32), 0]);
    const e = adapter.adapt(lookup, true);
    expect([sent(), received()]).toEqual([4 * (u + 32) + 4 * 4 * (u + D), 0]);
    await e.read(matrix(8, D));
    expect(received()).toBe(4 * 8 * D);
    const g = new TfjsMatrix(tf.ones([8, D]));
    const up = sent();
    await adapter.deviceGradients(lookup, [g]);
    expect(received()).toBe(4 * 8 * D + 4 * 4 * (u + D));
    // Bags of each row's places: rows in 1, 2, 3 and 8 bags, those in 3 filled up to 4 and so with weights, and the rows' order.
    const filled = 2 * 1 + 2 * 2 + 6 * 4 + 8;
    expect(sent() - up).toBe(4 * (filled + 6 * 4 + u));
    g.dispose();
    e.dispose();
    lookup.dispose();
    adapter.close();
    table.close();
  });
});
