import { expect, test } from 'vitest';
import { tf } from './load.ts';

test('the instance is the one that programs import', async () => {
  expect((await import('@tensorflow/tfjs')).Tensor).toBe(tf.Tensor);
});
