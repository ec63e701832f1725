/** How much each example counts. */
import { isBadValue } from './errors.ts';
import { readNumber, refuseNumber } from './source/numbers.ts';
import { placeOf, type Records } from './source/source.ts';
import type { WeightSpec } from './spec.ts';

const allowed = 'numbers of 0 or more, within the range of f32';

/** @returns `[size]`, new; it throws INVALID_DATA where there is no weight and no default */
export function compileWeight({ column, default: otherwise }: WeightSpec): (records: Records) => Float32Array {
  const read = (records: Records, i: number): number => {
    const weight = readNumber(records, i, column, allowed);
    if (weight >= 0) return weight;
    throw refuseNumber(placeOf(records, i, column), weight, allowed);
  };
  const readOr = (records: Records, i: number): number => {
    try {
      return read(records, i);
    } catch (error) {
      if (otherwise === undefined || !isBadValue(error)) throw error;
      return otherwise;
    }
  };
  return (records) => Float32Array.from(records.lines, (_, i) => readOr(records, i));
}
