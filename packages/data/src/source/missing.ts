/** Values of records, and that a record has none: whether that is an error is for those to say who want it. */
import { invalidData, showNames } from '../errors.ts';
import type { Row } from '../spec.ts';
import { placeOf, type Records } from './source.ts';

/** In the place of a value. */
export class Missing {
  readonly record: Row;

  constructor(record: Row) {
    this.record = record;
  }
}

/** @throws INVALID_DATA where record i lacks the column */
export function valueOf(records: Records, i: number, column: string): unknown {
  const value = records.columns.get(column)![i];
  if (value instanceof Missing) throw missing(records, i, column, value);
  return value;
}

/** @throws INVALID_DATA for the first record that lacks one of these columns */
export function checkColumns(records: Records, columns: readonly string[]): void {
  for (let i = 0; i < records.lines.length; i++) for (const column of columns) valueOf(records, i, column);
}

function missing(records: Records, i: number, column: string, { record }: Missing): Error {
  const columns = Object.keys(record);
  const message = `no such column; the columns there are: ${showNames(columns)}`;
  return invalidData(placeOf(records, i, column), message, { columns });
}
