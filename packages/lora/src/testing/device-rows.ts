/** Whatever a table's rows are kept in, what is fetched from a device is what is in the file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, range, type RowFormat } from '@finetable/core';
import { openTable } from '@finetable/placement';
import { normals, writeTable } from '@finetable/placement/testing';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DeviceSubject } from './device-subject.ts';

const V = 50;

const formats: readonly RowFormat[] = [
  { dtype: 'f32', dim: 6, groupDims: 0 },
  { dtype: 'f16', dim: 5, groupDims: 0 },
  { dtype: 'f16', dim: 8, groupDims: 0 },
  { dtype: 'bf16', dim: 7, groupDims: 0 },
  { dtype: 'int8', dim: 7, groupDims: 7 },
  { dtype: 'int8', dim: 16, groupDims: 16 },
  { dtype: 'int4', dim: 70, groupDims: 32 },
  { dtype: 'int4', dim: 9, groupDims: 9 },
];

/** Declares the tests. */
export function testRowsOnDevice(subject: DeviceSubject): void {
  let folder: string;
  beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'device-rows-'))));
  afterEach(() => rm(folder, { recursive: true }));

  describe.each(formats)('$dtype, $dim dims', (format) => {
    test('the bytes of the file, in one array or several, whole or by columns', async () => {
      const path = join(folder, 'rows.safetensors');
      await writeTable(path, normals(V, format.dim), format);
      const plain = await openTable(path);
      const ids = Int32Array.from({ length: 30 }, (_, i) => (i * 17) % V);
      const plan = makePlan(jagged([[...ids.subarray(0, 9)], [], [...ids.subarray(9)]]), V, { pooling: 'mean' });
      const expected = matrix(3, format.dim);
      plain.lookup(plan, expected);
      const columns = format.groupDims > 0 ? Math.min(format.groupDims, format.dim) : 4;
      for (const [arrayBytes, cut] of [
        [undefined, false],
        [300, false],
        [300, true],
      ] as const) {
        const device = await subject.open({ arrayBytes });
        const before = subject.held(device);
        const placement =
          cut && columns < format.dim
            ? ([
                { home: device, columns, rows: 20 },
                { home: 'ram' },
                { home: 'mapped', rows: 10 },
                { home: device },
              ] as const)
            : device;
        const table = await openTable(path, { placement });
        expect(table.fingerprint).toBe(plain.fingerprint);
        expect(await table.gatherAsync(ids)).toEqual(plain.gather(ids));
        const out = matrix(3, format.dim);
        await table.pool(plan, out);
        expect(out).toEqual(expected);
        table.close();
        expect(subject.held(device)).toBe(before);
      }
      plain.close();
    });

    test('decoded on the device as the kernels do', async () => {
      const path = join(folder, 'rows.safetensors');
      await writeTable(path, normals(V, format.dim), format);
      const plain = await openTable(path);
      const device = await subject.open({ arrayBytes: subject.arrayBytesOf(format) });
      const before = subject.held(device);
      const table = await openTable(path, { placement: device });
      const lookup = table.begin(makePlan({ values: range(V), offsets: range(V + 1) }, V));
      const e = lookup.adapt([]);
      const out = matrix(V, format.dim);
      await e.read(out);
      // Bags of one without weights: nothing is added up, so nothing is rounded.
      expect(out).toEqual(plain.gather(range(V)));
      e.dispose();
      lookup.dispose();
      table.close();
      plain.close();
      expect(subject.held(device)).toBe(before);
    });
  });

  test('what is not a number stays it, bit by bit', async () => {
    const path = join(folder, 'rows.safetensors');
    const odd = [NaN, Infinity, -Infinity, -0, 1e-45, 3.4e38];
    await writeTable(path, matrix(2, 6, Float32Array.of(...odd, ...odd)), formats[0]!);
    const table = await openTable(path, { placement: await subject.open() });
    expect([...(await table.gatherAsync(Int32Array.of(1))).data]).toEqual(odd.map(Math.fround));
    table.close();
  });
}
