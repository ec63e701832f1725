import { expect, test } from 'vitest';
import { adapterBytes, batchBytes, matrixBytes, reservedBytes, touchedRows, writtenBytes } from './reserve.ts';
import { storedRowBytes, type AdapterRequest, type TableRequest } from './types.ts';
import { rules } from './testing.ts';

const adapter: AdapterRequest = { kind: 'lora', rank: 8, touchedRows: 1000, rule: rules.adam, mode: 'exact' };
const table: TableRequest = {
  name: 'items',
  rows: 100_000,
  dim: 64,
  dtype: 'f32',
  bags: 10,
  idsPerBag: 20,
  adapter,
};
const withAdapter = (changes: Partial<AdapterRequest>): TableRequest => ({
  ...table,
  adapter: { ...adapter, ...changes },
});

test.each([
  ['f32', undefined, 400],
  ['f16', undefined, 200],
  ['bf16', undefined, 200],
  ['int8', undefined, 104],
  ['int4', undefined, 54],
  ['int4', 32, 50 + 4 * 4],
] as const)('a row of 100 dims in %s (groups of %s) has %d bytes', (dtype, groupDims, bytes) => {
  expect(storedRowBytes(dtype, 100, groupDims)).toBe(bytes);
});

test('adapter and optimiser, by hand', () => {
  // 1000 rows need 2048 entries of 8 bytes; the way back has 1250 numbers.
  const slots = 2048 * 8 + 1250 * 4;
  const [a, b] = [1000 * 8, 8 * 64];
  expect(adapterBytes(table, 1000)).toEqual({
    adapter: 4 * (a + b) + slots,
    optimizer: 4 * (2 * a + 2 * b + 1000),
  });
  expect(adapterBytes(withAdapter({ rule: rules.sgd, mode: 'lazy' }), 1000).optimizer).toBe(0);
  expect(adapterBytes(withAdapter({ rule: rules.adagrad, mode: 'lazy' }), 1000).optimizer).toBe(4 * (a + b));
  expect(adapterBytes(withAdapter({ rule: rules.momentum, mode: 'lazy' }), 1000).optimizer).toBe(4 * (a + b));
  expect(adapterBytes(withAdapter({ stateBytes: 2, mode: 'lazy' }), 1000).optimizer).toBe(2 * 2 * a + 4 * 2 * b);
  expect(adapterBytes(withAdapter({ rule: rules['rowwise-adagrad'], mode: 'lazy' }), 1000).optimizer).toBe(4 * 1001);
  expect(adapterBytes(withAdapter({ kind: 'dense' }), 1000)).toEqual({
    adapter: 4 * 1000 * 64 + slots,
    optimizer: 4 * (2 * 1000 * 64 + 1000),
  });
  expect(writtenBytes(table, 1000)).toBe(4 * (a + b + 2 * 1000));
  expect(writtenBytes(withAdapter({ kind: 'dense' }), 1000)).toBe(4 * 1000 * 66);
  expect(writtenBytes({ ...table, adapter: undefined }, 0)).toBe(0);
  expect(adapterBytes({ ...table, adapter: undefined }, 0)).toEqual({ adapter: 0, optimizer: 0 });
});

test('batches, by hand', () => {
  expect(batchBytes(200, 150, 10)).toBe(20 * 200 + 8 * 150 + 16 * 10 + 8);
  // two outs and a gradient [10, 64]; rows [150, 8] and slots [150]; pooled and projected [10, 8]; B's gradient [8, 64]
  expect(matrixBytes(table, 150)).toBe(4 * (3 * 640 + 1200 + 150 + 160 + 512));
  expect(matrixBytes({ ...table, adapter: undefined }, 150)).toBe(4 * 2 * 640);
});

test('touched rows: given, expected from the ids of training, or all', () => {
  expect(touchedRows(table)).toBe(1000);
  expect(touchedRows({ ...table, adapter: undefined })).toBe(0);
  expect(touchedRows(withAdapter({ touchedRows: undefined }))).toBe(100_000);
  const expected = Math.ceil(100_000 * (1 - (1 - 1e-5) ** 200_000));
  expect(touchedRows(withAdapter({ touchedRows: undefined, trainingIds: 200_000 }))).toBe(expected);
  const zipf = { ...withAdapter({ touchedRows: undefined, trainingIds: 200_000 }), frequencies: { zipf: 1.1 } };
  expect(touchedRows(zipf)).toBeLessThan(expected / 2);
});

test('threads and batches in flight add up, other memory by its name', () => {
  const base = { tables: [table], devices: [] };
  const none = reservedBytes(base, [150]);
  const some = reservedBytes({ ...base, workers: 3, prefetchBatches: 16, otherBytes: { index: 77 } }, [150]);
  expect(some['loader threads']).toBe(3 * 32 * 2 ** 20);
  expect(some.index).toBe(77);
  expect(none['batches in flight']).toBe(3 * batchBytes(200, 150, 10) + 16 * 200);
  expect(some['batches in flight']).toBe(18 * batchBytes(200, 150, 10) + 3 * 16 * 200);
  expect(some['batch matrices']).toBe(none['batch matrices']);
  // Bounded by bytes, but for what the threads make before they know how large it is.
  const batch = batchBytes(200, 150, 10);
  const inFlight = (more: object): number =>
    reservedBytes({ ...base, workers: 3, prefetchBatches: 16, ...more }, [150])['batches in flight']! - 3 * 16 * 200;
  expect(inFlight({ prefetchBytes: 10.5 * batch })).toBe(12.5 * batch);
  expect(inFlight({ prefetchBytes: 1 })).toBe(5 * batch);
  expect(inFlight({ prefetchBytes: 1, taskBatches: 4 })).toBe(14 * batch);
  expect(inFlight({ prefetchBytes: 1, taskBatches: 8 })).toBe(18 * batch);
});
