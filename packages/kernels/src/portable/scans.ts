/** Searches for a bad index in a plan. */

export function firstOutside(values: Int32Array, low: number, limit: number): number {
  for (let i = 0; i < values.length; i++) if (values[i]! < low || values[i]! >= limit) return i;
  return -1;
}

export function firstDescent(values: Int32Array): number {
  for (let i = 1; i < values.length; i++) if (values[i]! < values[i - 1]!) return i;
  return -1;
}

/** One bit per value, all zero between calls; as long as the largest value asks for, not as the table. */
let seen = new Uint32Array(0);

export function firstRepeated(values: Int32Array): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, values[i]!);
  const words = (largest >>> 5) + 1;
  if (seen.length < words) seen = new Uint32Array(2 * words);
  let repeated = -1;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value < 0) continue;
    const bit = 1 << (value & 31);
    if ((seen[value >>> 5]! & bit) !== 0) {
      repeated = i;
      break;
    }
    seen[value >>> 5]! |= bit;
  }
  for (let i = 0; i < values.length; i++) if (values[i]! >= 0) seen[values[i]! >>> 5] = 0;
  return repeated;
}
