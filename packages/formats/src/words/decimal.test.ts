import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseDecimal } from './decimal.ts';

const parse = (text: string): number => {
  const bytes = Buffer.from(`99${text}99`, 'latin1'); // digits around it must not be read
  return parseDecimal(bytes, 2, bytes.length - 2);
};

test('the same f64 as Number', () => {
  const digits = fc.stringMatching(/^[-+]?(\d{1,25}(\.\d{0,25})?|\.\d{1,25})([eE][-+]?\d{1,3})?$/);
  fc.assert(
    fc.property(fc.oneof(digits, fc.double({ noNaN: true, noDefaultInfinity: true }).map(String)), (text) => {
      const expected = Number(text);
      expect(parse(text)).toBe(Number.isFinite(expected) ? expected : NaN);
    }),
    { numRuns: 5000 },
  );
});

test.each([
  '',
  '-',
  '.',
  '+.',
  'e5',
  '1e',
  '1e+',
  '1.2.3',
  '1 2',
  '0x10',
  'nan',
  'inf',
  'Infinity',
  '1,5',
  '1e999999999',
  '--1',
  '1e5x',
  '9'.repeat(400),
])('%s is not a number', (text) => {
  expect(parse(text)).toBeNaN();
});

test('the sign of zero is kept', () => {
  expect(parse('-0.0')).toBe(-0);
});
