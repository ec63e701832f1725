/** Of `[n + 1]` bounds of n ranges, the range that `value` lies in; the last of those that begin with it. */
export function lastAtMost(ascending: Float64Array, value: number): number {
  let [low, high] = [0, ascending.length - 2];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (ascending[middle]! <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
