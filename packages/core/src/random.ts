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

/** High 32 bits, as a signed integer, of the 64-bit product of two 32-bit integers taken as unsigned. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // Neither sum passes 2^32: (2^16 - 1)^2 + 2 (2^16 - 1) = 2^32 - 1. `| 0` keeps V8 in 32-bit registers.
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0;
  const cross = (Math.imul(aLow, bHigh) + (middle & 0xffff)) | 0;
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (cross >>> 16)) | 0;
}

/** Ten Philox rounds over counter `(c0, c1, c2, c3)` and key `(k0, k1)`; the four results go to `out[0..4)`. */
export function philox(c0: number, c1: number, c2: number, c3: number, k0: number, k1: number, out: Uint32Array): void {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(multiplier0, c0);
    const low0 = Math.imul(multiplier0, c0);
    const high1 = multiplyHigh(multiplier1, c2);
    const low1 = Math.imul(multiplier1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + weyl0) | 0;
    k1 = (k1 + weyl1) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * One stream of random numbers, indexed from 0 to 2^53 - 1. A stream is named by text (`"shuffle/3"`, `"words/B"`), so
 * that two uses never share numbers by accident. A wrong index, bound or start throws INVALID_ARGUMENT.
 */
export class RandomStream {
  readonly #key0: number;
  readonly #key1: number;
  readonly #stream0: number;
  readonly #stream1: number;
  readonly #block = new Uint32Array(4);
  /** Which block `#block` holds: four numbers in a row cost one. */
  #held = -1;

  /** @param seed an integer in [0, 2^53) */
  constructor(seed: number, stream: string) {
    this.#key0 = checkIndex(seed, 'seed') | 0;
    this.#key1 = Math.floor(seed / 2 ** 32);
    const bytes = new TextEncoder().encode(stream);
    this.#stream0 = fnv1a(bytes, 0x811c9dc5);
    this.#stream1 = fnv1a(bytes, this.#stream0 ^ 0x5bd1e995);
  }

  #load(block: number): Uint32Array {
    if (block !== this.#held) {
      const high = this.#stream1 ^ Math.floor(block / 2 ** 32);
      philox(block | 0, high, this.#stream0, this.#stream1, this.#key0, this.#key1, this.#block);
      this.#held = block;
    }
    return this.#block;
  }

  /** The `index`-th unsigned 32-bit integer. */
  uint32(index: number): number {
    return this.#load(Math.floor(checkIndex(index, 'index') / 4))[index % 4]!;
  }

  /** An integer in [0, bound), 1 <= bound <= 2^32, without bias worth naming (multiply and shift; bias < bound / 2^32). */
  below(index: number, bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > 2 ** 32) {
      throw new FinetableError('INVALID_ARGUMENT', `bound: found ${bound}; allowed: an integer from 1 to 2^32`);
    }
    const value = this.uint32(index);
    return bound === 2 ** 32 ? value : multiplyHigh(value, bound) >>> 0;
  }

  /**
   * Uniform f32 values: values `start .. start + out.length` of the stream, 2^24 of them equally spaced in [low, high).
   * Each is rounded to f32, which gives `high` itself where f32 has no value between the last of them and `high`.
   */
  fillUniform(out: Float32Array, low = 0, high = 1, start = 0): void {
    const bits = this.#bitsUnder(out, start);
    const scale = (high - low) / 2 ** 24;
    for (let i = 0; i < out.length; i++) out[i] = low + (bits[i]! >>> 8) * scale;
  }

  /**
   * Normal f32 values of mean 0: values `start .. start + out.length` of the stream, each from one 32-bit integer, so at
   * most 6.4 deviations from 0.
   */
  fillNormal(out: Float32Array, deviation = 1, start = 0): void {
    const bits = this.#bitsUnder(out, start);
    for (let i = 0; i < out.length; i++) out[i] = deviation * normalQuantile(bits[i]!);
  }

  /** Integers `start .. start + out.length`: what {@link uint32} gives one by one. */
  fill(out: Uint32Array, start = 0): void {
    checkIndex(start, 'start');
    checkIndex(start + out.length, 'start + length');
    let lane = start % 4;
    let block = Math.floor(start / 4);
    for (let i = 0; i < out.length; block++, lane = 0) {
      const four = this.#load(block);
      for (; lane < 4 && i < out.length; lane++, i++) out[i] = four[lane]!;
    }
  }

  /** Integers in the memory of `out`, to be replaced one by one by what they become. */
  #bitsUnder(out: Float32Array, start: number): Uint32Array {
    const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
    this.fill(bits, start);
    return bits;
  }
}

/**
 * The normal quantile of (x + 0.5) / 2^32: Wichura's AS 241, PPND7 (Applied Statistics 37, 1988), right to about 1 part in
 * 10^7, an f32's own precision. Only one value in seven needs a logarithm, and x and its complement give opposite numbers.
 */
function normalQuantile(x: number): number {
  const q = (x + 0.5) / 2 ** 32 - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return (
      (q * (((59.10937472 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179)) /
      (((67.1875636 * r + 78.757757664) * r + 17.895169469) * r + 1)
    );
  }
  // At most 4.79, as the smallest probability is 2^-33: AS 241's far tail, from 5 on, is never reached.
  const tail = Math.sqrt(-Math.log(0.5 - Math.abs(q)));
  const r = tail - 1.6;
  const value =
    (((0.17023821103 * r + 1.3067284816) * r + 2.75681539) * r + 1.4234372777) /
    ((0.12021132975 * r + 0.7370016425) * r + 1);
  return q < 0 ? -value : value;
}

function checkIndex(value: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new FinetableError('INVALID_ARGUMENT', `${what}: found ${value}; allowed: an integer from 0 to 2^53 - 1`);
  }
  return value;
}

function fnv1a(bytes: Uint8Array, hash: number): number {
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash | 0;
}

/**
 * A permutation of `0 .. n - 1` (Fisher-Yates), the same for the same seed and stream.
 * @param n an integer in [0, 2^32)
 */
export function permutation(n: number, seed: number, stream: string): Uint32Array {
  if (!Number.isInteger(n) || n < 0 || n >= 2 ** 32) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `permutation: found length ${n}; allowed: an integer from 0 to 2^32 - 1`,
    );
  }
  const random = new RandomStream(seed, stream);
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  const bits = new Uint32Array(Math.min(n, 4096));
  for (let end = n; end > 1;) {
    const begin = Math.max(0, end - bits.length);
    random.fill(bits.subarray(0, end - begin), begin);
    for (let i = end - 1; i >= begin; i--) {
      const j = multiplyHigh(bits[i - begin]!, i + 1) >>> 0;
      const kept = order[i]!;
      order[i] = order[j]!;
      order[j] = kept;
    }
    end = begin;
  }
  return order;
}
