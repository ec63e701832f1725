import { expect, test } from 'vitest';
import { addSums, isBetter } from './metrics.ts';

test('a lower loss and a higher accuracy are better; the same is not', () => {
  expect([isBetter('loss', 1, 2), isBetter('loss', 2, 1), isBetter('loss', 1, 1)]).toEqual([true, false, false]);
  expect([isBetter('accuracy', 1, 2), isBetter('accuracy', 2, 1), isBetter('accuracy', 1, 1)]).toEqual([
    false,
    true,
    false,
  ]);
  expect(isBetter('loss', 1, undefined)).toBe(true);
});

test('sums add up by name', () => {
  expect(addSums({ loss: 1, correct: 2 }, { loss: 3, other: 4 })).toEqual({ loss: 4, correct: 2, other: 4 });
});
