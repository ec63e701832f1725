import { describe, expect, it } from 'vitest';
import { matrix, rowsOf, Scratch } from './matrix.ts';

const bad = expect.objectContaining({ code: 'INVALID_ARGUMENT' });

describe('matrix', () => {
  it('holds given values without a copy, or zeros', () => {
    const data = Float32Array.of(1, 2, 3, 4, 5, 6);
    expect(matrix(2, 3, data)).toEqual({ data, rows: 2, cols: 3 });
    expect(matrix(2, 3, data).data).toBe(data);
    expect(matrix(2, 2)).toEqual({ data: new Float32Array(4), rows: 2, cols: 2 });
    expect(matrix(0, 5).data.length).toBe(0);
  });

  it('refuses other lengths and shapes that are none', () => {
    expect(() => matrix(2, 3, new Float32Array(5))).toThrow('a [2, 3] matrix needs 6 values, found 5');
    for (const rows of [-1, 0.5, NaN, Infinity]) {
      expect(() => matrix(rows, 2)).toThrow(bad);
      expect(() => matrix(2, rows)).toThrow(bad);
    }
    expect(() => matrix(-2, -3, new Float32Array(6))).toThrow(bad);
  });
});

describe('rowsOf', () => {
  const m = matrix(4, 2, Float32Array.of(0, 0, 1, 1, 2, 2, 3, 3));

  it('is a view of those rows', () => {
    const rows = rowsOf(m, 1, 2);
    expect(rows).toEqual(matrix(2, 2, Float32Array.of(1, 1, 2, 2)));
    expect(rows.data.buffer).toBe(m.data.buffer);
    expect(rowsOf(m, 4, 0).data.length).toBe(0);
  });

  it.each([
    [-1, 1],
    [0, 5],
    [3, 2],
    [2, -1],
    [0.5, 1],
    [0, 1.5],
    [NaN, 1],
  ])('refuses rows from %d, %d of them', (first, count) => {
    expect(() => rowsOf(m, first, count)).toThrow(bad);
  });
});

describe('Scratch', () => {
  it('uses memory again until a larger shape is asked for', () => {
    const scratch = new Scratch();
    const first = scratch.matrix('a', 3, 4);
    expect([first.rows, first.cols, first.data.length]).toEqual([3, 4, 12]);
    const smaller = scratch.matrix('a', 5, 2);
    expect(smaller.data.buffer).toBe(first.data.buffer);
    expect([smaller.rows, smaller.cols, smaller.data.length]).toEqual([5, 2, 10]);
    const larger = scratch.matrix('a', 5, 4);
    expect(larger.data.buffer).not.toBe(first.data.buffer);
    expect(scratch.matrix('a', 3, 4).data.buffer).toBe(larger.data.buffer);
  });

  it('has integers beside them', () => {
    const scratch = new Scratch();
    const first = scratch.integers('a', 5);
    expect(first).toEqual(new Int32Array(5));
    expect(scratch.integers('a', 3).buffer).toBe(first.buffer);
    expect(scratch.integers('a', 6).buffer).not.toBe(first.buffer);
    expect(scratch.matrix('a', 1, 6).data.buffer).not.toBe(scratch.integers('a', 6).buffer);
  });

  it('keeps names apart, and refuses shapes that are none', () => {
    const scratch = new Scratch();
    expect(scratch.matrix('a', 2, 2).data.buffer).not.toBe(scratch.matrix('b', 2, 2).data.buffer);
    for (const name of ['a', 'new'])
      for (const rows of [-1, 0.5, NaN]) expect(() => scratch.matrix(name, rows, 2)).toThrow(bad);
  });
});
