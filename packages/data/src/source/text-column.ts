/** Text out of a column, for the features that read text. */
import { invalidData, show } from '../errors.ts';
import { placeOf, type Records } from './source.ts';

/** @throws INVALID_DATA where a value is not text */
export function textColumn(records: Records, column: string): readonly string[] {
  const values = records.columns.get(column)!;
  const bad = values.findIndex((value) => typeof value !== 'string');
  if (bad < 0) return values as readonly string[];
  const found = show(values[bad]);
  throw invalidData(placeOf(records, bad, column), `found ${found}; allowed: text`, { value: found });
}
