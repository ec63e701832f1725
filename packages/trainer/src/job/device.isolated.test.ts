import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FinetableError, matrix, range } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { memoryDevice, type MemoryDevice } from '../testing/memory-device.ts';
import { findDevice } from './device.ts';
import { OpenJob } from './open.ts';
import { planJob } from './plan.ts';
import { checkJob, type LoadedJob } from './read.ts';
import type { JobInput } from './schema.ts';

vi.mock('./device.ts', () => ({ findDevice: vi.fn() }));

const V = 40;
const values = matrix(V, 4, Float32Array.from(range(V * 4)));
let folder: string;
let device: MemoryDevice;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'job-device-'));
  await writeSafetensors(join(folder, 'items.safetensors'), [
    { name: 'items', dtype: 'F32', shape: [V, 4], data: values.data },
  ]);
  await writeFile(join(folder, 'train.jsonl'), '{"ids":[1,2],"class":"a"}\n{"ids":[3],"class":"b"}\n');
  device = memoryDevice(values);
});
afterEach(() => rm(folder, { recursive: true }));

function job(placement: JobInput['placement'], table = {}, adapter = {}): LoadedJob {
  const checked = checkJob({
    name: 'j',
    tables: { items: { file: 'items.safetensors', ...table } },
    placement,
    data: { train: { file: 'train.jsonl' } },
    features: { x: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'x', label: 'class' },
    adapters: { items: { rank: 2, ...adapter } },
    optimizer: { type: 'sgd', learningRate: 0.1 },
  });
  return { job: checked, folder };
}

/** A device as it may be found: faster than RAM, or no GPU at all. */
function found(gpu: boolean): void {
  const fast = { streaming: 1e15, randomRead: 1e15, link: 1e15 };
  const slow = { streaming: 1, randomRead: 1, link: 1 };
  const request = { name: 'tfjs', kind: 'gpu', budgetBytes: 1e6, bandwidths: gpu ? fast : slow } as const;
  vi.mocked(findDevice).mockResolvedValue({ found: { device, gpu, request, instead: '' }, notes: [] });
}

async function homes(placement: JobInput['placement'], table = {}, adapter = {}): Promise<string[]> {
  const plan = await planJob(job(placement, table, adapter));
  return plan.tables[0]!.shards.map((shard) => shard.device);
}

test('auto: on the GPU where that is fastest, but not what must be read here', async () => {
  found(true);
  expect(await homes({ device: 'auto' })).toEqual(['tfjs']);
  expect(await homes({ device: 'gpu' })).toEqual(['tfjs']);
  expect(await homes({ device: 'cpu' })).toEqual(['ram']);
  expect(await homes({ device: 'auto' }, { placement: 'mapped' })).toEqual(['mapped']);
  for (const adapter of [{ dora: true }, { maxNorm: 1 }, { init: 'pissa' }])
    expect(await homes({ device: 'gpu' }, {}, adapter)).toEqual(['ram']);
  expect(await homes({ device: 'auto' }, { grow: { count: 2 } })).toEqual(['ram']);
});

test('a table that is too large is not placed there; one that must be does not fit', async () => {
  found(true);
  const { found: there } = await findDevice(job({}).job);
  const request = { ...there!.request, budgetBytes: 100 };
  vi.mocked(findDevice).mockResolvedValue({ found: { ...there!, request }, notes: [] });
  await expect(planJob(job({ device: 'gpu' }))).rejects.toMatchObject({
    code: 'DOES_NOT_FIT',
    details: { device: 'tfjs', neededBytes: V * 16, budgetBytes: 100 },
  });
  const slow = { ...request, bandwidths: { ...request.bandwidths, link: 1 } };
  vi.mocked(findDevice).mockResolvedValue({ found: { ...there!, request: slow }, notes: [] });
  expect(await homes({ device: 'auto' })).toEqual(['ram']);
});

test('a backend without a GPU has only tables that say so', async () => {
  found(false);
  expect(await homes({ device: 'auto' })).toEqual(['ram']);
  expect(await homes({}, { placement: 'tfjs' })).toEqual(['tfjs']);
});

test('a device that turns out to be full: RAM instead where that was left to the plan, with a note', async () => {
  found(true);
  const open = await OpenJob.open(job({ device: 'auto' }));
  expect(open.tables.items!.devices.map(({ name }) => name)).toEqual(['memory:0']);
  expect(open.notes).toEqual([]);
  await open.close();
  device.openRows = () => Promise.reject(new FinetableError('OUT_OF_MEMORY', 'memory:0 is full'));
  const instead = await OpenJob.open(job({ device: 'auto' }));
  expect(instead.tables.items!.inMemory).toBe(true);
  expect(instead.notes).toEqual(['memory:0 is full. Tables are placed in RAM and files']);
  await instead.close();
  for (const asked of [job({ device: 'gpu' }), job({ device: 'auto' }, { placement: 'tfjs' })])
    await expect(OpenJob.open(asked)).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
});
