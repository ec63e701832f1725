import { FinetableError } from '@finetable/core';
import { afterEach, expect, test, vi } from 'vitest';
import { findDevice } from './device.ts';
import { checkJob } from './read.ts';
import type { Job, JobInput } from './schema.ts';

const names = ['@finetable/webgpu', '@finetable/tfjs'] as const;
type PackageName = (typeof names)[number];

let asked: unknown[] = [];
/** What a package is while a test runs. */
function installed(name: PackageName, { gpu = true, failing = null as Error | null } = {}): void {
  vi.doMock(name, () => ({
    offerDevice: (options: unknown) => {
      asked.push([name, options]);
      if (failing) return Promise.reject(failing);
      const device = { name: 'fake', capacityBytes: 1000 };
      return Promise.resolve({ device, gpu, note: `1000 B of ${name}`, instead: `${name} is slow` });
    },
  }));
}
function missing(...missed: PackageName[]): void {
  for (const name of missed)
    vi.doMock(name, () => {
      throw new Error('Cannot find package');
    });
}
afterEach(() => {
  for (const name of names) vi.doUnmock(name);
  asked = [];
});

function job(placement: JobInput['placement'], table: JobInput['tables'][string]['placement'] = 'auto'): Job {
  return checkJob({
    name: 'j',
    tables: { items: { file: 'items.safetensors', placement: table } },
    placement,
    data: { train: { file: 'train.jsonl' } },
    features: { x: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'x', label: 'class' },
    optimizer: { type: 'sgd', learningRate: 0.1 },
  });
}

test('packages are imported only where a job asks for one', async () => {
  missing(...names);
  expect(await findDevice(job({}))).toEqual({ found: null, notes: [] });
  expect(await findDevice(job({}, 'ram'))).toEqual({ found: null, notes: [] });
});

test('a GPU, with the memory that it may use: the first that there is', async () => {
  for (const name of names) installed(name);
  const { found, notes } = await findDevice(job({ device: 'auto', deviceMemory: '2GB' }));
  expect(found).toMatchObject({
    gpu: true,
    request: { name: 'webgpu', kind: 'gpu', budgetBytes: 1000, note: '1000 B of @finetable/webgpu' },
  });
  expect(found!.request.bandwidths).toBeUndefined();
  expect(notes).toEqual([]);
  expect(asked).toEqual([['@finetable/webgpu', { memoryBytes: 2e9, software: false }]]);
  missing('@finetable/webgpu');
  expect((await findDevice(job({ device: 'gpu' }))).found!.request.name).toBe('tfjs');
});

test('what a tfjs objective computes with comes first for it', async () => {
  for (const name of names) installed(name);
  const objective = { type: 'tfjs', module: './m.mjs' } as const;
  const { found } = await findDevice({ ...job({ device: 'auto' }), objective } as Job);
  expect(found!.request.name).toBe('tfjs');
});

test('without a GPU: only for a table that says so', async () => {
  for (const name of names) installed(name, { gpu: false });
  const why = 'there is no GPU: @finetable/webgpu is slow; @finetable/tfjs is slow';
  expect(await findDevice(job({ device: 'auto' }))).toEqual({
    found: null,
    notes: [`placement.device: ${why}. Tables are placed in RAM and files`],
  });
  await expect(findDevice(job({ device: 'gpu' }))).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: `placement.device: ${why}`,
  });
  await expect(findDevice(job({ device: 'gpu' }, 'tfjs'))).rejects.toThrow('there is no GPU: @finetable/tfjs is slow');
  for (const placed of ['tfjs', [{ home: 'tfjs', rows: 3 }, { home: 'ram' }], 'webgpu'] as const) {
    const { found } = await findDevice(job({}, placed as 'tfjs'));
    expect(found).toMatchObject({ gpu: false, request: { bandwidths: { link: 6e9 } } });
  }
  asked = [];
  await findDevice(job({ software: true }, 'webgpu'));
  expect(asked).toEqual([['@finetable/webgpu', { memoryBytes: undefined, software: true }]]);
});

test('without the packages, or what they need: what to install', async () => {
  const failing = new FinetableError('UNSUPPORTED', 'nothing starts: npm install more');
  for (const prepare of [() => missing(...names), () => names.forEach((name) => installed(name, { failing }))]) {
    prepare();
    for (const wanted of [job({ device: 'gpu' }), job({}, 'tfjs'), job({}, 'webgpu')])
      await expect(findDevice(wanted)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/npm install (more|@finetable\/(tfjs @tensorflow\/tfjs|webgpu webgpu))/),
      });
    const { found, notes } = await findDevice(job({ device: 'auto' }));
    expect(found).toBeNull();
    expect(notes).toEqual([
      expect.stringMatching(/npm install .*; .*npm install .*\. Tables are placed in RAM and files$/),
    ]);
  }
});
