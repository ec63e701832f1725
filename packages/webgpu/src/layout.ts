/**
 * How rows lie in storage buffers. Shaders read four columns at a time, so the columns of a row are filled up to a multiple of four; the
 * scales of a row follow its elements, so that one binding has both and they share cache lines. All in words of 4 bytes.
 */
import { rowBytes, rowScales, type RowDtype, type RowFormat } from '@finetable/core';

export interface RowLayout {
  readonly format: RowFormat;
  /** Fours of columns. */
  readonly quads: number;
  /** Words of a row: elements, then scales. */
  readonly rowWords: number;
  /** Where the scales begin. */
  readonly scaleWord: number;
  readonly scales: number;
}

/** Bytes of four columns; int4's fours share words in twos. */
const quadBytes: Readonly<Record<RowDtype, number>> = { f32: 16, f16: 8, bf16: 8, int8: 4, int4: 2 };

/** Fours that `columns` f32 numbers take. */
export const quadsOf = (columns: number): number => Math.ceil(columns / 4);

export function layoutOf(format: RowFormat): RowLayout {
  const quads = quadsOf(format.dim);
  const scaleWord = Math.ceil((quads * quadBytes[format.dtype]) / 4);
  const scales = rowScales(format);
  return { format, quads, scaleWord, scales, rowWords: scaleWord + scales };
}

/** Puts rows into place. @param elements `n` rows as they are stored, then @param scales theirs @param out zeros, `[n, rowWords]` words */
export function packRows(layout: RowLayout, elements: Uint8Array, scales: Uint8Array, out: Uint8Array): void {
  const { format, rowWords, scaleWord } = layout;
  const width = rowBytes(format.dtype, format.dim);
  if (width === 4 * rowWords) return out.set(elements);
  const scaleBytes = 4 * layout.scales;
  for (let row = 0, at = 0; at < out.length; row++, at += 4 * rowWords) {
    out.set(elements.subarray(row * width, (row + 1) * width), at);
    if (scaleBytes > 0) out.set(scales.subarray(row * scaleBytes, (row + 1) * scaleBytes), at + 4 * scaleWord);
  }
}

/** The other way: `n` rows as they are stored, then their scales, into `out`. @param first row of the first one in `out` @param count n of all of `out` */
export function unpackRows(layout: RowLayout, packed: Uint8Array, out: Uint8Array, first: number, count: number): void {
  const { format, rowWords, scaleWord } = layout;
  const width = rowBytes(format.dtype, format.dim);
  if (width === 4 * rowWords) return out.set(packed, first * width);
  const scaleBytes = 4 * layout.scales;
  for (let row = first, at = 0; at < packed.length; row++, at += 4 * rowWords) {
    out.set(packed.subarray(at, at + width), row * width);
    const scale = at + 4 * scaleWord;
    if (scaleBytes > 0) out.set(packed.subarray(scale, scale + scaleBytes), count * width + row * scaleBytes);
  }
}
