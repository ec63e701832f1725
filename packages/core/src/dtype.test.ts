import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bf16ToF32,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  rowBytes,
  rowScales,
  storedRowBytes,
  tensorDtypeBytes,
} from './dtype.ts';

/** IEEE 754 binary16, as the standard writes it. */
function naiveHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** Searches the halves, which ascend with their bits, for the nearest; 65536 stands for infinity, as rounding has it. */
function naiveNearest(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  const at = (bits: number) => (bits === 0x7c00 ? 65536 : naiveHalf(bits));
  let low = 0;
  let high = 0x7c00;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (at(middle) <= size) low = middle;
    else high = middle;
  }
  if (size >= 65536) return sign | 0x7c00;
  const below = size - at(low);
  const above = at(high) - size;
  return sign | (below < above || (below === above && low % 2 === 0) ? low : high);
}

describe('half precision', () => {
  it('reads every half, and writes it back', () => {
    const wrong: number[] = [];
    for (let half = 0; half < 65536; half++) {
      const value = f16ToF32(half);
      const back = f32ToF16(value);
      if (!Object.is(value, naiveHalf(half)) || (Number.isNaN(value) ? !Number.isNaN(f16ToF32(back)) : back !== half))
        wrong.push(half);
    }
    expect(wrong).toEqual([]);
  });

  it('rounds every midpoint to even, and its neighbours to their sides', () => {
    const bits = new Uint32Array(1);
    const float = new Float32Array(bits.buffer);
    const wrong: number[] = [];
    for (let half = 0; half < 0x7c00; half++) {
      const next = half === 0x7bff ? 65536 : naiveHalf(half + 1);
      float[0] = (naiveHalf(half) + next) / 2;
      const middle = bits[0]!;
      for (const [offset, expected] of [
        [-1, half],
        [0, half + (half % 2)],
        [1, half + 1],
      ] as const) {
        bits[0] = middle + offset;
        if (f32ToF16(float[0]) !== expected || f32ToF16(-float[0]) !== (expected | 0x8000)) wrong.push(half);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('rounds any f32 to the nearest half', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.float(),
          fc.float({ min: -70000, max: 70000 }),
          fc.float({ min: Math.fround(-1e-4), max: Math.fround(1e-4) }),
        ),
        (value) => {
          expect(f32ToF16(value)).toBe(naiveNearest(value));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it.each([
    [65504, 0x7bff],
    [65519.99609375, 0x7bff],
    [65520, 0x7c00],
    [-Infinity, 0xfc00],
    [NaN, 0x7e00],
    [2 ** -24, 1],
    [2 ** -25, 0],
    [-(2 ** -25), 0x8000],
    [2 ** -149, 0],
    [-0, 0x8000],
  ])('writes %d as the standard has it', (value, half) => {
    expect(f32ToF16(value)).toBe(half);
  });
});

describe('bfloat16', () => {
  it('reads every one as the f32 with the same upper half, and writes it back', () => {
    const word = new DataView(new ArrayBuffer(4));
    const wrong: number[] = [];
    for (let bfloat = 0; bfloat < 65536; bfloat++) {
      word.setUint16(0, bfloat);
      const value = bf16ToF32(bfloat);
      if (!Object.is(value, word.getFloat32(0))) wrong.push(bfloat);
      const back = f32ToBf16(value);
      if (Number.isNaN(value) ? !Number.isNaN(bf16ToF32(back)) : back !== bfloat) wrong.push(bfloat);
    }
    expect(wrong).toEqual([]);
  });

  it('rounds to the nearer neighbour, ties to even', () => {
    const word = new DataView(new ArrayBuffer(4));
    const wrong: string[] = [];
    for (let bfloat = 0; bfloat < 0x7f80; bfloat++) {
      for (const [low, expected] of [
        [0x7fff, bfloat],
        [0x8000, bfloat + (bfloat % 2)],
        [0x8001, bfloat + 1],
      ] as const) {
        word.setUint32(0, bfloat * 65536 + low);
        const value = word.getFloat32(0);
        if (f32ToBf16(value) !== expected || f32ToBf16(-value) !== (expected | 0x8000)) wrong.push(`${bfloat} ${low}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

it('knows the bytes of every element type by its name', () => {
  for (const [name, bytes] of Object.entries(tensorDtypeBytes))
    expect(bytes).toBe(name === 'BOOL' ? 1 : Number(/\d+/.exec(name)![0]) / 8);
});

it('knows the bytes of a row', () => {
  expect((['f32', 'f16', 'bf16', 'int8', 'int4'] as const).map((dtype) => rowBytes(dtype, 7))).toEqual([
    28, 14, 14, 7, 4,
  ]);
  expect(rowScales({ dtype: 'f32', dim: 7, groupDims: 0 })).toBe(0);
  expect(rowScales({ dtype: 'int8', dim: 7, groupDims: 7 })).toBe(1);
  expect(rowScales({ dtype: 'int4', dim: 65, groupDims: 32 })).toBe(3);
  expect(storedRowBytes({ dtype: 'int4', dim: 65, groupDims: 32 })).toBe(33 + 12);
});
