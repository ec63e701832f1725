/** Element types of stored rows and tensors, their sizes, and the 16-bit float conversions. */

/**
 * What a frozen base row can be stored as. Arithmetic is always f32. `int8` and `int4` hold whole numbers, in -127..127 and
 * -7..7, that a scale beside the row multiplies (see {@link RowFormat}).
 */
export type RowDtype = 'f32' | 'f16' | 'bf16' | 'int8' | 'int4';

/**
 * How a row of D numbers lies in memory and on disk: its elements, contiguous and little-endian (`int4`: two a byte, column 2j
 * in the low half of byte j, two's complement), and apart from them, for `int8` and `int4`, one f32 scale for each group of
 * columns.
 */
export interface RowFormat {
  readonly dtype: RowDtype;
  /** D. */
  readonly dim: number;
  /** Columns that share a scale: 0 without scales, D for `int8`, for `int4` 32, 64, 128 or D. The last group may be short. */
  readonly groupDims: number;
}

/** What a file's tensor can hold; the names of safetensors. */
export type TensorDtype =
  | 'F64' | 'F32' | 'F16' | 'BF16' | 'F8_E4M3' | 'F8_E5M2'
  | 'I64' | 'I32' | 'I16' | 'I8' | 'U64' | 'U32' | 'U16' | 'U8' | 'BOOL'; // prettier-ignore

const rowDtypeBits: Readonly<Record<RowDtype, number>> = { f32: 32, f16: 16, bf16: 16, int8: 8, int4: 4 };

/** How the rows of a table may be stored. */
export const rowDtypes = Object.keys(rowDtypeBits) as readonly RowDtype[];

/** Bytes of the elements of a row. */
export const rowBytes = (dtype: RowDtype, dim: number): number => Math.ceil((dim * rowDtypeBits[dtype]) / 8);

/** Scales beside a row. */
export const rowScales = ({ dim, groupDims }: RowFormat): number => (groupDims === 0 ? 0 : Math.ceil(dim / groupDims));

/** All bytes of a row, its scales included. */
export const storedRowBytes = (format: RowFormat): number => rowBytes(format.dtype, format.dim) + 4 * rowScales(format);

/** Bytes of one element, by the name that safetensors has for its dtype. */
export const tensorDtypeBytes: Readonly<Record<TensorDtype, number>> = {
  F64: 8, F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1,
  I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, BOOL: 1,
}; // prettier-ignore

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** The f32 value of IEEE 754 half-precision bits; exact. */
export function f16ToF32(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) {
    const value = fraction * 2 ** -24;
    return sign === 0 ? value : -value;
  }
  // The exponent's bias goes from 15 to 127; infinity and NaN keep all ones.
  bits[0] = sign | (exponent === 31 ? 0x7f800000 : (exponent + 112) << 23) | (fraction << 13);
  return float[0]!;
}

/** The f32 value of bfloat16 bits; exact. */
export function bf16ToF32(bfloat: number): number {
  bits[0] = bfloat << 16;
  return float[0]!;
}

/** bfloat16 bits of an f32 value, rounded to nearest, ties to even; overflow gives infinity, NaN stays NaN. */
export function f32ToBf16(value: number): number {
  float[0] = value;
  const x = bits[0]!;
  if ((x & 0x7fffffff) > 0x7f800000) return ((x >>> 16) & 0x8000) | 0x7fc0;
  return (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
}

/** Half-precision bits of an f32 value, rounded to nearest, ties to even; overflow gives infinity. */
export function f32ToF16(value: number): number {
  float[0] = value;
  const x = bits[0]!;
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and more rounds to infinity
  if (magnitude >= 0x38800000) {
    // Normal: 13 bits are dropped; adding half of the last kept place, less one when it is even, rounds ties to even.
    const odd = (magnitude >>> 13) & 1;
    return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
  }
  // Subnormal: a multiple of 2^-24, which adding 0.5 (whose last place is 2^-24) rounds to exactly.
  float[0] = value < 0 ? -value : value;
  float[0] = float[0]! + 0.5;
  return sign | (bits[0]! - 0x3f000000);
}
