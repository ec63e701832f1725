import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkJagged, jagged, type Jagged } from './jagged.ts';

const bad = (message: RegExp, code = 'INVALID_ARGUMENT') =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string });

describe('jagged', () => {
  it('gives the example of its documentation', () => {
    expect(jagged([[5, 7], [5]])).toEqual({ values: Int32Array.of(5, 7, 5), offsets: Int32Array.of(0, 2, 3) });
  });

  it('holds any bags and weights, and passes its own check', () => {
    const bag = fc.array(fc.tuple(fc.nat(0x7fffffff), fc.float({ noNaN: true })), { maxLength: 6 });
    fc.assert(
      fc.property(fc.array(bag), (pairs) => {
        const bags = pairs.map((pair) => pair.map(([id]) => id));
        const weights = pairs.map((pair) => pair.map(([, w]) => w));
        const ids = jagged(bags, weights);
        checkJagged(ids, 'ids');
        const part = (array: Int32Array | Float32Array, i: number) => [
          ...array.subarray(ids.offsets[i], ids.offsets[i + 1]),
        ];
        expect(bags.map((_, i) => part(ids.values, i))).toEqual(bags);
        expect(bags.map((_, i) => part(ids.weights!, i))).toEqual(weights);
        expect(ids.offsets.length).toBe(bags.length + 1);
      }),
    );
  });

  it.each([-1, 2 ** 31, 2 ** 32 + 1, -(2 ** 32)])('refuses id %d rather than wrapping it', (id) => {
    const error = expect.objectContaining({ code: 'ID_OUT_OF_RANGE', details: { bag: 1, place: 2, id } });
    expect(() => jagged([[1], [1, 2, id]])).toThrow(error);
  });

  it.each([0.5, NaN, Infinity])('refuses id %d', (id) => {
    expect(() => jagged([[1], [id]])).toThrow(bad(/bag 1, place 0: id .* is not an integer/));
  });

  it('refuses weights of another shape, even of the same count', () => {
    expect(() => jagged([[1, 2], [3]], [[1], [2, 3]])).toThrow(bad(/bag 0: 1 weights for 2 ids/));
    expect(() => jagged([[1, 2]], [[1], [2]])).toThrow(bad(/weights for 2 bags, found 1 bags/));
  });
});

describe('checkJagged', () => {
  const ids = (offsets: number[], more: Partial<Jagged> = {}) => ({
    values: Int32Array.of(1, 2, 3),
    offsets: Int32Array.from(offsets),
    ...more,
  });

  it.each([
    [[], /offsets are empty/],
    [[1, 3], /offsets start at 1/],
    [[0, 2], /offsets end at 2, must end at the number of ids, 3/],
    [[0, 4], /offsets end at 4/],
    [[0, 2, 1, 3], /offsets\[2\] is 1, below offsets\[1\] = 2/],
  ])('refuses offsets %j', (offsets, message) => {
    expect(() => checkJagged(ids(offsets), 'text')).toThrow(bad(message));
    expect(() => checkJagged(ids(offsets), 'text')).toThrow(/^text: /);
  });

  it('refuses weights of another length and arrays of other types', () => {
    expect(() => checkJagged(ids([0, 3], { weights: new Float32Array(2) }), 'text')).toThrow(
      bad(/2 weights for 3 ids/),
    );
    for (const wrong of [
      { values: [1, 2, 3.5] },
      { values: new Float64Array(3) },
      { offsets: [0, 3] },
      { weights: new Float64Array(3) },
    ]) {
      expect(() => checkJagged(ids([0, 3], wrong as unknown as Partial<Jagged>), 'text')).toThrow(
        bad(/must be of type/),
      );
    }
  });
});
