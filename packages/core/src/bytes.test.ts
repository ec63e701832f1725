import { describe, expect, it } from 'vitest';
import { formatBytes, parseBytes } from './bytes.ts';

describe('parseBytes', () => {
  it.each([
    [0, 0],
    [12345, 12345],
    ['17', 17],
    ['1B', 1],
    ['2 KB', 2000],
    ['1.005KB', 1005],
    ['1.5 KiB', 1536],
    ['500 MB', 5e8],
    ['8GiB', 8 * 2 ** 30],
    [' 3TiB ', 3 * 2 ** 40],
  ])('reads %j', (text, bytes) => expect(parseBytes(text, 'memory')).toBe(bytes));

  it('reads shares where there is a total', () => {
    expect(parseBytes('75%', 'memory', 1001)).toBe(750);
    expect(parseBytes('0.5 %', 'memory', 1000)).toBe(5);
    expect(parseBytes('100%', 'memory', 7)).toBe(7);
  });

  it.each(['', 'GiB', '8 gib', '-1', '1e3', '8 GiBs', '1,5GB', '99999999 TB', -1, 0.5, NaN, Infinity, '50%'])(
    'refuses %j',
    (value) => {
      const error = expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        details: { path: 'job.memory', found: String(value) },
      });
      expect(() => parseBytes(value, 'job.memory')).toThrow(error);
      expect(() => parseBytes(value, 'job.memory')).toThrow(
        `job.memory: ${typeof value === 'string' ? `"${value}"` : value} is not a size`,
      );
    },
  );

  it('refuses more than all', () => expect(() => parseBytes('101%', 'memory', 10)).toThrow(/or a share such as "75%"/));
});

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [12_345_678, '11.8 MiB'],
    [2 ** 40, '1 TiB'],
    [5000 * 2 ** 40, '5000 TiB'],
  ])('writes %d', (bytes, text) => expect(formatBytes(bytes)).toBe(text));
});
