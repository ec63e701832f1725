/** JSON Lines: one JSON object a line, whose members are the columns. */
import { invalidData, show } from '../../errors.ts';
import type { Row } from '../../spec.ts';
import { Missing } from '../missing.ts';
import type { RecordParser } from './reader.ts';

export function jsonlParser(file: string, wanted: readonly string[]): RecordParser {
  return (text, line, out) => {
    const record = parseJsonRow(text, file, line);
    for (let c = 0; c < wanted.length; c++) out[c]!.push(columnOf(record, wanted[c]!));
  };
}

/** A member of a record, or that there is none. */
export function columnOf(record: Row, column: string): unknown {
  // An inherited member, such as `constructor`, is not a column.
  return Object.hasOwn(record, column) ? record[column] : new Missing(record);
}

/** @throws INVALID_DATA naming `file` and `line` */
function parseJsonRow(text: string, file: string, line: number): Row {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalidData({ file, line }, `not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidData({ file, line }, `found ${show(value)}; allowed: a JSON object, such as {"text": "..."}`);
  }
  return value as Row;
}
