import { FinetableError } from '@finetable/core';
import { expect, test } from 'vitest';
import { planPlacement } from './plan.ts';
import type { DeviceRequest, PlanRequest, TableRequest } from './types.ts';
import { rules } from './testing.ts';

const GiB = 2 ** 30;
const mapped: DeviceRequest = { name: 'mapped', kind: 'mapped', budgetBytes: Infinity };
const ram = (budgetBytes: number, note?: string): DeviceRequest => ({ name: 'ram', kind: 'ram', budgetBytes, note });
/** 12 GB in f32. */
const words: TableRequest = { name: 'words', rows: 46_875_000, dim: 64, dtype: 'f32', bags: 256, idsPerBag: 20 };

function refusal(request: PlanRequest): FinetableError {
  try {
    planPlacement(request);
  } catch (error) {
    if (error instanceof FinetableError) return error;
    throw error;
  }
  throw new Error('it fits');
}

test('what is short, where, by how much, and what would do', () => {
  const error = refusal({ tables: [{ ...words, device: 'ram' }], devices: [ram(4 * GiB, '50% of 8 GiB'), mapped] });
  expect(error.code).toBe('DOES_NOT_FIT');
  const needed = 46_875_000 * 256 + 96 * 2 ** 20;
  expect(error.details).toMatchObject({ device: 'ram', budgetBytes: 4 * GiB });
  expect(error.details.neededBytes).toBeGreaterThan(needed);
  expect(error.details.neededBytes).toBeLessThan(needed + 2 ** 20);
  expect(error.details.shortBytes).toBe((error.details.neededBytes as number) - 4 * GiB);
  expect(error.message).toMatch(
    /^the plan does not fit: ram needs 11\.3 GiB \(table "words" 11\.2 GiB, process 96 MiB, batches in flight [\d.]+ KiB, .*\), its budget is 4 GiB \(50% of 8 GiB\): 7\.27 GiB short\. Any one of these/,
  );
  // 46,875,000 rows of 68 bytes; f16 would need 5.59 GiB.
  expect(error.details.remedies).toEqual([
    'map the file of "words" instead of loading it',
    'store "words" as int8: it would need 2.97 GiB instead of 11.2 GiB (f32)',
    'raise the budget of ram to 11541 MiB',
  ]);
});

test('a rank that fits, and what it saves', () => {
  const adapter = { kind: 'lora', rank: 16, touchedRows: 10_000_000, rule: rules.adam, mode: 'exact' } as const;
  const request = { tables: [{ ...words, adapter }], devices: [ram(GiB), mapped] };
  const { remedies } = refusal(request).details;
  expect(remedies).toEqual([
    // 12 ranks less of four f32 (A, two states, the copy that is written) for each of ten million rows.
    'lower the rank of "words" from 16 to 4: saves 1.79 GiB',
    'raise the budget of ram to 2829 MiB',
  ]);
  const lower = { ...words, adapter: { ...adapter, rank: 4 } };
  expect(planPlacement({ ...request, tables: [lower] }).devices[0]!.usedBytes).toBeLessThan(GiB);
  expect(() => planPlacement({ ...request, tables: [{ ...words, adapter: { ...adapter, rank: 8 } }] })).toThrow();
  expect(() => planPlacement({ ...request, devices: [ram(2829 * 2 ** 20), mapped] })).not.toThrow();
});

test('dense adapters and batches', () => {
  const adapter = { kind: 'dense', touchedRows: 1_000_000, rule: rules.sgd, mode: 'lazy' } as const;
  const dense = refusal({ tables: [{ ...words, adapter }], devices: [ram(0.25 * GiB), mapped] });
  expect(dense.details.remedies).toContain(
    'a LoRA adapter of rank 8 for "words" instead of the dense one saves 428 MiB',
  );
  const wide = { ...words, bags: 65_536, idsPerBag: 200 };
  const batches = refusal({ tables: [wide], devices: [ram(GiB / 4), mapped], prefetchBatches: 3 });
  expect(batches.message).toMatch(/ram needs [\d.]+ GiB \(batches in flight/);
  const remedy = (batches.details.remedies as string[])[0]!;
  const divisor = Number(/^divide the batch size by (\d+)$/.exec(remedy)![1]);
  const attempt = (by: number): unknown =>
    planPlacement({ tables: [{ ...wide, bags: 65_536 / by }], devices: [ram(GiB / 4), mapped], prefetchBatches: 3 });
  expect(() => attempt(divisor)).not.toThrow();
  expect(() => attempt(divisor / 2)).toThrow();
});

test('without a mapped file, every device that is short is named', () => {
  const gpu: DeviceRequest = { name: 'gpu', kind: 'gpu', budgetBytes: GiB };
  const request = {
    tables: [
      { ...words, device: 'ram' },
      { ...words, name: 'more', device: 'gpu' },
    ],
    devices: [ram(GiB), gpu],
  };
  const { message, details } = refusal(request);
  expect(message).toMatch(/gpu needs 11\.2 GiB \(table "more" 11\.2 GiB\), its budget is 1 GiB: 10\.2 GiB short/);
  expect(message).toMatch(/ram needs 11\.3 GiB \(table "words"/);
  expect(details.remedies).toEqual([
    expect.stringMatching(/^raise the budget of ram to \d+ MiB, and raise the budget of gpu to 11445 MiB$/),
  ]);
});

test('two tables that only together make it fit', () => {
  const more = { ...words, name: 'more', device: 'ram' };
  const { remedies } = refusal({ tables: [{ ...words, device: 'ram' }, more], devices: [ram(GiB), mapped] }).details;
  expect((remedies as string[])[0]).toBe('map the files of "words", "more" instead of loading them');
});

test('where there is no more memory, that is said instead of a larger budget', () => {
  const device = { ...ram(4 * GiB), freeBytes: 6 * GiB };
  const { remedies } = refusal({ tables: [{ ...words, device: 'ram' }], devices: [device, mapped] }).details;
  expect((remedies as string[]).at(-1)).toBe('find 11541 MiB for ram: it has 6 GiB free');
});

test('where even the working memory has no room, only more memory helps', () => {
  const { message, details } = refusal({ tables: [words], devices: [ram(1000), mapped] });
  expect(message).toMatch(/^the plan does not fit: ram needs 96\.\d MiB \(process 96 MiB, /);
  expect(details.remedies).toEqual(['raise the budget of ram to 97 MiB']);
});
