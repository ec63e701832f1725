import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { kernelsStatus } from '@finetable/kernels';
import { afterEach, expect, test, vi } from 'vitest';
import type { DoctorReport } from './doctor.ts';
import { runHere } from './testing/capture.ts';

afterEach(() => vi.unstubAllEnvs());

test('doctor tells Node, cores and the kernels in use', async () => {
  const { status, stdout, stderr } = await runHere(['doctor', '--json']);
  const report = JSON.parse(stdout) as DoctorReport;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(report).toMatchObject({ node: process.version, cores: availableParallelism(), kernels: kernelsStatus() });
  expect(report.memoryBytes).toBeGreaterThan(report.freeMemoryBytes);
  const text = await runHere(['doctor']);
  expect(text.stdout).toContain(process.version);
  expect(text.stdout).toMatch(/^kernels +(native \(\w+\)|portable), \d+ threads?$/m);
});

test('a wrong setting is advice, not a crash', async () => {
  vi.stubEnv('FINETABLE_KERNELS', 'fastest');
  const { status, stdout } = await runHere(['doctor']);
  expect(status).toBe(0);
  expect(stdout).toContain('FINETABLE_KERNELS is "fastest"; allowed: native, portable');
});

test('portable kernels come with how to get native ones', async () => {
  vi.stubEnv('FINETABLE_KERNELS', 'portable');
  const { stdout } = await runHere(['doctor']);
  expect(stdout).toMatch(/^kernels +portable/m);
  expect(stdout).toMatch(kernelsStatus().native ? /unset FINETABLE_KERNELS/ : /npm rebuild @finetable\/kernels/);
});

/** The built program, with packages of TensorFlow.js out of sight. */
function runWithout(hidden: RegExp, args: readonly string[]) {
  const hide = `import Module from 'node:module';
    const resolve = Module._resolveFilename;
    Module._resolveFilename = function (request, ...rest) {
      if (${hidden}.test(request)) throw Object.assign(new Error('hidden: ' + request), { code: 'MODULE_NOT_FOUND' });
      return resolve.call(this, request, ...rest);
    };`;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(hide)}`, ...args],
    { encoding: 'utf8', cwd: fileURLToPath(new URL('..', import.meta.url)) },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

test('TensorFlow.js is named with its backend, and what would be better', () => {
  const report = JSON.parse(runWithout(/tfjs-node/, ['bin/finetable.js', 'doctor', '--json'])) as DoctorReport;
  expect(report.tensorflow).toMatchObject({ backend: 'wasm', package: '@tensorflow/tfjs-backend-wasm', gpu: false });
  expect(report.tensorflow?.problems.map((problem) => problem.package)).toEqual([
    '@tensorflow/tfjs-node-gpu',
    '@tensorflow/tfjs-node',
  ]);
  const text = runWithout(/tfjs-(node|backend-wasm)/, ['bin/finetable.js', 'doctor']);
  expect(text).toMatch(/^TensorFlow\.js +4\.\d+\.\d+, the cpu backend of @tensorflow\/tfjs 4\.\d+\.\d+$/m);
  expect(text).toMatch(/^advice .*npm install @tensorflow\/tfjs-backend-wasm$/m);
  expect(text).toMatch(/^advice .*npm install @tensorflow\/tfjs-node$/m);
});

test('without TensorFlow.js everything else works, and doctor says so', () => {
  const text = runWithout(/@tensorflow/, ['bin/finetable.js', 'doctor']);
  expect(text).toMatch(/^TensorFlow\.js +not installed$/m);
  expect(text).not.toContain('npm install');
  expect(JSON.parse(runWithout(/@tensorflow/, ['bin/finetable.js', 'doctor', '--json']))).toMatchObject({
    tensorflow: null,
  });
  const program = `import { formatBytes } from 'finetable'; console.log(formatBytes(2048))`;
  expect(runWithout(/@tensorflow/, ['--input-type=module', '-e', program])).toBe('2 KiB\n');
});
