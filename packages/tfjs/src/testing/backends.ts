/** Tests on every backend that can be had here; on the others they are skipped, with the reason. */
import { isFinetableError } from '@finetable/core';
import { beforeEach, describe } from 'vitest';
import { backendNames, useBackend, type BackendName } from '../backend.ts';

/**
 * Declares `body`'s tests once for each backend, which is in use when they run:
 *
 *     onEachBackend((backend) => {
 *       test('one and one', async () => expect(await tf.add(1, 1).data()).toEqual(Float32Array.of(2)));
 *     });
 */
export function onEachBackend(
  body: (backend: BackendName) => void,
  names: readonly BackendName[] = backendNames,
): void {
  for (const name of names) {
    describe(`on the ${name} backend`, () => {
      beforeEach(async (context) => {
        try {
          await useBackend(name);
        } catch (error) {
          if (!isFinetableError(error) || error.code !== 'UNSUPPORTED') throw error;
          context.skip(error.message);
        }
      });
      body(name);
    });
  }
}
