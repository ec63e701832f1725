/**
 * Sums of doubles without rounding errors, so that they do not depend on the order of what is added (Shewchuk: "Adaptive precision
 * floating-point arithmetic and fast robust geometric predicates", 1997). A sum is a list of doubles that do not overlap, smallest first.
 * For values below 2^400 in magnitude.
 */

export function addExact(sum: number[], x: number): void {
  let kept = 0;
  for (let part of sum) {
    if (Math.abs(x) < Math.abs(part)) [x, part] = [part, x];
    const high = x + part;
    const low = part - (high - x);
    if (low !== 0) sum[kept++] = low;
    x = high;
  }
  sum.length = kept;
  sum.push(x);
}

/** Adds a · b. */
export function addProduct(sum: number[], a: number, b: number): void {
  const product = a * b;
  const [ah, bh] = [upperHalf(a), upperHalf(b)];
  const [al, bl] = [a - ah, b - bh];
  addExact(sum, al * bl - (product - ah * bh - al * bh - ah * bl));
  addExact(sum, product);
}

/** The upper 26 bits of the significand (Veltkamp). */
function upperHalf(x: number): number {
  const scaled = 134217729 * x; // 2^27 + 1
  return scaled - (scaled - x);
}

/** The sum as the nearest double, of two equally near ones the even one. */
export function roundExact(sum: readonly number[]): number {
  let i = sum.length - 1;
  if (i < 0) return 0;
  let high = sum[i--]!;
  let low = 0;
  while (i >= 0) {
    const x = high;
    const part = sum[i--]!;
    high = x + part;
    low = part - (high - x);
    if (low !== 0) break;
  }
  // Half way between two doubles the rest decides, however small it is.
  if (i >= 0 && Math.sign(low) === Math.sign(sum[i]!)) {
    const twice = low * 2;
    const next = high + twice;
    if (twice === next - high) high = next;
  }
  return high;
}

/** Count, sum and sum of squares: enough for mean and deviation. Plain data. */
export interface MomentSums {
  count: number;
  readonly sum: number[];
  readonly squares: number[];
}

export const noMoments = (): MomentSums => ({ count: 0, sum: [], squares: [] });

export function addMoment(sums: MomentSums, x: number): void {
  sums.count++;
  addExact(sums.sum, x);
  addProduct(sums.squares, x, x);
}

export function combineMoments(sums: MomentSums, more: MomentSums): void {
  sums.count += more.count;
  for (const part of more.sum) addExact(sums.sum, part);
  for (const part of more.squares) addExact(sums.squares, part);
}

/** Of the values themselves, not of a sample: divided by their number. Of none: 0 and 0. */
export function momentsOf({ count, sum, squares }: MomentSums): { readonly mean: number; readonly deviation: number } {
  if (count === 0) return { mean: 0, deviation: 0 };
  // n² variance = n Σx² - (Σx)²: exact up to here, so nothing cancels.
  const variance: number[] = [];
  for (const part of squares) addProduct(variance, count, part);
  for (const a of sum) for (const b of sum) addProduct(variance, -a, b);
  return { mean: roundExact(sum) / count, deviation: Math.sqrt(Math.max(0, roundExact(variance))) / count };
}
