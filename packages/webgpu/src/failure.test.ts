import { FinetableError } from '@finetable/core';
import { expect, test } from 'vitest';
import { Checks, failure } from './failure.ts';

class GPUOutOfMemoryError {
  readonly message = ' Device memory: 12 GiB were asked for. ';
}

test('what WebGPU reports, by its code, with the device and what was done', () => {
  expect(failure('gpu:0', 'rows could not be loaded', new GPUOutOfMemoryError())).toMatchObject({
    code: 'OUT_OF_MEMORY',
    message:
      'device "gpu:0": rows could not be loaded: Device memory: 12 GiB were asked for.; less fits: a smaller memoryBytes (deviceMemory of a job), or smaller batches',
    details: { device: 'gpu:0' },
  });
  expect(failure('gpu:0', 'a lookup failed', new Error('VK_ERROR_OUT_OF_DEVICE_MEMORY')).code).toBe('OUT_OF_MEMORY');
  expect(failure('gpu:0', 'a lookup failed', new Error('no such shader')).code).toBe('IO');
  const ours = new FinetableError('CLOSED', 'closed');
  expect(failure('gpu:0', 'a lookup failed', ours)).toBe(ours);
});

test('the first of what has failed comes when it is settled, then and later', async () => {
  const checks = new Checks();
  await checks.settle();
  const first = new FinetableError('IO', 'first');
  let fail = (): void => undefined;
  checks.add(new Promise((resolve) => (fail = () => resolve(first))));
  checks.add(Promise.resolve(null));
  const settled = checks.settle();
  fail();
  await expect(settled).rejects.toBe(first);
  checks.add(Promise.resolve(new FinetableError('IO', 'second')));
  await expect(checks.settle()).rejects.toBe(first);
});
