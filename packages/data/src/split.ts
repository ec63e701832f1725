/** Which part of a source an example is in: by a hash of its key, so that it never changes sides. */
import { valueOf } from './source/missing.ts';
import type { Records } from './source/source.ts';
import type { SplitSpec } from './spec.ts';
import { hashText } from './xxhash64.ts';

/** For each example whether it is in the split. @param first number of the first, of a split without a key */
export function inSplit(split: SplitSpec, first: number, records: Records): boolean[] {
  const { key, part, others = false } = split;
  return Array.from(records.lines, (_, i) => {
    const text = key === undefined ? String(first + i) : keyText(valueOf(records, i, key));
    return (partOf(text, split) === part) !== others;
  });
}

function keyText(value: unknown): string {
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

const hash = { high: 0, low: 0 };

/** The part of a key: the hash, as a fraction of all hashes, falls into its share. */
export function partOf(key: string, { parts, seed = 0 }: SplitSpec): number {
  const total = parts.reduce((sum, size) => sum + size, 0);
  hashText(key, seed, hash);
  let place = (hash.high / 2 ** 32 + hash.low / 2 ** 64) * total;
  for (let i = 0; i < parts.length; i++) {
    place -= parts[i]!;
    if (place < 0) return i;
  }
  return parts.length - 1;
}
