/** The least-significant-digit radix sort behind lookup plans: stable, and linear in the number of places. */

const largestDigitBits = 11;

/**
 * Sorts (row, place) by row, then place. Counters and both halves of the sort lie in one array, `work`, and row and place
 * side by side in it: V8 keeps one array's address and bounds in registers where it would spill three, and a scattered
 * write touches one cache line. The pairs begin at `pairs`; the `2n` numbers from `free` on are for the caller to use, all until the
 * next sort on this thread.
 */
export function sortByRow(values: Int32Array, tableRows: number): { work: Int32Array; pairs: number; free: number } {
  const n = values.length;
  const rowBits = 32 - Math.clz32(tableRows - 1);
  const passes = Math.max(1, Math.ceil(rowBits / largestDigitBits));
  const digitBits = Math.ceil(rowBits / passes);
  const mask = (1 << digitBits) - 1;
  const work = scratch(mask + 1 + 4 * n);
  let free = mask + 1;
  let pairs = free + 2 * n;
  countDigit(values, 0, mask, work, pairs);
  for (let place = 0; place < n; place++) {
    const row = values[place]!;
    const to = work[row & mask]!;
    work[row & mask] = to + 2;
    work[to] = row;
    work[to + 1] = place;
  }
  for (let shift = digitBits; shift < rowBits; shift += digitBits) {
    if (countDigit(values, shift, mask, work, free)) continue;
    const end = pairs + 2 * n;
    for (let from = pairs; from < end; from += 2) {
      const row = work[from]!;
      const digit = (row >>> shift) & mask;
      const to = work[digit]!;
      work[digit] = to + 2;
      work[to] = row;
      work[to + 1] = work[from + 1]!;
    }
    [pairs, free] = [free, pairs];
  }
  return { work, pairs, free };
}

/** Kept from sort to sort: fresh memory has to be zeroed page by page, which took a tenth of a plan's time. */
let kept = new Int32Array(0);
/** 16 MiB; larger ones, of unusually large batches, are not kept. */
const mostKept = 1 << 22;

function scratch(length: number): Int32Array<ArrayBuffer> {
  if (length <= kept.length) return kept;
  if (length > mostKept) return new Int32Array(length);
  kept = new Int32Array(Math.min(mostKept, 2 * length));
  return kept;
}

/** `work[d]`: where the first pair of digit d goes. True where every row has the same digit: their order stands as it is. */
function countDigit(values: Int32Array, shift: number, mask: number, work: Int32Array, begin: number): boolean {
  work.fill(0, 0, mask + 1);
  for (let i = 0; i < values.length; i++) work[(values[i]! >>> shift) & mask]!++;
  let next = begin;
  for (let d = 0; d <= mask; d++) {
    const count = work[d]!;
    if (shift > 0 && count === values.length) return true;
    work[d] = next;
    next += 2 * count;
  }
  return false;
}
