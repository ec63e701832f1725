import fc from 'fast-check';
import { expect, test } from 'vitest';
import { classGatherers, compileLabel, nearestNames, sortClasses } from './label.ts';
import type { Gatherer } from './survey.ts';
import { recordsOf } from './testing/records.ts';

const records = (values: readonly unknown[]) => recordsOf({ intent: values }, 'json', 2);

function classesOf(values: readonly unknown[]): string[] {
  const data = { labels: { intent: { column: 'intent' } } };
  const [[, { start, add }]] = [...classGatherers(data)] as [[string, Gatherer<Set<string>>]];
  const found = start();
  add(found, records(values));
  return sortClasses(found);
}

test('strings, numbers and booleans are classes as text', () => {
  expect(classesOf(['b', 'a', 1, 2.5, true, 'b', '', '1'])).toEqual(['', '1', '2.5', 'a', 'b', 'true']);
});

test('sorted by code point', () => {
  expect(sortClasses(['😀', '\uFF5E', 'é', 'z', 'ab', 'a'])).toEqual(['a', 'ab', 'z', 'é', '\uFF5E', '😀']);
  const points = (text: string) => [...text].map((character) => character.codePointAt(0)!);
  const compare = (a: number[], b: number[]): number => {
    const i = a.findIndex((point, at) => point !== b[at]);
    return i < 0 || i >= b.length ? a.length - b.length : a[i]! - b[i]!;
  };
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ unit: fc.constantFrom('a', '\uFF5E', '😀', '😁', '\uE000') })), (names) => {
      expect(sortClasses(names)).toEqual([...names].sort((a, b) => compare(points(a), points(b))));
    }),
  );
});

test.each([null, [1], { a: 1 }])('%j is no class', (value) => {
  expect(() => classesOf(['a', value])).toThrow(
    `f, line 3, column "intent": found ${JSON.stringify(value)}; allowed: a text, a number, true or false`,
  );
});

test('indices; an unknown class names the nearest', () => {
  const classes = ['card_arrival', 'card_linking', 'exchange_rate', 'top_up'];
  const { type, read } = compileLabel({ column: 'intent', classes });
  expect(type).toBe('class');
  expect(read(records(['top_up', 'card_arrival']))).toEqual(Int32Array.of(3, 0));
  expect(() => read(records(['top_up', 'card_arival']))).toThrow(
    expect.objectContaining({
      code: 'INVALID_DATA',
      message:
        'f, line 3, column "intent": unknown class "card_arival"; the nearest of the 4 known: "card_arrival", "card_linking", "top_up"',
      details: expect.objectContaining({ file: 'f', line: 3, column: 'intent', value: 'card_arival' }),
    }),
  );
});

test('edits are counted', () => {
  expect(nearestNames('abc', ['xyz', 'ab', 'abcd12'])).toEqual(['ab', 'xyz', 'abcd12']);
});
