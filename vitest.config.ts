import { defineConfig } from 'vitest/config';

const kernels = process.env.FINETABLE_KERNELS ?? 'default';

/** One configuration for every package; each runs it with `--root .`. */
export default defineConfig({
  // Tests see the sources; workers and child processes need `dist`, which the `test` target builds first.
  ssr: { resolve: { conditions: ['@finetable/source', 'node', 'import', 'module', 'default'] } },
  test: {
    include: ['src/**/*.test.ts'],
    testTimeout: 60_000,
    // A stray console line fails the suite: the library never prints.
    onConsoleLog: (log) => {
      throw new Error(`a test or the library printed: ${log}`);
    },
    reporters: [['default', { summary: false }], 'json'],
    outputFile: { json: `test-output/${kernels}.json` },
  },
});
