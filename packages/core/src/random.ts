/**
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
 * SC'11). Number `i` of a stream depends on (seed, stream, i) alone, so any thread or worker can make any part of a
 * stream, in any order, and gets the same numbers. Not for secrets.
 */
import { FinetableError } from './errors.ts';

const multiplier0 = 0xd2511f53;
const multiplier1 = 0xcd9e8d57;
const weyl0 = 0x9e3779b9;
const weyl1 = 0xbb67ae85;

/** High 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const cross = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0;
}

/** Ten Philox rounds over counter `(c0, c1, c2, c3)` and key `(k0, k1)`; the four results go to `out[0..4)`. */
export function philox(c0: number, c1: number, c2: number, c3: number, k0: number, k1: number, out: Uint32Array): void {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(multiplier0, c0);
    const low0 = Math.imul(multiplier0, c0);
    const high1 = multiplyHigh(multiplier1, c2);
    const low1 = Math.imul(multiplier1, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + weyl0) >>> 0;
    k1 = (k1 + weyl1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * One stream of random numbers, indexed from 0 to 2^53. A stream is named by text (`"shuffle/3"`, `"words/B"`), so that
 * two uses never share numbers by accident.
 */
export class RandomStream {
  readonly #key0: number;
  readonly #key1: number;
  readonly #stream0: number;
  readonly #stream1: number;
  readonly #block = new Uint32Array(4);

  /** @param seed an integer in [0, 2^53) */
  constructor(seed: number, stream: string) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new FinetableError('INVALID_ARGUMENT', `seed: found ${seed}; allowed: an integer from 0 to 2^53 - 1`);
    }
    this.#key0 = seed >>> 0;
    this.#key1 = Math.floor(seed / 2 ** 32);
    const bytes = new TextEncoder().encode(stream);
    this.#stream0 = fnv1a(bytes, 0x811c9dc5);
    this.#stream1 = fnv1a(bytes, this.#stream0 ^ 0x5bd1e995);
  }

  #fill(block: number): Uint32Array {
    const high = (this.#stream1 ^ Math.floor(block / 2 ** 32)) >>> 0;
    philox(block >>> 0, high, this.#stream0, this.#stream1, this.#key0, this.#key1, this.#block);
    return this.#block;
  }

  /** The `index`-th unsigned 32-bit integer. */
  uint32(index: number): number {
    return this.#fill(Math.floor(index / 4))[index % 4]!;
  }

  /** An integer in [0, bound), bound <= 2^32, without bias worth naming (multiply and shift; bias < bound / 2^32). */
  below(index: number, bound: number): number {
    return multiplyHigh(this.uint32(index), bound >>> 0);
  }

  /** Uniform f32 values in [low, high): values `start .. start + out.length` of the stream. */
  fillUniform(out: Float32Array, low = 0, high = 1, start = 0): void {
    const scale = (high - low) / 2 ** 24;
    for (let i = 0; i < out.length; ) {
      const index = start + i;
      const block = this.#fill(Math.floor(index / 4));
      for (let lane = index % 4; lane < 4 && i < out.length; lane++, i++) out[i] = low + (block[lane]! >>> 8) * scale;
    }
  }

  /** Normal f32 values of mean 0 (Box-Muller): values `start .. start + out.length` of the stream. */
  fillNormal(out: Float32Array, deviation = 1, start = 0): void {
    const normals = new Float64Array(4);
    for (let i = 0; i < out.length; ) {
      const index = start + i;
      const block = this.#fill(Math.floor(index / 4));
      for (let pair = 0; pair < 4; pair += 2) {
        // (0, 1], so that the logarithm is finite.
        const radius = deviation * Math.sqrt(-2 * Math.log((block[pair]! + 1) / 2 ** 32));
        const angle = (2 * Math.PI * block[pair + 1]!) / 2 ** 32;
        normals[pair] = radius * Math.cos(angle);
        normals[pair + 1] = radius * Math.sin(angle);
      }
      for (let lane = index % 4; lane < 4 && i < out.length; lane++, i++) out[i] = normals[lane]!;
    }
  }
}

function fnv1a(bytes: Uint8Array, hash: number): number {
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** A permutation of `0 .. n` (Fisher-Yates), the same for the same seed and stream. */
export function permutation(n: number, seed: number, stream: string): Uint32Array {
  const random = new RandomStream(seed, stream);
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  for (let i = n - 1; i > 0; i--) {
    const j = random.below(i, i + 1);
    const kept = order[i]!;
    order[i] = order[j]!;
    order[j] = kept;
  }
  return order;
}
