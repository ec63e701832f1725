import { parse } from 'csv-parse/sync';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { csvParser, parseCsvHeader, parseCsvRecord } from './csv.ts';

const quoted = (field: string): string => `"${field.replaceAll('"', '""')}"`;
const field = fc.string({ unit: fc.constantFrom('a', 'é', '😀', '"', ',', '\n', '\r\n', ' ', '\0') });

test('fields are what was written, and what csv-parse reads', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(field, fc.boolean()), { minLength: 1, maxLength: 6 }), (fields) => {
      const texts = fields.map(([text, quote]) => (quote || /[",\r\n]/.test(text) ? quoted(text) : text));
      fc.pre(texts.join(',') !== '');
      const expected = fields.map(([text]) => text);
      expect(parseCsvRecord(texts.join(','), 'f', 1)).toEqual(expected);
      expect(parse(texts.join(','))).toEqual([expected]);
    }),
    { numRuns: 200 },
  );
});

test('empty fields, also the last', () => {
  expect(parseCsvRecord(',', 'f', 1)).toEqual(['', '']);
  expect(parseCsvRecord('a,"",', 'f', 1)).toEqual(['a', '', '']);
  expect(parseCsvRecord('""', 'f', 1)).toEqual(['']);
});

test.each([
  [
    '5" pipe,x',
    'f, line 7: field 1: a quote inside a field without quotes; put the field in quotes and write the quote twice',
  ],
  ['x,"a', 'f, line 7: field 2: a quote is opened and never closed'],
  [
    '"a"b,c',
    "f, line 7: field 1: text after the closing quote; allowed: a comma or the line's end (write a quote inside quotes twice)",
  ],
])('%s is refused', (text, message) => {
  expect(() => parseCsvRecord(text, 'f', 7)).toThrow(
    expect.objectContaining({ code: 'INVALID_DATA', message, details: { file: 'f', line: 7 } }),
  );
});

test('a ragged record names the header', () => {
  const read = csvParser('f', ['a', 'b'], ',', ['b']);
  const out: unknown[][] = [[]];
  read('1,2', 2, out);
  expect(out).toEqual([['2']]);
  expect(() => read('1,2,3', 3, out)).toThrow('f, line 3: found 3 fields; allowed: 2, as in the header ("a", "b")');
});

test('a header needs the wanted columns, each once', () => {
  expect(() => csvParser('f', ['a', 'b'], ',', ['c'])).toThrow(
    'f, header: no column "c"; the columns there are: "a", "b"',
  );
  expect(() => parseCsvHeader('a,b,a', 'f', 1, ',')).toThrow(
    'f, line 1, column "a": the header names this column twice',
  );
});
