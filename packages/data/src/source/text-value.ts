/** Text out of a column, for the features that read text. */
import { invalidData, show } from '../errors.ts';
import { valueOf } from './missing.ts';
import { placeOf, type Records } from './source.ts';

/** @throws INVALID_DATA where record i has no text there */
export function textOf(records: Records, i: number, column: string): string {
  const value = valueOf(records, i, column);
  if (typeof value === 'string') return value;
  const found = show(value);
  throw invalidData(placeOf(records, i, column), `found ${found}; allowed: text`, { value: found });
}
