import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RowSet, type RowSelection } from './row-set.ts';

const V = 40;
const rowsOf = (set: RowSet): number[] => Array.from({ length: V }, (_, row) => row).filter((row) => set.has(row));
const lists = fc.uniqueArray(fc.nat(V - 1), { minLength: 1, maxLength: V, size: 'max' });

test('a list, a range and a set name the same rows', () => {
  expect([...RowSet.of({ from: 3, to: 6 }, V, 'x').bounds]).toEqual([3, 6]);
  expect([...RowSet.of([5, 3, 4], V, 'x').bounds]).toEqual([3, 6]);
  expect([...RowSet.of(Int32Array.of(9, 1, 2), V, 'x').bounds]).toEqual([1, 3, 9, 10]);
  expect([...RowSet.of({ from: 38 }, V, 'x').bounds]).toEqual([38, 40]);
  const set = RowSet.of([1, 7], V, 'x');
  expect(RowSet.of(set, V, 'x')).toBe(set);
});

test('membership, difference and indices are those of sets of numbers', () => {
  fc.assert(
    fc.property(lists, lists, lists, (a, b, asked) => {
      const [x, y] = [RowSet.of(a, V, 'a'), RowSet.of(b, V, 'b')];
      expect(rowsOf(x)).toEqual([...a].sort((p, q) => p - q));
      expect(x.count).toBe(a.length);
      const difference = x.without(y);
      expect(rowsOf(difference)).toEqual(rowsOf(x).filter((row) => !b.includes(row)));
      expect(rowsOf(x.and(y))).toEqual(rowsOf(x).filter((row) => b.includes(row)));
      expect(difference.count).toBe(rowsOf(difference).length);
      const rows = Int32Array.from(asked).sort();
      const indices = x.indicesOf(rows);
      const expected = [...rows.keys()].filter((i) => a.includes(rows[i]!));
      if (indices === null) expect(expected).toHaveLength(rows.length);
      else expect([...indices]).toEqual(expected);
    }),
  );
});

test.each<[RowSelection, RegExp]>([
  [[], /x: found no rows; allowed: integers from 0 to 39/],
  [[1, 2, 1], /x: found row 1 twice/],
  [[40], /x: found row 40/],
  [[1.5], /x: found row 1.5/],
  [{ from: 4, to: 4 }, /x: found \{ from: 4, to: 4 \}/],
  [{ to: 41 }, /found \{ from: 0, to: 41 \}/],
  [{ from: -1 }, /found \{ from: -1/],
  [new RowSet(Int32Array.of(39, 41)), /found row 40/],
])('refuses %j', (selection, message) => {
  expect(() => RowSet.of(selection, V, 'x')).toThrow(message);
});
