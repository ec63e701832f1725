/**
 * Decimal numbers straight from bytes: a word-vector file is nothing but these, and making a string of each one costs more
 * than everything else. Exact where digits and power of ten are exact in f64 (at most 15 digits, power within 22: Clinger,
 * "How to read floating point numbers accurately", PLDI 1990); the rest goes through `Number`. Both give the same f64.
 */

const powersOfTen = Float64Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));
const mostExact = 2 ** 53;

/** The number in `bytes[begin, end)`, or NaN where that is not a finite decimal number. */
export function parseDecimal(bytes: Uint8Array, begin: number, end: number): number {
  let at = begin;
  let first = bytes[at];
  const negative = first === 0x2d;
  if (negative || first === 0x2b) first = bytes[++at];
  let mantissa = 0;
  let exponent = 0;
  let digits = 0;
  let point = false;
  for (; at < end; at++) {
    const c = bytes[at]!;
    const digit = c - 0x30;
    if (digit >= 0 && digit <= 9) {
      mantissa = mantissa * 10 + digit;
      digits++;
      if (point) exponent--;
    } else if (c === 0x2e && !point) point = true;
    else break;
  }
  if (digits === 0) return NaN;
  if (at < end) {
    if ((bytes[at]! | 0x20) !== 0x65) return NaN;
    let power = 0;
    const sign = bytes[++at];
    if (sign === 0x2d || sign === 0x2b) at++;
    if (at >= end) return NaN;
    for (; at < end; at++) {
      const digit = bytes[at]! - 0x30;
      if (digit < 0 || digit > 9) return NaN;
      power = Math.min(power * 10 + digit, 99_999);
    }
    exponent += sign === 0x2d ? -power : power;
  }
  if (mantissa < mostExact && exponent >= -22 && exponent <= 22) {
    const value = exponent < 0 ? mantissa / powersOfTen[-exponent]! : mantissa * powersOfTen[exponent]!;
    return negative ? -value : value;
  }
  const value = Number(Buffer.from(bytes.buffer, bytes.byteOffset + begin, end - begin).toString('latin1'));
  return Number.isFinite(value) ? value : NaN;
}
