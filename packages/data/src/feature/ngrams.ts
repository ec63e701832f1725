/**
 * Character n-grams hashed into the rows of a table, as fastText does with subwords (Bojanowski et al.: "Enriching word
 * vectors with subword information", TACL 2017), but of whole texts and without word boundary marks.
 *
 * The hash of code units c_1 .. c_k, all arithmetic modulo 2^32:
 *
 *     h = 2166136261 xor (seed * 2654435769)
 *     for each c:  h = (h xor c) * 16777619                                  FNV-1a, a 16-bit code unit at a time
 *     h ^= h >> 16;  h *= 0x85ebca6b;  h ^= h >> 13;  h *= 0xc2b2ae35;  h ^= h >> 16      MurmurHash3's finaliser
 *     row = floor(h * V / 2^32)                                              Lemire's multiply-shift
 *
 * The finaliser is there because multiply-shift reads the high bits, which the last code units hardly reach in FNV-1a.
 * With seed 0 and V = 1,000,000: "abc" is row 112445, "été" 760813, "a" 103526.
 *
 * Ids come by start position, then by length: "abcd" with 3 to 5 gives abc, abcd, bcd.
 */
import { textOf } from '../source/text-value.ts';
import type { FeatureSpec, NgramSpec } from '../spec.ts';
import type { Encoder } from './feature.ts';

export function ngramEncoder({ column }: FeatureSpec, ngrams: NgramSpec, rows: number): Encoder {
  const { min = 3, max = 5, lowercase = false, seed = 0, maxTokens = Infinity } = ngrams;
  let units = new Uint16Array(1024);

  return (records, i, out) => {
    const given = textOf(records, i, column);
    const text = lowercase ? given.toLowerCase() : given;
    if (text.length > units.length) units = new Uint16Array(Math.max(text.length, 2 * units.length));
    for (let at = 0; at < text.length; at++) units[at] = text.charCodeAt(at);
    const count = countNgrams(text.length, min, max);
    const first = out.extend(count);
    hashNgrams(units, text.length, min, max, seed, rows, out.ids, first);
    if (count > maxTokens) out.truncate(first + maxTokens);
  };
}

/** N-grams of a text of `length` code units. */
export function countNgrams(length: number, min: number, max: number): number {
  let count = 0;
  for (let n = min; n <= max && n <= length; n++) count += length - n + 1;
  return count;
}

/** Rows of the n-grams of `units[0 .. length)`, written to `out` from `at` on. */
function hashNgrams(
  units: Uint16Array,
  length: number,
  min: number,
  max: number,
  seed: number,
  rows: number,
  out: Int32Array,
  at: number,
): void {
  const basis = 0x811c9dc5 ^ Math.imul(seed, 0x9e3779b9);
  // Up to here h * rows is below 2^53, and one multiplication of doubles is exact.
  const small = rows <= 2 ** 21;
  const scale = rows / 2 ** 32;
  for (let start = 0; start + min <= length; start++) {
    let fnv = basis;
    const end = Math.min(start + max, length);
    for (let i = start; i < end; i++) {
      fnv = Math.imul(fnv ^ units[i]!, 0x01000193);
      if (i - start + 1 < min) continue;
      let h = fnv;
      h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
      h ^= h >>> 16;
      out[at++] = small ? (h >>> 0) * scale : multiplyHigh(h >>> 0, rows);
    }
  }
}

/** floor(h * rows / 2^32), exact for rows up to 2^31: in two halves, each below 2^48. */
function multiplyHigh(h: number, rows: number): number {
  const low = Math.floor(((h & 0xffff) * rows) / 2 ** 16);
  return Math.floor(((h >>> 16) * rows + low) / 2 ** 16);
}
