import { describe, expect, test } from 'vitest';
import type { FeatureSpec } from '../spec.ts';
import { recordsOf } from '../testing/records.ts';
import { compileFeature } from './feature.ts';

function extract(
  values: 'json' | 'text',
  ids: readonly unknown[],
  weights?: readonly unknown[],
  more: Partial<FeatureSpec> = {},
) {
  const spec = { table: 'items', column: 'ids', ...(weights && { weights: 'w' }), ...more };
  return compileFeature(spec, 100, 'f').extract(recordsOf({ ids, ...(weights && { w: weights }) }, values, 10));
}

test('an integer or a list, as JSON and as text', () => {
  const expected = { values: Int32Array.of(12, 3, 17, 5), offsets: Int32Array.of(0, 1, 4, 4) };
  expect(extract('json', [12, [3, 17, 5], []])).toEqual(expected);
  expect(extract('text', ['12', '3 17  5', ''])).toEqual(expected);
  expect(extract('text', [' 12 ', '[3, 17,5]', '[]'])).toEqual(expected);
  expect(extract('json', [1.2e1, [3.0, 17, 5], []])).toEqual(expected);
});

test('weights, one per id', () => {
  const expected = {
    values: Int32Array.of(1, 2, 3),
    offsets: Int32Array.of(0, 2, 3),
    weights: Float32Array.of(0.5, -2, 1e3),
  };
  expect(extract('json', [[1, 2], 3], [[0.5, -2], 1000])).toEqual(expected);
  expect(extract('text', ['1 2', '3'], ['0.5 -2', '1e3'])).toEqual(expected);
});

describe('refused, with file, line, column, value and what is allowed', () => {
  test.each([
    ['json', 3.7, '3.7', 'integers from 0 to 99'],
    ['json', -1, '-1', 'integers from 0 to 99'],
    ['json', Infinity, 'Infinity', 'integers from 0 to 99'],
    ['json', '3x', '"3x"', 'integers from 0 to 99, one or a list'],
    ['json', '3', '"3"', 'integers from 0 to 99, one or a list'],
    ['json', null, 'null', 'integers from 0 to 99, one or a list'],
    ['json', true, 'true', 'integers from 0 to 99, one or a list'],
    ['json', { a: 1 }, '{"a":1}', 'integers from 0 to 99, one or a list'],
    ['json', [1, null], 'null', 'integers from 0 to 99'],
    ['json', [1, [2]], '[2]', 'integers from 0 to 99'],
    ['text', '3x', '"3x"', 'integers from 0 to 99, one or a list such as 3 17 5 or [3,17,5]'],
    ['text', '1,2', '"1,2"', 'integers from 0 to 99, one or a list such as 3 17 5 or [3,17,5]'],
    ['text', 'NaN', '"NaN"', 'integers from 0 to 99, one or a list such as 3 17 5 or [3,17,5]'],
    ['text', '0x10', '"0x10"', 'integers from 0 to 99, one or a list such as 3 17 5 or [3,17,5]'],
    ['text', '[1', '"[1"', 'integers from 0 to 99, one or a list such as 3 17 5 or [3,17,5]'],
    ['text', '3.7', '3.7', 'integers from 0 to 99'],
    ['text', '-1', '-1', 'integers from 0 to 99'],
  ] as const)('%s %j', (values, value, found, allowed) => {
    expect(() => extract(values, [values === 'json' ? 1 : '1', value])).toThrow(
      expect.objectContaining({
        code: 'INVALID_DATA',
        message: `f, line 11, column "ids": found ${found}; allowed: ${allowed}`,
        details: expect.objectContaining({ file: 'f', line: 11, column: 'ids' }),
      }),
    );
  });

  test.each([100, 1e15])('an id beyond the table: %d', (id) => {
    expect(() => extract('json', [[0, id]])).toThrow(
      expect.objectContaining({
        code: 'ID_OUT_OF_RANGE',
        message: `f, line 10, column "ids": id ${id}; allowed: 0 to 99, as table "items" has 100 rows`,
        details: { file: 'f', line: 10, column: 'ids', id, rows: 100, table: 'items' },
      }),
    );
  });

  test.each([
    [[1], 'found 1 weights; allowed: 2, one per id in "ids"'],
    [[1, 'a'], 'found "a"; allowed: numbers'],
    [[1, 1e39], 'found 1e+39; allowed: numbers within the range of f32'],
    [[1, -1], 'the weights add up to 0, and mean pooling divides by their sum'],
  ])('weights %j', (weights, message) => {
    expect(() => extract('json', [[1, 2]], [weights])).toThrow(`f, line 10, column "w": ${message}`);
  });

  test('weights that add up to 0 are fine where nothing divides by their sum', () => {
    expect(extract('json', [[1, 2]], [[1, -1]], { pooling: 'sum' }).weights).toEqual(Float32Array.of(1, -1));
    expect(extract('json', [[1, 2]], [[1, -1]], { pooling: 'sqrtn' }).weights).toEqual(Float32Array.of(1, -1));
  });
});
