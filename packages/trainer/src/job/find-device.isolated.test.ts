import { FinetableError } from '@finetable/core';
import { afterEach, expect, test, vi } from 'vitest';
import { findDevice } from './device.ts';
import { checkJob } from './read.ts';
import type { Job, JobInput } from './schema.ts';

let asked: unknown[] = [];
/** What `@finetable/tfjs` is while a test runs. */
function installed({ gpu = true, failing = null as Error | null }): void {
  vi.doMock('@finetable/tfjs', () => ({
    useBestBackend: () =>
      failing
        ? Promise.reject(failing)
        : Promise.resolve({
            backend: 'wasm',
            problems: [{ package: '@tensorflow/tfjs-node', message: 'not installed' }],
          }),
    tfjsDevice: (options: unknown) => {
      asked.push(options);
      return Promise.resolve({ name: 'tfjs:wasm', isGpu: gpu, capacityBytes: 1000, note: '1000 B given' });
    },
  }));
}
function missing(): void {
  vi.doMock('@finetable/tfjs', () => {
    throw new Error('Cannot find package');
  });
}
afterEach(() => {
  vi.doUnmock('@finetable/tfjs');
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

test('the package is imported only where a job asks for it', async () => {
  missing();
  expect(await findDevice(job({}))).toEqual({ found: null, notes: [] });
  expect(await findDevice(job({}, 'ram'))).toEqual({ found: null, notes: [] });
});

test('a GPU, with the memory that it may use', async () => {
  installed({});
  const { found, notes } = await findDevice(job({ device: 'auto', deviceMemory: '2GB' }));
  expect(found).toMatchObject({
    gpu: true,
    request: { name: 'tfjs', kind: 'gpu', budgetBytes: 1000, note: 'wasm backend, 1000 B given' },
  });
  expect(notes).toEqual([]);
  expect(asked).toEqual([{ memoryBytes: 2e9 }]);
});

test('without a GPU: only for a table that says so', async () => {
  installed({ gpu: false });
  const why = 'there is no GPU: TensorFlow.js computes on its wasm backend (@tensorflow/tfjs-node: not installed)';
  expect(await findDevice(job({ device: 'auto' }))).toEqual({
    found: null,
    notes: [`placement.device: ${why}. Tables are placed in RAM and files`],
  });
  await expect(findDevice(job({ device: 'gpu' }))).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: `placement.device: ${why}`,
  });
  for (const placed of ['tfjs', [{ home: 'tfjs', rows: 3 }, { home: 'ram' }]] as const) {
    const { found } = await findDevice(job({}, placed as 'tfjs'));
    expect(found).toMatchObject({ gpu: false, request: { bandwidths: { link: 6e9 } } });
  }
});

test('without the package, or tfjs: what to install', async () => {
  const failing = new FinetableError('UNSUPPORTED', 'no backend of TensorFlow.js starts: npm install @tensorflow/tfjs');
  for (const prepare of [missing, () => installed({ failing })]) {
    prepare();
    for (const wanted of [job({ device: 'gpu' }), job({}, 'tfjs')])
      await expect(findDevice(wanted)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/npm install @(finetable\/tfjs @)?tensorflow\/tfjs/),
      });
    const { found, notes } = await findDevice(job({ device: 'auto' }));
    expect(found).toBeNull();
    expect(notes).toEqual([expect.stringMatching(/npm install .*\. Tables are placed in RAM and files$/)]);
  }
});
