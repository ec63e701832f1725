/** Values to rows by a vocabulary: what Keras' StringLookup and IntegerLookup do. */
import { invalidData, show } from '../errors.ts';
import { placeOf, type Records } from '../source/source.ts';
import { readNames } from '../source/values.ts';
import type { FeatureSpec, LookupSpec } from '../spec.ts';
import type { Encoder } from './feature.ts';
import { unknown } from './text.ts';
import { openVocabulary } from './vocabulary.ts';

/** @throws what `openVocabulary` does */
export function lookupEncoder({ column, table }: FeatureSpec, lookup: LookupSpec, rows: number): Encoder {
  const { row, refuse } = openVocabulary(lookup, rows, table, lookup.integers);
  const read = keyReader(column, lookup);
  return (records, i, out) => {
    for (const key of read(records, i)) {
      const id = row(key);
      if (id !== unknown) out.push(id);
      else {
        const refusal = refuse(key);
        if (refusal) throw invalidData(placeOf(records, i, column), refusal.message, refusal.details);
      }
    }
  };
}

/** The keys of a record; the array is reused. */
export function keyReader(
  column: string,
  { integers = false, separator }: Pick<LookupSpec, 'integers' | 'separator'>,
): (records: Records, i: number) => readonly string[] {
  const keys: string[] = [];
  return (records, i) => {
    readNames(records, i, column, separator, keys);
    if (!integers) return keys;
    for (let k = 0; k < keys.length; k++) {
      const key = keys[k]!;
      const value = Number(key);
      if (!/^\s*[-+]?\d/.test(key) || !Number.isSafeInteger(value)) {
        const allowed = 'integers within 2^53, one or a list';
        throw invalidData(placeOf(records, i, column), `found ${show(key)}; allowed: ${allowed}`, { value: key });
      }
      // Not -0, whose text is 0 already.
      keys[k] = String(value);
    }
    return keys;
  };
}
