import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rowBytes, storedRowBytes, type RowFormat } from '@finetable/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openTable, type OpenTableOptions } from './open.ts';
import { StoredRows } from './stored.ts';
import { FakeDevice } from './testing/fake-device.ts';
import { normals, writeTable } from './testing/table-file.ts';

const rows = 40;
const dim = 70;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stored-'));
});
afterEach(() => rm(folder, { recursive: true }));

const formats: readonly RowFormat[] = [
  { dtype: 'f32', dim, groupDims: 0 },
  { dtype: 'f16', dim, groupDims: 0 },
  { dtype: 'int8', dim, groupDims: dim },
  { dtype: 'int4', dim, groupDims: 32 },
];

/** Rows `[first, first + count)`, from the store of a table that is whole in RAM. */
async function expectedBytes(path: string, format: RowFormat, first: number, count: number): Promise<Uint8Array> {
  const table = await openTable(path, { placement: 'ram' });
  const { store } = table.shards[0]!;
  const width = rowBytes(format.dtype, dim);
  const scaleWidth = storedRowBytes(format) - width;
  const out = new Uint8Array(count * (width + scaleWidth));
  table.kernels.readBytes(store, first * width, out.subarray(0, count * width));
  if (scaleWidth > 0) table.kernels.readBytes(store, rows * width + first * scaleWidth, out.subarray(count * width));
  table.close();
  return out;
}

const placements: [string, () => OpenTableOptions['placement']][] = [
  ['mapped', () => 'mapped'],
  ['in RAM', () => 'ram'],
  ['in parts', () => [{ home: 'ram', columns: 32, rows: 9 }, { home: 'mapped' }, { home: 'ram' }]],
  ['on a device', () => [{ home: 'mapped', rows: 9 }, { home: new FakeDevice() }]],
];
const cases = placements.flatMap(([where, of]) => formats.map((format) => [where, format.dtype, of, format] as const));

test.each(cases)('the stored bytes of rows %s, %s', async (_, __, placement, format) => {
  const path = join(folder, 'table.safetensors');
  await writeTable(path, normals(rows, dim), format);
  const table = await openTable(path, { placement: placement() });
  const stored = await StoredRows.open(table);
  for (const [first, count] of [
    [0, rows],
    [3, 17],
    [rows - 1, 1],
  ] as const) {
    const out = new Uint8Array(count * storedRowBytes(format));
    await stored.read(first, count, out);
    expect(Buffer.from(out).equals(await expectedBytes(path, format, first, count))).toBe(true);
  }
  table.close();
  await expect(stored.read(0, 1, new Uint8Array(storedRowBytes(format)))).rejects.toMatchObject({ code: 'CLOSED' });
  await stored.close();
});

test('a file that is another one by then is refused', async () => {
  const path = join(folder, 'table.safetensors');
  await writeTable(path, normals(rows, dim), formats[0]!);
  const table = await openTable(path);
  const stored = await StoredRows.open(table);
  await appendFile(path, 'x');
  await expect(stored.checkUnchanged()).rejects.toMatchObject({ code: 'INVALID_FILE' });
  await expect(StoredRows.open(table)).rejects.toMatchObject({ code: 'INVALID_FILE' });
  await stored.close();
  table.close();
});

test('a table knows where it came from', async () => {
  const path = join(folder, 'table.safetensors');
  await writeTable(path, normals(rows, dim), formats[2]!);
  const table = await openTable(path);
  expect(table.origin).toMatchObject({ path, files: [path], tensor: 'rows', rows: { path, rows, dim, dtype: 'int8' } });
  expect(Object.keys(table.origin!.metadata)).toEqual(['finetable.rows']);
  table.close();
});
