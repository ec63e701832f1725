/**
 * CSV records as RFC 4180 has them: fields between commas; a field in double quotes may hold commas, line breaks and
 * doubled quotes. Stricter than many readers: a quote inside a bare field, or text after a closing quote, is an error
 * rather than a guess, because a guess shifts every later field.
 */
import { FinetableError } from '@finetable/core';
import { invalidData, show, showNames } from '../../errors.ts';
import type { RecordParser } from './reader.ts';

/**
 * The fields of one record, without its line end.
 * @throws INVALID_DATA naming `file` and `line`
 */
export function parseCsvRecord(text: string, file: string, line: number, delimiter = ','): string[] {
  const separator = delimiter.charCodeAt(0);
  const fields: string[] = [];
  for (let i = 0; ; i++) {
    let end: number;
    if (text.charCodeAt(i) === 34) {
      let escaped = false;
      end = text.indexOf('"', i + 1);
      while (end >= 0 && text.charCodeAt(end + 1) === 34) {
        escaped = true;
        end = text.indexOf('"', end + 2);
      }
      if (end < 0) throw invalidData({ file, line }, `field ${fields.length + 1}: a quote is opened and never closed`);
      const field = text.slice(i + 1, end++);
      fields.push(escaped ? field.replaceAll('""', '"') : field);
      if (end < text.length && text.charCodeAt(end) !== separator) {
        throw invalidData(
          { file, line },
          `field ${fields.length}: text after the closing quote; allowed: ${delimiter === ',' ? 'a comma' : show(delimiter)} or the line's end (write a quote inside quotes twice)`,
        );
      }
    } else {
      end = text.indexOf(delimiter, i);
      if (end < 0) end = text.length;
      const field = text.slice(i, end);
      fields.push(field);
      if (field.includes('"')) {
        throw invalidData(
          { file, line },
          `field ${fields.length}: a quote inside a field without quotes; put the field in quotes and write the quote twice`,
        );
      }
    }
    if (end >= text.length) return fields;
    i = end;
  }
}

/** Column names. */
export function parseCsvHeader(text: string, file: string, line: number, delimiter: string): string[] {
  const columns = parseCsvRecord(text, file, line, delimiter);
  const twice = columns.find((name, i) => columns.indexOf(name) < i);
  if (twice !== undefined) {
    throw invalidData({ file, line, column: twice }, `the header names this column twice`);
  }
  return columns;
}

export function csvParser(
  file: string,
  header: readonly string[],
  delimiter: string,
  wanted: readonly string[],
): RecordParser {
  const positions = wanted.map((column) => {
    const position = header.indexOf(column);
    if (position < 0) throw missingColumn(file, column, header);
    return position;
  });
  return (text, line, out) => {
    const fields = parseCsvFields(text, file, line, header, delimiter);
    for (let c = 0; c < positions.length; c++) out[c]!.push(fields[positions[c]!]);
  };
}

function parseCsvFields(
  text: string,
  file: string,
  line: number,
  header: readonly string[],
  delimiter: string,
): string[] {
  const fields = parseCsvRecord(text, file, line, delimiter);
  if (fields.length === header.length) return fields;
  throw invalidData(
    { file, line },
    `found ${fields.length} fields; allowed: ${header.length}, as in the header (${showNames(header)})`,
  );
}

function missingColumn(file: string, column: string, header: readonly string[]): FinetableError {
  return new FinetableError(
    'INVALID_DATA',
    `${file}, header: no column ${JSON.stringify(column)}; the columns there are: ${showNames(header)}`,
    { file, line: 1, column, columns: header },
  );
}
