import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makePlan, matrix, range, RandomStream, type Jagged, type RowFormat } from '@finetable/core';
import { kernelsStatus, loadKernels } from '@finetable/kernels';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { OpenTableOptions } from './open.ts';
import { openTable } from './open.ts';

import type { ShardedTable } from './table.ts';
import { FakeDevice } from './testing/fake-device.ts';
import { normals, writeTable } from './testing/table-file.ts';

const V = 300;
const D = 72;
const formats: RowFormat[] = [
  { dtype: 'f32', dim: D, groupDims: 0 },
  { dtype: 'f16', dim: D, groupDims: 0 },
  { dtype: 'bf16', dim: D, groupDims: 0 },
  { dtype: 'int8', dim: D, groupDims: D },
  { dtype: 'int4', dim: D, groupDims: 32 },
  { dtype: 'int4', dim: D, groupDims: D },
];
const fileOf = ({ dtype, groupDims }: RowFormat): string => join(folder, `${dtype}-${groupDims}.safetensors`);
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'parts-'));
  for (const format of formats) await writeTable(fileOf(format), normals(V, D), format);
});
afterAll(() => rm(folder, { recursive: true }));

type Placement = (device: FakeDevice) => OpenTableOptions['placement'];
/** By what they are; the cuts suit every format. */
const placements: Record<string, Placement> = {
  ram: () => 'ram',
  'rows, three homes': (device) => [{ home: 'ram', rows: 40 }, { home: device, rows: 100 }, { home: 'mapped' }],
  'rows, ram and mapped': () => [{ home: 'mapped', rows: 1 }, { home: 'ram', rows: 200 }, { home: 'mapped' }],
  columns: () => [{ home: 'ram', columns: 32 }, { home: 'mapped', columns: 32 }, { home: 'ram' }],
  'columns within a group': () => [{ home: 'ram', columns: 64 }, { home: 'mapped', columns: 2 }, { home: 'ram' }],
  'columns, one on a device': (device) => [{ home: 'mapped', columns: 32 }, { home: device }],
  'a grid': () => [
    { home: 'ram', columns: 32, rows: 10 },
    { home: 'mapped' },
    { home: 'mapped', columns: 8, rows: 250 },
    { home: 'ram' },
    { home: 'mapped', columns: 24 },
    { home: 'ram' },
  ],
  'a grid with devices': (device) => [
    { home: 'ram', columns: 32, rows: 100 },
    { home: device, rows: 100 },
    { home: 'mapped' },
    { home: device, rows: 50 },
    { home: 'ram' },
  ],
  'a device': (device) => device,
};
const caches: Record<string, OpenTableOptions['cache']> = {
  none: undefined,
  'by counts': { bytes: 6000, counts: Float64Array.from({ length: V }, (_, i) => (i * 7919) % V) },
  counting: { bytes: '5KB', warmUpBatches: 2 },
  'of all rows': { bytes: '1MiB', counts: new Int32Array(V).fill(1) },
};

/** Bags of 0 to 9 ids. */
function bags(seed: number, count = 40): Jagged {
  const random = new RandomStream(seed, 'bags');
  const offsets = new Int32Array(count + 1);
  for (let i = 0; i < count; i++) offsets[i + 1] = offsets[i]! + random.below(i, 10);
  const values = Int32Array.from({ length: offsets[count]! }, (_, i) => random.below(1000 + i, V));
  return { values, offsets };
}
/** Short, since comparing arrays value by value takes long. */
const digest = ({ data }: { data: Float32Array }): string =>
  createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');

async function outputs(table: ShardedTable): Promise<string[]> {
  const out: string[] = [];
  for (let seed = 0; seed < 5; seed++) {
    const plan = makePlan(bags(seed), V);
    const pooled = matrix(40, D);
    pooled.data.fill(NaN);
    await table.pool(plan, pooled);
    const fetched = table.needsFetch ? await table.fetch(plan) : null;
    const looked = matrix(40, D);
    looked.data.fill(NaN);
    table.lookup(plan, looked, null, null, fetched);
    fetched?.release();
    out.push(digest(pooled), digest(looked));
    await table.cache?.settled();
  }
  out.push(digest(await table.gatherAsync(Int32Array.of(299, 0, 39, 40, 140, 39, 200))));
  return out;
}

const kinds = ['portable', 'native'] as const;
describe.each(kinds)('%s kernels', (kind) => {
  describe.each(formats)('$dtype in groups of $groupDims', (format) => {
    test.for(Object.keys(placements))('the same bytes: %s', async (name, context) => {
      const { native, reason } = kernelsStatus();
      if (kind === 'native' && !native) context.skip(`no native kernels: ${reason}`);
      const kernels = loadKernels({ kind });
      const plain = await openTable(fileOf(format), { kernels });
      const expected = await outputs(plain);
      const rows = plain.gather(range(V));
      for (const [how, cache] of Object.entries(caches)) {
        const device = new FakeDevice();
        const table = await openTable(fileOf(format), { placement: placements[name]!(device), cache, kernels });
        expect(table.fingerprint).toBe(plain.fingerprint);
        expect(table.sizeBytes).toBeGreaterThanOrEqual(plain.sizeBytes);
        expect(await outputs(table), how).toEqual(expected);
        expect(digest(await table.gatherAsync(range(V)))).toEqual(digest(rows));
        if (!table.needsFetch) expect(digest(table.gather(range(V)))).toEqual(digest(rows));
        table.close();
        expect(device.open).toBe(0);
      }
      plain.close();
    });
  });
});
