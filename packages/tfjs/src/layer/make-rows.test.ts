/** Where a layer's table lives, on backends with more or less room. */
import { createTable } from '@finetable/placement';
import { matrix } from '@finetable/core';
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import type { BackendMemory } from '../device/memory.ts';
import { useBackend } from '../backend.ts';
import { tf } from '../load.ts';
import { AdaptedRows } from '../rows/adapted-rows.ts';
import { makeRows } from './make-rows.ts';
import type { RowsOptions } from './rows.ts';
import { VariableRows } from './variable-rows.ts';

beforeAll(async () => void (await useBackend('cpu')));
const warnings: string[] = [];
beforeEach(() => {
  warnings.length = 0;
  vi.spyOn(process, 'emitWarning').mockImplementation((message) => void warnings.push(String(message)));
});
afterEach(() => vi.restoreAllMocks());

/** 100 rows of 4: 1600 bytes, 6400 with gradient and state. */
const options: RowsOptions = {
  layerName: 'words',
  inputDim: 100,
  outputDim: 4,
  initializer: tf.initializers.zeros(),
  weights: null,
  regularizer: null,
  constraint: null,
  skipDrawing: false,
  table: null,
  optimizer: null,
  device: 'auto',
};
const room = (more: Partial<BackendMemory> = {}): BackendMemory => ({
  tensorBytes: 1e6,
  freeBytes: 1e6,
  gpu: false,
  note: 'as given',
  ...more,
});
const roomy = { bytes: 1e6, given: false };

function made(more: Partial<RowsOptions>, memory: BackendMemory, threshold = roomy): 'variables' | 'store' {
  const rows = makeRows({ ...options, ...more }, threshold, memory);
  rows.dispose();
  return rows instanceof VariableRows ? 'variables' : rows instanceof AdaptedRows ? 'store' : expect.fail();
}

test('auto: variables while there is room, else a store, which is told once', () => {
  expect(made({}, room())).toBe('variables');
  expect(made({}, room({ gpu: true, freeBytes: 6400 }))).toBe('variables');
  expect(warnings).toEqual([]);
  expect(made({}, room({ gpu: true, freeBytes: 6399 }))).toBe('store');
  expect(made({}, room({ tensorBytes: 1599 }))).toBe('store');
  expect(made({}, room(), { bytes: 1599, given: false })).toBe('store');
  expect(warnings).toEqual([
    expect.stringMatching(
      /^words: the table of \[100, 4\] is kept in RAM beside tfjs, since as variables it needs 6\.25 KiB with its gradient and an optimizer's state, and 6\.25 KiB are left, trained by Adam/,
    ),
    expect.stringContaining('a tensor of 1.56 KiB, and the backend has 1.56 KiB for one'),
    expect.stringContaining('since it takes 1.56 KiB'),
  ]);
});

test('what was chosen is not told', () => {
  expect(made({}, room(), { bytes: 1599, given: true })).toBe('store');
  expect(made({ device: 'cpu' }, room({ gpu: true }))).toBe('store');
  expect(made({ device: 'cpu' }, room())).toBe('variables');
  const table = createTable('given', matrix(100, 4));
  expect(made({ table }, room({ freeBytes: 0 }))).toBe('store');
  table.close();
  expect(warnings).toEqual([]);
});

test('gpu: variables there whatever the threshold, or an error that says what is short', () => {
  expect(made({ device: 'gpu' }, room({ gpu: true }), { bytes: 1, given: false })).toBe('variables');
  expect(() => made({ device: 'gpu' }, room({ gpu: true, freeBytes: 100 }))).toThrow(
    expect.objectContaining({
      code: 'DOES_NOT_FIT',
      message:
        "words: device 'gpu': a table of [100, 4] needs 6.25 KiB with its gradient and an optimizer's state, and 100 B are left (as given); device 'auto' keeps it in RAM",
    }),
  );
  expect(() => made({ device: 'gpu' }, room())).toThrow(/the cpu backend computes on the CPU/);
  const table = createTable('given', matrix(100, 4));
  expect(() => made({ device: 'gpu', table }, room({ gpu: true }))).toThrow(/which lie where it was opened/);
  table.close();
});
