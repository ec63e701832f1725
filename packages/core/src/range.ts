/** `0, 1, … count - 1` as `[count] i32`: all rows of a table, all slots of an adapter. A loop: `Int32Array.from` calls back per value. */
export function range(count: number): Int32Array {
  const values = new Int32Array(count);
  for (let i = 0; i < count; i++) values[i] = i;
  return values;
}

/** The first index of ascending `values` that is not below `limit`. */
export function lowerBound(values: ArrayLike<number>, limit: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The first index of ascending `values` that is above `limit`. Of the `[n + 1]` bounds of n ranges, the one before it is the range that
 * `limit` lies in, past empty ones.
 */
export function upperBound(values: ArrayLike<number>, limit: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
