// `npm test`: lint, type check and all tests of all packages, then what failed, then one line with the counts.
// FINETABLE_KERNELS=portable runs the tests on the portable kernels: those of the packages that compute with whichever kernels there
// are. The kernels' own tests run both in any case.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { ensureInstalled, nx, root } from './ensure.mjs';

const kernels = process.env.FINETABLE_KERNELS ?? 'default';
const packages = kernels === 'portable' ? ['placement', 'lora', 'trainer'] : readdirSync(`${root}packages`);
ensureInstalled();
for (const name of packages) rmSync(reportOf(name), { force: true }); // Nx puts cached ones back
process.on('exit', printCounts);
nx(['build', 'lint', 'typecheck', 'test'], { packages });

function reportOf(name) {
  return `${root}packages/${name}/test-output/${kernels}.json`;
}

/** A line for each failed test, and for each file that failed outside its tests. */
function* failuresOf(report) {
  for (const { name, message, status, assertionResults } of report.testResults) {
    const file = name.startsWith(root) ? name.slice(root.length) : name;
    const failed = assertionResults.filter((test) => test.status === 'failed');
    for (const test of failed) yield `${file}: ${test.fullName}: ${firstLine(test.failureMessages[0])}`;
    if (failed.length === 0 && status === 'failed') yield `${file}: ${firstLine(message)}`;
  }
}

function firstLine(message = '') {
  return message.split('\n', 1)[0];
}

/** Adds up what the packages' tests reported, cached ones included, also when a package failed. */
function printCounts() {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const name of packages) {
    const file = reportOf(name);
    if (!existsSync(file)) {
      console.log(`FAILED packages/${name}: its tests ended without a report`);
      counts.failed++;
      continue;
    }
    const report = JSON.parse(readFileSync(file, 'utf8'));
    for (const line of failuresOf(report)) console.log(`FAILED ${line}`);
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
