import { expect, test } from 'vitest';
import { alignRows, formatCount, formatDuration, formatMetrics, formatNumber } from './format.ts';

test('numbers have three digits, and exponents only where they must', () => {
  const texts = [0, 0.000012345, 0.0123456, 1.23456, 12.3456, 999.6, 123456, 1.5e6, -0.5, NaN, Infinity].map(
    formatNumber,
  );
  expect(texts).toEqual([
    '0',
    '1.23e-5',
    '0.0123',
    '1.23',
    '12.3',
    '1000',
    '123456',
    '1.50e+6',
    '-0.5',
    'NaN',
    'Infinity',
  ]);
});

test('durations grow from seconds to hours', () => {
  expect([0, 4.24, 9.99, 10, 59.6, 83, 3600, 7509].map(formatDuration)).toEqual([
    '0.0 s', '4.2 s', '10.0 s', '0:10', '1:00', '1:23', '1:00:00', '2:05:09',
  ]); // prettier-ignore
});

test('counts have separators', () => expect(formatCount(1234567.4)).toBe('1,234,567'));

test('metrics are a list', () =>
  expect(formatMetrics({ loss: 1.2345, accuracy: 0.5 })).toBe('loss 1.23, accuracy 0.5'));

test('cells line up, the last without padding', () => {
  expect(alignRows([['a', 'bb', 'c'], ['aaa', 'b', 'cc']], '  ')).toBe('  a    bb  c\n  aaa  b   cc\n'); // prettier-ignore
  expect(alignRows([])).toBe('');
});
