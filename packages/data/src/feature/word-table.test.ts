import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WordTable } from './word-table.ts';

const word = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '漢', '😀', '\uD800', '\0'), maxLength: 4 });

test('is as a Map, also of words that come twice', () => {
  fc.assert(
    fc.property(fc.array(word, { maxLength: 200 }), fc.array(word), (words, others) => {
      const table = new WordTable(words, (i) => 3 * i);
      const map = new Map(words.map((each, i) => [each, 3 * i]));
      for (const each of [...words, ...others]) expect(table.row(each)).toBe(map.get(each) ?? -1);
    }),
  );
});

test('of very many', () => {
  const words = Array.from({ length: 100_000 }, (_, i) => `word${i}`);
  const table = new WordTable(words, (i) => i);
  expect(words.every((each, i) => table.row(each) === i)).toBe(true);
  expect(Array.from({ length: 1000 }, (_, i) => table.row(`word${100_000 + i}`))).toEqual(Array(1000).fill(-1));
  expect(new WordTable([], () => 0).row('')).toBe(-1);
});
