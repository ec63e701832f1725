/** Optimiser state of one row as f32, and back: 16-bit state is rounded at random. */
import { bf16ToF32, f16ToF32, philox } from '@finetable/core';
import type { PortableRows } from './rows.ts';

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/**
 * The bfloat16 below or above an f32, above where the dropped 16 bits and `random`, 16 more, add up to 2^16 or more: each
 * with the probability that makes the mean right. Finite values stay finite.
 */
export function roundToBf16(value: number, random: number): number {
  float[0] = value;
  const x = bits[0]!;
  const magnitude = x & 0x7fffffff;
  if (magnitude >= 0x7f800000) return (x >>> 16) | (magnitude > 0x7f800000 ? 0x40 : 0);
  return ((x >>> 16) & 0x8000) | Math.min((magnitude + random) >>> 16, 0x7f7f);
}

/** The same for half precision; below 2^-14, where it has steps of 2^-24, right to 2^-16 of a step. */
export function roundToF16(value: number, random: number): number {
  float[0] = value;
  const x = bits[0]!;
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude >= 0x38800000) return sign | Math.min((magnitude - 0x38000000 + (random >>> 3)) >>> 13, 0x7bff);
  const steps = Math.abs(value) * 2 ** 24;
  const whole = Math.floor(steps);
  return sign | (whole + (random < (steps - whole) * 65536 ? 1 : 0));
}

/** Which state array of a row: their numbers are drawn apart. */
export const momentumState = 0;
export const squaresState = 1;

const four = new Uint32Array(4);

/** Rows of one state store, seen as f32: read and written in place where they are, else through a copy. */
export class StateRows {
  readonly #store: PortableRows;
  readonly #which: number;
  readonly #key0: number;
  readonly #key1: number;
  readonly #copy: Float32Array;
  /** The row's values from `at` on. */
  values: Float32Array;
  at = 0;

  constructor(store: PortableRows, which: number, seed: number) {
    this.#store = store;
    this.#which = which;
    this.#key0 = seed | 0;
    this.#key1 = Math.floor(seed / 2 ** 32);
    this.#copy = new Float32Array(store.dtype === 'f32' ? 0 : store.dim);
    this.values = this.#copy;
  }

  read(slot: number): void {
    const { dtype, dim } = this.#store;
    const at = this.#store.seek(slot);
    if (dtype === 'f32') {
      this.values = this.#store.data as Float32Array;
      this.at = at;
      return;
    }
    const data = this.#store.data as Int16Array;
    const decode = dtype === 'bf16' ? bf16ToF32 : f16ToF32;
    for (let i = 0; i < dim; i++) this.#copy[i] = decode(data[at + i]! & 0xffff);
  }

  /** One number of Philox (see `RandomStream`) serves eight elements with 16 bits each. */
  write(slot: number, step: number): void {
    const { dtype, dim } = this.#store;
    if (dtype === 'f32') return;
    const at = this.#store.seek(slot);
    const data = this.#store.data as Int16Array;
    for (let i = 0; i < dim; i++) {
      if (i % 8 === 0) philox(i / 8, slot, step, this.#which, this.#key0, this.#key1, four);
      const random = (four[(i % 8) >> 1]! >>> (16 * (i % 2))) & 0xffff;
      const value = this.#copy[i]!;
      let rounded = dtype === 'bf16' ? roundToBf16(value, random) : roundToF16(value, random);
      // A square of 0 beside a momentum would make a step of m / epsilon.
      if (rounded === 0 && this.#which === squaresState && value > 0) rounded = 1;
      data[at + i] = rounded;
    }
  }
}
