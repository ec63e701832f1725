import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatJson, JsonNumber, parseJson, type JsonValue } from './json.ts';

function plain(value: JsonValue): unknown {
  if (value instanceof JsonNumber) return value.value;
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item as JsonValue)]));
  return value;
}

test('reads what JSON.parse reads', () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      // fc.json writes -0 as 0, so that equality is enough.
      expect(plain(parseJson(text, 'x'))).toEqual(JSON.parse(text));
    }),
  );
});

test('accepts and refuses the same texts as JSON.parse, but for keys that come twice', () => {
  const pieces = [
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"a"',
    '"b\\u0041"',
    '1',
    '-',
    '.5',
    'e3',
    '01',
    'true',
    'nul',
    ' ',
    '\n',
    '"\\x"',
    '\t',
  ];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 12 }), (parts) => {
      const text = parts.join('');
      let expected = true;
      try {
        JSON.parse(text);
      } catch {
        expected = false;
      }
      let message = '';
      try {
        parseJson(text, 'x');
      } catch (error) {
        message = (error as Error).message;
      }
      if (!message.includes('comes twice')) expect(message === '').toBe(expected);
    }),
    { numRuns: 3000 },
  );
});

test.each([
  ['{"a":1,"a":1}', /the key "a" comes twice/],
  ['{"a":"x","\\u0061":"x"}', /the key "a" comes twice/],
  ['{"a":1} x', /found "x" after the end of the JSON at character 8/],
  ['"a\nb"', /control character/],
  ['"abc', /closing quote/],
  ['"abc\\', /closing quote/],
  ['"\\ud800"', /lone surrogate/],
  ['['.repeat(33) + ']'.repeat(33), /nesting too deep \(allowed: 32\)/],
  ['['.repeat(1_000_000), /nesting too deep/],
  ['1'.repeat(401), /a number of 401 characters/],
  ['', /expected a value, found the end/],
])('refuses %.40s', (text, message) => {
  expect(() => parseJson(text, 'file.json')).toThrow(message);
});

test('integers are exact; every other number keeps its text', () => {
  expect(parseJson('[0, 9007199254740991, -3]', 'x')).toEqual([0, 9007199254740991, -3]);
  const others = ['2.0', '4e0', '9007199254740993', '-0', '0.1'];
  expect(parseJson(`[${others.join(',')}]`, 'x')).toEqual(others.map((text) => new JsonNumber(text)));
});

test('__proto__ is a key like any other', () => {
  const value = parseJson('{"__proto__": {"polluted": true}}', 'x') as Map<string, JsonValue>;
  expect([...value.keys()]).toEqual(['__proto__']);
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
});

test('more values than any real file has are refused', () => {
  expect(() => parseJson(`[${'0,'.repeat(4_000_000)}0]`, 'x')).toThrow(/more than 4000000 values/);
});

test('formats as JSON.stringify does, but keeps the order of a Map', () => {
  const value = { b: [], a: [1, { c: null }], d: {}, e: 'ü"' };
  expect(formatJson(value)).toBe(`${JSON.stringify(value, null, 2)}\n`);
  expect(formatJson(new Map([['x.0', 1], ['0', 2]]))).toBe('{\n  "x.0": 1,\n  "0": 2\n}\n'); // prettier-ignore
});
