// `npm test`: lint, type check and all tests of all packages, then one line with the counts.
// FINETABLE_KERNELS=portable runs the tests on the portable kernels.
import { readdirSync, readFileSync, existsSync } from 'node:fs';
import { ensureInstalled, nx, root } from './ensure.mjs';

ensureInstalled();
process.on('exit', printCounts);
nx(['build', 'lint', 'typecheck', 'test']);

/** Adds up what the packages' tests reported, cached ones included, also when a package failed. */
function printCounts() {
  const kernels = process.env.FINETABLE_KERNELS ?? 'default';
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const name of readdirSync(`${root}packages`)) {
    const file = `${root}packages/${name}/test-output/${kernels}.json`;
    if (!existsSync(file)) {
      console.log(`packages/${name}: no test report`);
      continue;
    }
    const report = JSON.parse(readFileSync(file, 'utf8'));
    counts.passed += report.numPassedTests;
    counts.failed +=
      report.numFailedTests +
      (report.numFailedTestSuites > 0 && report.numFailedTests === 0 ? report.numFailedTestSuites : 0);
    counts.skipped += report.numPendingTests + report.numTodoTests;
  }
  console.log(`\nkernels: ${kernels}`);
  console.log(
    `${counts.passed} passed, ${counts.failed} failed${counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''}`,
  );
}
