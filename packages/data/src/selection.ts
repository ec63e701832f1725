/** Some of the examples of a source: one bit each, in memory that threads share, and how many come before. */
import { upperBound } from '@finetable/core';

const groupBits = 10;
const groupSize = 1 << groupBits;

export interface Selection {
  readonly count: number;
  /** Bit i % 32 of word i / 32: example i is selected. */
  readonly bits: Uint32Array;
  /** `[groups + 1]`: selected examples before each group of 1024. */
  readonly before: Float64Array;
}

/** All examples, or all of a selection, but these. */
export function selectionOf(examples: number, excluded: Iterable<number>, within: Selection | null = null): Selection {
  const words = Math.ceil(examples / 32);
  const bits = new Uint32Array(new SharedArrayBuffer(4 * words)).fill(0xffffffff);
  if (examples % 32 !== 0) bits[words - 1] = 2 ** (examples % 32) - 1;
  if (within) bits.set(within.bits);
  for (const row of excluded) bits[row >>> 5]! &= ~(1 << (row & 31));
  const groups = Math.ceil(examples / groupSize);
  const before = new Float64Array(new SharedArrayBuffer(8 * (groups + 1)));
  for (let group = 0; group < groups; group++) {
    let count = 0;
    for (let word = group * 32; word < Math.min((group + 1) * 32, words); word++) count += ones(bits[word]!);
    before[group + 1] = before[group]! + count;
  }
  return { count: before[groups]!, bits, before };
}

/** Selected examples before example `row`. */
export function rankOf({ bits, before }: Selection, row: number): number {
  const group = Math.floor(row / groupSize);
  let rank = before[group]!;
  const word = row >>> 5;
  for (let i = group * 32; i < word; i++) rank += ones(bits[i]!);
  return row % 32 === 0 ? rank : rank + ones(bits[word]! & (2 ** (row & 31) - 1));
}

/** Turns places among the selected examples, `[0, count)`, into numbers of examples. */
export function selectRows({ bits, before }: Selection, places: Uint32Array): void {
  let group = 0;
  for (let i = 0; i < places.length; i++) {
    const place = places[i]!;
    if (before[group]! > place || before[group + 1]! <= place) group = upperBound(before, place) - 1;
    let left = place - before[group]!;
    let word = group * 32;
    for (let count = ones(bits[word]!); count <= left; count = ones(bits[++word]!)) left -= count;
    let value = bits[word]!;
    for (; left > 0; left--) value &= value - 1;
    places[i] = word * 32 + (31 - Math.clz32(value & -value));
  }
}

function ones(word: number): number {
  word -= (word >>> 1) & 0x55555555;
  word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
  return Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
