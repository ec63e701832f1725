/** At the adapter's limits, and past them; and what is left of a device that is gone. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix } from '@finetable/core';
import { openTable } from '@finetable/placement';
import { normals, writeTable } from '@finetable/placement/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { webgpuDevice } from './device.ts';
import { onAdapter } from './testing/adapter.ts';

const D = 64;
const rowBytes = 4 * D;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webgpu-limits-'));
  await writeTable(join(folder, 'small.safetensors'), normals(8, D));
});
afterAll(() => rm(folder, { recursive: true }));

/** A sparse file of `rows` rows of 0, but for those that are given: each holds its number. */
async function writeSparse(path: string, rows: number, given: readonly number[]): Promise<void> {
  const json = JSON.stringify({ rows: { dtype: 'F32', shape: [rows, D], data_offsets: [0, rows * rowBytes] } });
  const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = await open(path, 'w');
  await file.write(Buffer.concat([length, header]), 0, 8 + header.length, 0);
  await file.truncate(8 + header.length + rows * rowBytes);
  for (const row of given)
    await file.write(
      Buffer.from(new Float32Array(D).fill(row).buffer),
      0,
      rowBytes,
      8 + header.length + row * rowBytes,
    );
  await file.close();
}

onAdapter(() => {
  test('a table larger than a binding may be: rows on both sides of the limit', async (context) => {
    const device = await webgpuDevice({ software: true });
    const { maxBindingBytes, maxBufferBytes } = device.adapter;
    const most = Math.floor(Math.min(maxBindingBytes, maxBufferBytes) / rowBytes);
    if (most * rowBytes > 2 ** 28)
      return context.skip(`the adapter's limit is ${most * rowBytes} bytes: too large a file`);
    const path = join(folder, 'large.safetensors');
    const given = [0, 1, most - 1, most, most + 2];
    await writeSparse(path, most + 3, given);
    const table = await openTable(path, { placement: device });
    expect(device.heldBytes).toBe((most + 3) * rowBytes);
    const plan = makePlan(jagged([[most - 1], [most], [0, most + 2], [most + 1], given]), most + 3);
    const lookup = table.begin(plan);
    const e = lookup.adapt([]);
    const out = matrix(5, D);
    await e.read(out);
    // Sums below 2^24 are exact.
    const sums = [most - 1, most, most + 2, 0, 3 * most + 2];
    sums.forEach((sum, bag) => expect([...out.data.subarray(bag * D, (bag + 1) * D)]).toEqual(new Array(D).fill(sum)));
    const fetched = await table.gatherAsync(Int32Array.of(most, most - 1, most + 1, 1));
    expect([0, 1, 2, 3].map((i) => fetched.data[i * D + D - 1])).toEqual([most, most - 1, 0, 1]);
    for (const made of [e, lookup]) made.dispose();
    table.close();
    expect(device.heldBytes).toBe(0);
    await rm(path);
  });

  test('a batch larger than a binding may be is refused: it would read zeros', async (context) => {
    const device = await webgpuDevice({ software: true });
    const { maxBindingBytes, maxBufferBytes } = device.adapter;
    const bags = Math.floor(Math.min(maxBindingBytes, maxBufferBytes) / rowBytes) + 1;
    if (bags > 2 ** 20) return context.skip(`the adapter's limit is ${bags} vectors: too large a batch`);
    const table = await openTable(join(folder, 'small.safetensors'), { placement: device });
    const plan = makePlan({ values: Int32Array.of(3), offsets: new Int32Array(bags + 1).fill(1, 1) }, 8);
    const held = device.heldBytes;
    expect(() => table.begin(plan)).toThrow(
      expect.objectContaining({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(
          /a batch needs an array of .*; the adapter has at most .*: make batches smaller/,
        ),
      }),
    );
    expect(device.heldBytes).toBe(held);
    table.close();
  });

  test('a device that is lost says so, and what to do', async () => {
    const device = await webgpuDevice({ software: true, name: 'gone' });
    const table = await openTable(join(folder, 'small.safetensors'), { placement: device });
    const plan = makePlan(jagged([[1, 2], [7]]), 8);
    const lookup = table.begin(plan);
    const e = lookup.adapt([]);
    device.destroy();
    const lost = { code: 'IO', message: expect.stringMatching(/device "gone" is lost: .*; what lay on it is gone: open it and its tables again, or resume the run/) }; // prettier-ignore
    await expect(e.read(matrix(2, D))).rejects.toMatchObject(lost);
    await expect(table.gatherAsync(Int32Array.of(1))).rejects.toMatchObject({ code: 'IO' });
    expect(() => table.begin(plan)).toThrow(expect.objectContaining(lost));
    await expect(openTable(join(folder, 'small.safetensors'), { placement: device })).rejects.toMatchObject({
      code: 'IO',
    });
    for (const made of [e, lookup]) made.dispose();
    table.close();
  });
});
