/** Which part of a source an example is in: by a hash of its key, so that it never changes sides. */
import { hashNgrams } from './ngrams.ts';
import type { Records } from './source/source.ts';
import type { SplitSpec } from './spec.ts';

/** For each example whether it is in the split. @param first number of the first, of a split without a key */
export function inSplit(split: SplitSpec, first: number, records: Records): boolean[] {
  const { key, part, others = false } = split;
  const values = key === undefined ? null : records.columns.get(key)!;
  return Array.from(records.lines, (_, i) => {
    const text = values ? keyText(values[i]) : String(first + i);
    return (partOf(text, split) === part) !== others;
  });
}

function keyText(value: unknown): string {
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** The part of a key: the hash, as a fraction of all hashes, falls into its share. */
export function partOf(key: string, { parts, seed = 0 }: SplitSpec): number {
  const total = parts.reduce((sum, size) => sum + size, 0);
  let place = hashText(key, seed) * total;
  for (let i = 0; i < parts.length; i++) {
    place -= parts[i]!;
    if (place < 0) return i;
  }
  return parts.length - 1;
}

const hash = new Int32Array(1);

/** In [0, 1). */
function hashText(text: string, seed: number): number {
  const units = Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
  hash[0] = 0;
  hashNgrams(units, units.length, units.length, units.length, seed, 2 ** 31 - 1, hash, 0);
  return hash[0] / (2 ** 31 - 1);
}
