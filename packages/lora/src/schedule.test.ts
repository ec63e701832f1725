import { describe, expect, test } from 'vitest';
import { adamw, rateOf } from './optimizer.ts';
import { scheduleFactor, type Schedule } from './schedule.ts';

describe.each<[Schedule, readonly (readonly [step: number, factor: number])[]]>([
  [{ type: 'constant' }, [[1, 1], [1e9, 1]]],
  [{ type: 'constant', warmupSteps: 4 }, [[1, 0.25], [3, 0.75], [4, 1], [5, 1]]],
  [{ type: 'linear', totalSteps: 10 }, [[1, 1], [2, 0.9], [10, 0.1], [11, 0], [500, 0]]],
  [{ type: 'linear', totalSteps: 10, warmupSteps: 5, finalFactor: 0.5 }, [[5, 1], [6, 1], [7, 0.9], [11, 0.5], [12, 0.5]]],
  [{ type: 'cosine', totalSteps: 8 }, [[1, 1], [3, 0.5 + Math.SQRT1_2 / 2], [5, 0.5], [9, 0], [90, 0]]],
  [{ type: 'cosine', totalSteps: 8, finalFactor: 0.2 }, [[1, 1], [5, 0.6], [9, 0.2]]],
  [{ type: 'step', everySteps: 3, warmupSteps: 1 }, [[1, 1], [2, 1], [4, 1], [5, 0.1], [8, 0.01]]],
  [{ type: 'step', everySteps: 2, factor: 0.5 }, [[1, 1], [2, 1], [3, 0.5], [5, 0.25]]],
])('%o', (schedule, expected) => {
  test.each(expected)('step %d: %d', (step, factor) => {
    expect(scheduleFactor(schedule)(step)).toBeCloseTo(factor, 12);
  });
}); // prettier-ignore

test('the rate of a step is the learning rate times its factor', () => {
  const spec = adamw({ learningRate: 0.2, schedule: { type: 'linear', totalSteps: 4 } });
  expect(rateOf(spec)(3)).toBeCloseTo(0.1, 12);
  expect(rateOf(spec, 2)(3)).toBeCloseTo(1, 12);
  expect(rateOf(adamw({ learningRate: 0.2 }))(7)).toBe(0.2);
});

test.each<[object, RegExp]>([
  [{ type: 'cosin' }, /optimizer\.schedule\.type: found "cosin"; allowed: constant, linear, cosine, step/],
  [{ type: 'linear' }, /totalSteps: found undefined; allowed: an integer of 1 or more/],
  [{ type: 'linear', totalSteps: 5, warmupSteps: 6 }, /totalSteps: found 5; allowed: warmupSteps \(6\) or more/],
  [{ type: 'constant', warmupSteps: -1 }, /warmupSteps: found -1; allowed: an integer of 0 or more/],
  [{ type: 'cosine', totalSteps: 5, finalFactor: -0.1 }, /finalFactor: found -0.1; allowed: a number of 0 or more/],
  [{ type: 'step', everySteps: 0 }, /everySteps: found 0; allowed: an integer of 1 or more/],
  [{ type: 'step', everySteps: 2, factor: NaN }, /factor: found NaN; allowed: a number of 0 or more/],
])('refuses %o', (schedule, message) => {
  expect(() => scheduleFactor(schedule as Schedule)).toThrow(message);
});
