/** Numbers that tfjs draws, made reproducible: its ops without a seed begin with `Math.random`. */
import { RandomStream } from '@finetable/core';

/** Runs `body`, which must not wait, with `Math.random` giving the numbers of a stream. */
export function withRandom<T>(seed: number, stream: string, body: () => T): T {
  const random = new RandomStream(seed, stream);
  const { random: kept } = Math;
  let next = 0;
  Math.random = () => random.uint32(next++) / 2 ** 32;
  try {
    return body();
  } finally {
    Math.random = kept;
  }
}
