/** Tables and backends for the tests of devices. */
import { createRequire } from 'node:module';
import { beforeEach, describe } from 'vitest';
import { tf } from '../load.ts';

const require = createRequire(import.meta.url);
const packages = {
  tensorflow: '@tensorflow/tfjs-node',
  wasm: '@tensorflow/tfjs-backend-wasm',
  cpu: '@tensorflow/tfjs',
};

export function onEachBackend(body: (backend: string) => void): void {
  for (const [name, from] of Object.entries(packages)) {
    describe(`on the ${name} backend`, () => {
      beforeEach(async (context) => {
        tf.env().set('IS_TEST', true);
        try {
          require(from);
        } catch {
          context.skip(`no ${from}`);
        }
        await tf.setBackend(name);
      });
      body(name);
    });
  }
}
