import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { storedRowBytes, type RowFormat } from '@finetable/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { writeQuantizedTable } from './quantized.ts';
import { writeTableBlocks, type TableBlock } from './table.ts';
import { writeSafetensors } from './write.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'table-'));
});
afterEach(() => rm(folder, { recursive: true }));

const rows = 23;
const formats: readonly RowFormat[] = [
  { dtype: 'f32', dim: 5, groupDims: 0 },
  { dtype: 'f16', dim: 5, groupDims: 0 },
  { dtype: 'bf16', dim: 1, groupDims: 0 },
  { dtype: 'int8', dim: 5, groupDims: 5 },
  { dtype: 'int4', dim: 67, groupDims: 32 },
];

/** Byte i of row `row`. */
const byteOf = (row: number, i: number): number => (row * 31 + i * 7) & 0xff;

/** Elements and scales of all rows, in one array each. */
function whole(format: RowFormat): { elements: Uint8Array; scales: Uint8Array } {
  const stored = storedRowBytes(format);
  const width = stored - 4 * (format.groupDims === 0 ? 0 : Math.ceil(format.dim / format.groupDims));
  const elements = new Uint8Array(rows * width).map((_, i) => byteOf(Math.floor(i / width), i % width));
  const scaleWidth = stored - width;
  const scales = new Uint8Array(rows * scaleWidth).map((_, i) =>
    byteOf(Math.floor(i / scaleWidth), width + (i % scaleWidth)),
  );
  return { elements, scales };
}

function fillFrom(format: RowFormat, seen: number[][] = []) {
  const { elements, scales } = whole(format);
  const [width, scaleWidth] = [elements.length / rows, scales.length / rows];
  return async ({ firstRow, rows: count, bytes }: TableBlock): Promise<void> => {
    seen.push([firstRow, count, bytes.length]);
    bytes.set(elements.subarray(firstRow * width, (firstRow + count) * width));
    bytes.set(scales.subarray(firstRow * scaleWidth, (firstRow + count) * scaleWidth), count * width);
    return Promise.resolve();
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

test.each(formats)('the same file as if it were written at once: %j', async (format) => {
  const { elements, scales } = whole(format);
  const [expected, path] = [join(folder, 'expected'), join(folder, 'blocks')];
  const { dtype, dim } = format;
  if (dtype === 'int8' || dtype === 'int4')
    await writeQuantizedTable(
      expected,
      { name: 't', rows, format },
      { elements: once(elements), scales: once(scales) },
    );
  else {
    const tensor = { name: 't', dtype: ({ f32: 'F32', f16: 'F16', bf16: 'BF16' } as const)[dtype], shape: [rows, dim] };
    await writeSafetensors(expected, [{ ...tensor, data: elements }]);
  }
  for (const blockRows of [1, 4, rows, 2 * rows]) {
    const seen: number[][] = [];
    await writeTableBlocks(path, { name: 't', rows, format }, { blockRows, fill: fillFrom(format, seen) });
    expect((await readFile(path)).equals(await readFile(expected))).toBe(true);
    const begins = Array.from({ length: Math.ceil(rows / blockRows) }, (_, i) => i * blockRows);
    const sizes = begins.map((begin) => Math.min(blockRows, rows - begin));
    expect(seen).toEqual(begins.map((begin, i) => [begin, sizes[i], sizes[i]! * storedRowBytes(format)]));
  }
});

test('what fill throws ends it, and leaves nothing; metadata and names are checked', async () => {
  const [format] = formats as [RowFormat];
  const path = join(folder, 'table');
  for (const fails of [0, 1, 5]) {
    let calls = 0;
    const fill = (block: TableBlock): Promise<void> =>
      calls++ === fails ? Promise.reject(new Error('no more')) : fillFrom(format)(block);
    await expect(writeTableBlocks(path, { name: 't', rows, format }, { blockRows: 4, fill })).rejects.toThrow(
      'no more',
    );
  }
  const fill = fillFrom(format);
  const bad = writeTableBlocks(path, { name: '__metadata__', rows, format }, { blockRows: 4, fill });
  await expect(bad).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  expect(await readdir(folder)).toEqual([]);
});
