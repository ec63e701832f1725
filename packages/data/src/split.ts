/** Which part of a source an example is in: by a hash of its key, so that it never changes sides; or by its time. */
import { invalidData } from './errors.ts';
import { valueOf } from './source/missing.ts';
import { placeOf, type Records } from './source/source.ts';
import { readTime, timeOf } from './source/times.ts';
import { exactNumbers, isExact } from './source/values.ts';
import type { FractionSplit, LeaveOutSplit, SplitSpec, TimeSplit } from './spec.ts';
import { hashText } from './xxhash64.ts';

/** What rows alone tell: which interaction of a user is its last one they do not. */
export type RowSplit = Exclude<SplitSpec, LeaveOutSplit>;

export function splitColumns(split: RowSplit): string[] {
  if (split.time) return [split.time.column];
  return split.key === undefined ? [] : [split.key];
}

/** For each example whether it is in the split. @param first number of the first, of a split by place */
export function inSplit(split: RowSplit, first: number, records: Records): boolean[] {
  return split.time ? inTime(split, records) : inFraction(split, first, records);
}

function inFraction(split: FractionSplit, first: number, records: Records): boolean[] {
  const { key, part, others = false } = split;
  return Array.from(records.lines, (_, i) => {
    const text = key === undefined ? String(first + i) : keyText(records, i, key);
    return (partOf(text, split) === part) !== others;
  });
}

function inTime({ time: { column, from, to } }: TimeSplit, records: Records): boolean[] {
  const [low, high] = [from, to].map((bound) => (bound === undefined ? null : timeOf(bound)));
  const kind = (low ?? high)!.kind;
  return Array.from(records.lines, (_, i) => {
    const { value } = readTime(records, i, column, kind);
    return (!low || value >= low.value) && (!high || value < high.value);
  });
}

/** @throws INVALID_DATA for a number that is not exact: two keys would be one */
function keyText(records: Records, i: number, key: string): string {
  const exact = (_: string, value: unknown): unknown => {
    if (typeof value === 'bigint') return String(value);
    if (typeof value !== 'number' || isExact(value)) return value;
    throw invalidData(placeOf(records, i, key), `found ${value}; allowed: ${exactNumbers}`, { value: String(value) });
  };
  const value = exact('', valueOf(records, i, key));
  return typeof value === 'object' ? JSON.stringify(value, exact) : String(value);
}

const hash = { high: 0, low: 0 };

/** The part of a key: the hash, as a fraction of all hashes, falls into its share. */
export function partOf(key: string, { parts, seed = 0 }: FractionSplit): number {
  const total = parts.reduce((sum, size) => sum + size, 0);
  hashText(key, seed, hash);
  let place = (hash.high / 2 ** 32 + hash.low / 2 ** 64) * total;
  for (let i = 0; i < parts.length; i++) {
    place -= parts[i]!;
    if (place < 0) return i;
  }
  return parts.length - 1;
}
