import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ExampleOrder } from './order.ts';
import { rankOf, selectionOf, selectRows } from './selection.ts';
import { indexOfRows } from './source/rows.ts';
import { indexOf, type FileIndex, type SourceIndex } from './source/source.ts';

function source(...files: (readonly number[])[]): SourceIndex {
  return indexOf(
    files.map((blocks): FileIndex => {
      const first = indexOfRows('f', blocks.at(-1)!).files[0]!;
      return { ...first, blocks: Float64Array.from(blocks) };
    }),
  );
}

describe('a selection', () => {
  test('has the examples that are not excluded, in order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), fc.array(fc.nat(4999)), (examples, out) => {
        const excluded = [...new Set(out.filter((row) => row < examples))].sort((a, b) => a - b);
        const selection = selectionOf(examples, excluded);
        const expected = Array.from({ length: examples }, (_, i) => i).filter((i) => !excluded.includes(i));
        const rows = Uint32Array.from(expected, (_, i) => i);
        selectRows(selection, rows);
        expect([...rows]).toEqual(expected);
        expect(selection.count).toBe(expected.length);
        for (const row of [0, examples - 1, examples >> 1])
          expect(rankOf(selection, row)).toBe(expected.filter((other) => other < row).length);
      }),
      { numRuns: 30 },
    );
  });
});

describe('an order', () => {
  const blocks = [
    [0, 3, 10, 17],
    [0, 20, 21],
  ];

  test.each([1000, 7, 5, 1])('every epoch has every example once, in any parts (window %i)', (window) => {
    const index = source(...blocks);
    for (const selection of [null, selectionOf(38, [0, 3, 4, 5, 6, 7, 8, 9, 37])]) {
      const order = new ExampleOrder(index, selection, { shuffle: true, seed: 3, window });
      expect(order.examples).toBe(selection ? 29 : 38);
      const first = order.rows(0, 0, order.examples);
      const all = [...first].sort((a, b) => a - b);
      expect(all).toEqual(
        Array.from({ length: 38 }, (_, i) => i).filter((i) => !selection || ![0, 3, 4, 5, 6, 7, 8, 9, 37].includes(i)),
      );
      expect(order.rows(1, 0, order.examples)).not.toEqual(first);
      fc.assert(
        fc.property(fc.nat(3), fc.nat(order.examples), fc.nat(order.examples), (epoch, a, b) => {
          const [begin, end] = [Math.min(a, b), Math.max(a, b)];
          const again = new ExampleOrder(index, selection, { shuffle: true, seed: 3, window });
          expect(again.rows(epoch, begin, end)).toEqual(order.rows(epoch, 0, order.examples).slice(begin, end));
        }),
        { numRuns: 30 },
      );
    }
  });

  test('a window takes from few blocks', () => {
    const ends = Array.from({ length: 101 }, (_, i) => i * 10);
    const order = new ExampleOrder(source(ends), null, { shuffle: true, seed: 0, window: 50 });
    for (let window = 0; window < 20; window++) {
      const touched = new Set([...order.rows(0, window * 50, window * 50 + 50)].map((row) => Math.floor(row / 10)));
      expect(touched.size).toBe(5);
    }
  });

  test('unshuffled is the order of the source', () => {
    const order = new ExampleOrder(source(...blocks), null, { shuffle: false, seed: 0, window: 7 });
    expect([...order.rows(5, 3, 30)]).toEqual(Array.from({ length: 27 }, (_, i) => i + 3));
  });
});
