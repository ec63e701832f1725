import { f16ToF32, RandomStream } from '@finetable/core';
import { expect, test } from 'vitest';
import { tf } from '../load.ts';
import { Decoder } from './decode.ts';
import { onEachBackend } from '../testing/backends.ts';

onEachBackend(() => {
  test('every 16 bits, in both halves of a word, beside what rounds up and down', async () => {
    const random = new RandomStream(1, 'words');
    const n = 65536;
    const edges = [0, 1, 2, 32767, 32768, 65534, 65535];
    const words = Int32Array.from({ length: 2 * n }, (_, i) => {
      const bits = i >> 1;
      const other = i % 4 < 2 ? edges[random.below(i, edges.length)]! : random.below(i, n);
      return i % 2 === 0 ? (bits << 16) | other : (other << 16) | bits;
    });
    const { numTensors } = tf.memory();
    const decoder = new Decoder({ dtype: 'f16', dim: 2, groupDims: 0 });
    const out = tf.tidy(() => decoder.decode(tf.tensor2d(words, [2 * n, 1], 'int32'), null).dataSync());
    decoder.dispose();
    expect(tf.memory().numTensors).toBe(numTensors);
    const wrong = [...words.keys()].filter(
      (i) =>
        !Object.is(out[2 * i], f16ToF32(words[i]! & 65535)) || !Object.is(out[2 * i + 1], f16ToF32(words[i]! >>> 16)),
    );
    expect(wrong).toEqual([]);
  });
});
