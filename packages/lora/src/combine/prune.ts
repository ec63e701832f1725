/** Two ways to thin out a factor before it is merged. A row that is not stored is all zeros, which no pruning changes. */
import { RandomStream } from '@finetable/core';
import type { SparseRows } from './lowrank.ts';

/**
 * The `count` (1 or more) values of largest magnitude, zeros in place of the others (the trim step of TIES: Yadav et al. 2023). Of
 * equal magnitudes the earlier one stays. Where `count` reaches what is stored, all of it stays, and is not copied.
 */
export function keepLargest(values: Float32Array, count: number): Float32Array {
  if (count >= values.length) return values;
  const kept = new Float32Array(values.length);
  const { threshold, above } = magnitudeAt(values, count);
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  let ties = count - above;
  for (let i = 0; i < values.length; i++) {
    const magnitude = bits[i]! & 0x7fffffff;
    if (magnitude > threshold || (magnitude === threshold && ties-- > 0)) kept[i] = values[i]!;
  }
  return kept;
}

/**
 * Bits of the `count`-th largest magnitude and how many are above it. Without its sign an f32's bits order as its value, so
 * two passes of counting, over the high 16 bits and then the low ones, find it without sorting.
 */
function magnitudeAt(values: Float32Array, count: number): { threshold: number; above: number } {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  const counts = new Float64Array(0x10000); // f64: a count may pass 2^32
  for (const value of bits) counts[(value & 0x7fffffff) >>> 16]!++;
  const high = descend(counts, count);
  counts.fill(0);
  for (const value of bits) {
    if ((value & 0x7fffffff) >>> 16 === high.bucket) counts[value & 0xffff]!++;
  }
  const low = descend(counts, count - high.above);
  return { threshold: (high.bucket << 16) | low.bucket, above: high.above + low.above };
}

/** The bucket that holds the `count`-th from the top, and how many are in those above it. */
function descend(counts: Float64Array, count: number): { bucket: number; above: number } {
  let above = 0;
  let bucket = counts.length - 1;
  while (above + counts[bucket]! < count) above += counts[bucket--]!;
  return { bucket, above };
}

/**
 * Each value kept with probability `density` and then divided by it, so that its expectation stays (DARE: Yu et al. 2024).
 * The number drawn for a value depends on (seed, stream, row, column) alone, whatever other rows are stored.
 */
export function dropRandomly(factor: SparseRows, density: number, seed: number, stream: string): Float32Array {
  const { rows, values, cols } = factor;
  const random = new RandomStream(seed, stream);
  const limit = density * 2 ** 32;
  const kept = new Float32Array(values.length);
  for (let k = 0; k < rows.length; k++) {
    for (let c = 0; c < cols; c++) {
      if (random.uint32(rows[k]! * cols + c) < limit) kept[k * cols + c] = values[k * cols + c]! / density;
    }
  }
  return kept;
}
