/** Text out of a column, for the features that read text. */
import { invalidData, show } from './errors.ts';
import type { Records } from './source.ts';

/** @throws INVALID_DATA where a value is not text */
export function textColumn(records: Records, column: string): readonly string[] {
  const values = records.columns.get(column)!;
  const bad = values.findIndex((value) => typeof value !== 'string');
  if (bad < 0) return values as readonly string[];
  throw invalidData(
    { file: records.file, line: records.lines[bad]!, column },
    `found ${show(values[bad])}; allowed: text`,
    {
      value: show(values[bad]),
    },
  );
}
