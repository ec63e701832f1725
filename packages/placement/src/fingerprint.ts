/**
 * A fingerprint of a table's stored bytes that stays cheap for any size: SHA-256 over rows, dims and dtype, and over at most
 * 66 blocks of 4 KiB: the first, the last, and 64 spread evenly between; of a dtype with scales, the same again over those.
 * It catches another table, another order or another dtype; it does not catch a change that falls between the sampled
 * blocks of a table over 264 KiB. Where the rows live makes no difference.
 */
import { createHash } from 'node:crypto';
import { rowBytes, rowScales, type RowFormat } from '@finetable/core';

const blockBytes = 4096;
const spread = 64;

interface Block {
  readonly begin: number;
  readonly length: number;
}

/** A stretch of a row's bytes, repeated for every row. */
interface Stream {
  readonly rowBytes: number;
  readonly blocks: readonly Block[];
}

/** The rows that a fingerprint reads, and what it makes of their stored bytes. */
export class Fingerprint {
  /** `[n] i32`, ascending, distinct. */
  readonly rows: Int32Array;
  readonly #header: string;
  readonly #streams: readonly Stream[];

  constructor(rows: number, format: RowFormat) {
    const { dtype, dim, groupDims } = format;
    this.#header = `finetable 1 ${rows} ${dim} ${dtype}${groupDims === 0 ? '' : `/${groupDims}`}\n`;
    const widths = [rowBytes(dtype, dim), ...(groupDims === 0 ? [] : [4 * rowScales(format)])];
    this.#streams = widths.map((width) => ({ rowBytes: width, blocks: blocksOf(rows * width) }));
    const needed = new Set<number>();
    for (const { rowBytes: width, blocks } of this.#streams) {
      for (const { begin, length } of blocks)
        for (let row = Math.floor(begin / width); row * width < begin + length; row++) needed.add(row);
    }
    this.rows = Int32Array.from(needed).sort();
  }

  /** @param bytes of `rows`, as `RawRows` reads them */
  of(bytes: Uint8Array): string {
    const hash = createHash('sha256').update(this.#header);
    const index = new Map<number, number>();
    this.rows.forEach((row, i) => index.set(row, i));
    let streamAt = 0;
    for (const { rowBytes: width, blocks } of this.#streams) {
      for (const { begin, length } of blocks) {
        // The rows of a block are neighbours here too.
        const first = Math.floor(begin / width);
        const at = streamAt + index.get(first)! * width + (begin - first * width);
        hash.update(bytes.subarray(at, at + length));
      }
      streamAt += this.rows.length * width;
    }
    return `sha256-sampled:${hash.digest('hex')}`;
  }
}

function blocksOf(totalBytes: number): Block[] {
  const last = Math.max(0, totalBytes - blockBytes);
  return Array.from({ length: spread + 2 }, (_, i) => {
    const begin = Math.floor((last * i) / (spread + 1));
    return { begin, length: Math.min(blockBytes, totalBytes - begin) };
  });
}
