/**
 * Tables in safetensors, written block by block: the elements and the scales of a block go to their places in the file together, so
 * that a table of any size passes through two blocks of memory, once. While one block is written the next one is made.
 */
import { rowBytes, rowScales, storedRowBytes, type RowFormat } from '@finetable/core';
import { writeFileAtomic } from '../atomic.ts';
import { elementDtypes, metadataKeyOf, scalesSuffix, type QuantizedDtype } from './quantized.ts';
import { checkNames, formatHeader, type Entry } from './write.ts';

/** Rows to be written. */
export interface TableBlock {
  readonly firstRow: number;
  readonly rows: number;
  /** `[rows * storedRowBytes]`, to be filled: the elements of all rows, row by row without gaps, then the scales of all. */
  readonly bytes: Uint8Array;
}

/** Gives the rows of a table that is written block by block. */
export interface BlockWriter {
  /** Rows of a block; the last one has what is left. */
  readonly blockRows: number;
  /** Fills a block; called for all of them in order, one at a time. What it throws ends the writing. */
  readonly fill: (block: TableBlock) => Promise<void>;
  /** Beside what quantised tables need. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

const floatDtypes = { f32: 'F32', f16: 'F16', bf16: 'BF16' } as const;

/**
 * Writes one table, replacing a file that is there; the same bytes as `writeSafetensors` or `writeQuantizedTable` would.
 * @throws INVALID_ARGUMENT (a name that no tensor can have), IO, whatever `fill` throws; on failure nothing is written
 */
export async function writeTableBlocks(
  path: string,
  { name, rows, format }: { readonly name: string; readonly rows: number; readonly format: RowFormat },
  { blockRows, fill, metadata = {} }: BlockWriter,
): Promise<void> {
  const { dtype, dim, groupDims } = format;
  const width = rowBytes(dtype, dim);
  const scaleWidth = 4 * rowScales(format);
  const entries: Entry[] =
    groupDims === 0
      ? [{ name, dtype: floatDtypes[dtype as keyof typeof floatDtypes], shape: [rows, dim], bytes: rows * width }]
      : [
          { name: name + scalesSuffix, dtype: 'F32', shape: [rows, scaleWidth / 4], bytes: rows * scaleWidth },
          { name, dtype: elementDtypes[dtype as QuantizedDtype], shape: [rows, width], bytes: rows * width },
        ];
  const own = groupDims === 0 ? {} : { [metadataKeyOf(name)]: JSON.stringify({ dtype, dim, groupDims }) };
  const told = { ...metadata, ...own };
  checkNames(path, entries, told);
  const header = formatHeader(path, entries, told);
  const scalesAt = header.byteLength;
  const elementsAt = scalesAt + rows * scaleWidth;
  const buffers = [0, 1].map(() => new Uint8Array(Math.min(blockRows, rows) * storedRowBytes(format)));
  await writeFileAtomic(path, async (write) => {
    await write(header);
    // The block that is being written, and the one before it.
    const writes: Promise<void>[] = [];
    for (let firstRow = 0, i = 0; firstRow < rows; firstRow += blockRows, i ^= 1) {
      await writes[i];
      const count = Math.min(blockRows, rows - firstRow);
      const bytes = buffers[i]!.subarray(0, count * (width + scaleWidth));
      await fill({ firstRow, rows: count, bytes });
      const done = [
        write(bytes.subarray(0, count * width), elementsAt + firstRow * width),
        write(bytes.subarray(count * width), scalesAt + firstRow * scaleWidth),
      ];
      // Awaited when its buffer is needed again, or by `writeFileAtomic`; until then a failure waits too.
      writes[i] = Promise.all(done).then(() => undefined);
      writes[i]!.catch(() => undefined);
    }
  });
}
