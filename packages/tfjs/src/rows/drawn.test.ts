import { matrix, range } from '@finetable/core';
import { expect, test } from 'vitest';
import type { Initializer } from '../layer/tfjs-types.ts';
import { tf } from '../load.ts';
import { drawTable } from './drawn.ts';

const V = 500;
const D = 8;
const all = (initializer: Initializer): Float32Array => drawTable('t', V, D, initializer).table.gather(range(V)).data;

test.each<[string, Initializer, number, number]>([
  ['randomUniform', tf.initializers.randomUniform({ minval: -0.5, maxval: 1.5, seed: 1 }), 0.5, 2 / Math.sqrt(12)],
  ['randomNormal', tf.initializers.randomNormal({ mean: 2, stddev: 0.5, seed: 1 }), 2, 0.5],
  ['glorotUniform', tf.initializers.glorotUniform({ seed: 1 }), 0, Math.sqrt(2 / (V + D))],
  ['heUniform', tf.initializers.heUniform({ seed: 1 }), 0, Math.sqrt(2 / V)],
  ['leCunUniform', tf.initializers.leCunUniform({ seed: 1 }), 0, Math.sqrt(1 / V)],
  ['constant', tf.initializers.constant({ value: 3 }), 3, 0],
  ['ones', tf.initializers.ones(), 1, 0],
  ['zeros', tf.initializers.zeros(), 0, 0],
])('%s has the mean and deviation that tfjs gives it', (_, initializer, mean, deviation) => {
  const values = all(initializer);
  const found = values.reduce((sum, x) => sum + x, 0) / values.length;
  const spread = Math.sqrt(values.reduce((sum, x) => sum + (x - found) ** 2, 0) / values.length);
  // Four standard errors of 4,000 numbers.
  expect(Math.abs(found - mean)).toBeLessThanOrEqual((4 * deviation) / Math.sqrt(V * D));
  expect(Math.abs(spread - deviation)).toBeLessThanOrEqual((4 * deviation) / Math.sqrt(2 * V * D));
});

test('rows are the same in whatever order they are read, and from the config', () => {
  const { table, initializer } = drawTable('t', V, D, tf.initializers.randomUniform({ minval: -1, maxval: 1 }));
  const few = table.gather(Int32Array.of(499, 3, 3)).data;
  const { fingerprint } = table;
  const again = drawTable('t', V, D, tf.initializers.randomUniform(initializer.config as never)).table;
  expect(again.fingerprint).toBe(fingerprint);
  const whole = again.gather(range(V));
  expect([...few]).toEqual([499, 3, 3].flatMap((row) => [...whole.data.subarray(row * D, (row + 1) * D)]));
  expect(table.gather(range(V))).toEqual(whole);
  const other = all(tf.initializers.randomUniform({ minval: -1, maxval: 1, seed: 5 }));
  expect(matrix(V, D, other)).not.toEqual(whole);
});
