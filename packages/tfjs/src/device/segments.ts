/**
 * Weighted sums over segments of a list, as gathers and products or sums of blocks: what every tfjs backend has, and with one order
 * of additions, where a backend's own segment sums are missing or use atomics. Segments of 1, 2, up to 4, up to 8, … items are summed
 * together, those that are shorter filled up with their first item at weight 0, so less than twice the items are read.
 */
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import { isGpu } from './memory.ts';
import type { Traffic } from './traffic.ts';

/** Segments of `length / 2 + 1` to `length` places. */
export interface Bucket {
  readonly length: number;
  /** `[m] i32`, ascending. */
  readonly segments: Int32Array;
  /** `[m * length] i32`: the places of each, -1 - p where it is filled up with p. */
  readonly places: Int32Array;
}

/** @param offsets `[S + 1] i32`: segment i has places `offsets[i] .. offsets[i + 1]`; empty ones are in no bucket */
export function bucketSegments(offsets: Int32Array): Bucket[] {
  const lists: number[][] = [];
  for (let i = 0; i + 1 < offsets.length; i++) {
    const count = offsets[i + 1]! - offsets[i]!;
    if (count > 0) (lists[bitsOf(count)] ??= []).push(i);
  }
  return lists.flatMap((segments, bits) => {
    const length = 2 ** bits;
    const places = new Int32Array(segments.length * length);
    segments.forEach((segment, i) => {
      const [first, end] = [offsets[segment]!, offsets[segment + 1]!];
      for (let j = 0; j < length; j++) places[i * length + j] = first + j < end ? first + j : -1 - first;
    });
    return [{ length, segments: Int32Array.from(segments), places }];
  });
}

/** Of the least power of two that is not below `count`. */
const bitsOf = (count: number): number => 32 - Math.clz32(count - 1);

/** Its tensors are kept until it is disposed. */
export class SegmentSums {
  readonly #traffic: Traffic;
  readonly #buckets: readonly Bucket[];
  /** Of each bucket, `[m * length]`. */
  readonly #items: readonly Tensor1D[];
  /** Of each bucket, `[m, 1, length]`, or `[m, 1]` of length 1; null where all are 1. */
  readonly #weights: readonly (Tensor | null)[];
  /** `[S]`: where the sum of each segment is among those of all buckets; null where that is in order. */
  readonly #order: Tensor1D | null;
  readonly #empty: boolean;

  /**
   * @param items `[n] i32`: which row of the values each place has
   * @param weights `[n]`; null: 1
   */
  constructor(offsets: Int32Array, items: Int32Array, weights: Float32Array | null, traffic: Traffic) {
    const buckets = bucketSegments(offsets);
    this.#traffic = traffic;
    this.#buckets = buckets;
    this.#items = buckets.map(({ places }) => tf.keep(traffic.ints(places.map((p) => items[p < 0 ? -1 - p : p]!))));
    this.#weights = this.#upload(weights).map((tensor) => tensor && tf.keep(tensor));
    const segments = offsets.length - 1;
    const order = new Int32Array(segments).fill(-1);
    let count = 0;
    for (const bucket of buckets) for (const segment of bucket.segments) order[segment] = count++;
    this.#empty = count < segments;
    const inOrder = !this.#empty && buckets.length === 1;
    this.#order = inOrder ? null : tf.keep(traffic.ints(order.map((at) => (at < 0 ? count : at))));
  }

  #upload(weights: Float32Array | null): (Tensor | null)[] {
    return this.#buckets.map(({ length, segments, places }) => {
      if (!weights && places.every((p) => p >= 0)) return null;
      const own = Float32Array.from(places, (p) => (p < 0 ? 0 : weights ? weights[p]! : 1));
      return this.#traffic.floats(own, length === 1 ? [segments.length, 1] : [segments.length, 1, length]);
    });
  }

  /**
   * The sums, `[S, c]`, of values `[*, c]`; to be called in `tf.tidy`.
   * @param options.weights `[n]`: other ones this once
   * @param options.through where the values of the items are: item i has those of row `through[i]`
   */
  of(values: Tensor2D, options: { weights?: Float32Array | null; through?: Tensor1D } = {}): Tensor2D {
    const { weights, through } = options;
    const cols = values.shape[1];
    const factors = weights ? this.#upload(weights) : this.#weights;
    const sums = this.#buckets.map(({ length, segments: { length: m } }, i): Tensor2D => {
      const items = this.#items[i]!;
      const rows = tf.gather(values, through ? tf.gather(through, items) : items);
      const w = factors[i]!;
      if (length === 1) return w ? tf.mul(rows, w) : rows;
      const blocks = tf.reshape(rows, [m, length, cols]);
      // Matrix products are the fastest sums but on GPUs, where TensorFlow may round their factors to 10 bits (TF32).
      if (isGpu()) return tf.sum(w ? tf.mul(blocks, tf.reshape(w, [m, length, 1])) : blocks, 1);
      return tf.reshape(tf.matMul(w ?? tf.ones([m, 1, length]), blocks), [m, cols]);
    });
    if (this.#empty) sums.push(tf.zeros([1, cols]));
    const all = sums.length === 1 ? sums[0]! : tf.concat(sums, 0);
    return this.#order ? tf.gather(all, this.#order) : all;
  }

  dispose(): void {
    for (const tensor of [...this.#items, ...this.#weights, this.#order]) tensor?.dispose();
  }
}
