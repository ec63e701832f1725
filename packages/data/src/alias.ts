/** Draws from a discrete distribution in constant time: the alias method (Walker 1977), built as Vose does ("A linear algorithm …", 1991). */

/** In memory that threads share, 8 bytes an outcome. Outcome i stands for itself below `thresholds[i]` of 2^32, else for `aliases[i]`. */
export interface AliasTable {
  readonly thresholds: Uint32Array;
  readonly aliases: Uint32Array;
}

/** @param weights 0 or more, not all 0; an outcome of weight 0 is never drawn */
export function aliasTable(weights: Float64Array): AliasTable {
  const n = weights.length;
  const thresholds = new Uint32Array(new SharedArrayBuffer(4 * n));
  const aliases = new Uint32Array(new SharedArrayBuffer(4 * n));
  const scale = n / weights.reduce((sum, weight) => sum + weight, 0);
  const left = weights.map((weight) => weight * scale);
  // Those below 1 from the start of one array on, the others from its end on.
  const stack = new Uint32Array(n);
  let [low, high] = [0, n];
  for (let i = 0; i < n; i++) {
    if (left[i]! < 1) stack[low++] = i;
    else stack[--high] = i;
  }
  let largest = 0;
  for (let i = 1; i < n; i++) if (weights[i]! > weights[largest]!) largest = i;
  while (low > 0 && high < n) {
    const [small, large] = [stack[--low]!, stack[high]!];
    thresholds[small] = Math.min(2 ** 32 - 1, left[small]! * 2 ** 32);
    aliases[small] = large;
    left[large] = left[large]! + left[small]! - 1;
    if (left[large]! < 1) {
      high++;
      stack[low++] = large;
    }
  }
  // What is left is 1 but for rounding.
  const whole = (i: number): void => {
    aliases[i] = weights[i]! > 0 ? i : largest;
  };
  while (low > 0) whole(stack[--low]!);
  while (high < n) whole(stack[high++]!);
  return { thresholds, aliases };
}

/** @param place, fraction 32 random bits each */
export function drawAlias({ thresholds, aliases }: AliasTable, place: number, fraction: number): number {
  return fraction < thresholds[place]! ? place : aliases[place]!;
}
