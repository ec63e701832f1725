import { expect, test } from 'vitest';
import { alone } from './collective.ts';

test('a process by itself gets what it gave, as bytes of its own', async () => {
  const values = Float32Array.of(1, 2);
  await alone.allReduce(values);
  expect(values).toEqual(Float32Array.of(1, 2));
  const given = Uint8Array.of(1, 2, 3);
  const [[back], [all]] = [await alone.allToAll([given]), await alone.allGather(given)];
  given.fill(0);
  expect([back, all]).toEqual([Uint8Array.of(1, 2, 3), Uint8Array.of(1, 2, 3)]);
  await alone.barrier();
  await alone.close();
  expect([alone.rank, alone.size, alone.sentBytes]).toEqual([0, 1, 0]);
});
