import { defineConfig } from 'vitest/config';
import type { Reporter, TestCase } from 'vitest/node';
import { vulkanEnvironment } from './tools/vulkan/link.mjs';

const kernels = process.env.FINETABLE_KERNELS ?? 'default';

// Before the processes of the tests start, since a library's path is read then.
Object.assign(process.env, vulkanEnvironment());

/** Says why tests were skipped, once per reason. */
class SkipReasons implements Reporter {
  readonly #counts = new Map<string, number>();

  onTestCaseResult(test: TestCase): void {
    const result = test.result();
    if (result.state !== 'skipped') return;
    const reason = result.note ?? `no reason given by "${test.fullName}"`;
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  onTestRunEnd(): void {
    for (const [reason, count] of this.#counts) process.stdout.write(`skipped ${count}: ${reason}\n`);
  }
}

const tests = 'src/**/*.test.ts';
const isolated = 'src/**/*.isolated.test.ts';
/** What on other kernels would be tested a second time. */
const notOfKernels =
  kernels === 'portable' ? ['src/{batch,embed,job,report,run}/**', 'src/{peft,placements}.test.ts'] : [];

/** One configuration for every package; each runs it with `--root .`. */
export default defineConfig({
  // Tests see the sources; workers and child processes need `dist`, which the `test` target builds first.
  ssr: { resolve: { conditions: ['@finetable/source', 'node', 'import', 'module', 'default'] } },
  test: {
    // Files of a package share its modules, which are half of the time otherwise; but for those that put others in their place.
    projects: [
      {
        extends: true,
        test: { name: 'shared', include: [tests], exclude: [isolated, ...notOfKernels], isolate: false },
      },
      { extends: true, test: { name: 'isolated', include: [isolated] } },
    ],
    testTimeout: 60_000,
    expect: { poll: { timeout: 30_000 } },
    // A stray console line fails the suite: the library never prints.
    onConsoleLog: (log) => {
      throw new Error(`a test or the library printed: ${log}`);
    },
    reporters: [['default', { summary: false }], 'json', new SkipReasons()],
    outputFile: { json: `test-output/${kernels}.json` },
  },
});
