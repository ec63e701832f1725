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

test('adapters of WebGPU with their limits, and whether they are software', async (context) => {
  const { webgpu, advice } = JSON.parse((await runHere(['doctor', '--json'])).stdout) as DoctorReport;
  const { stdout } = await runHere(['doctor']);
  if (webgpu === null) {
    expect(stdout).toMatch(/^WebGPU +not installed$/m);
    context.skip("npm's webgpu is not installed");
    return;
  }
  if (webgpu.adapters.length === 0) {
    expect(stdout).toMatch(/^WebGPU +\d+\.\d+\.\d+, no adapter$/m);
    expect(advice).toContainEqual(expect.stringMatching(/^WebGPU finds no adapter: .*driver/));
    context.skip('WebGPU has no adapter');
    return;
  }
  for (const { name, software, maxBindingBytes } of webgpu.adapters) {
    expect(maxBindingBytes).toBeGreaterThanOrEqual(2 ** 27);
    const line = stdout.split('\n').find((text) => text.startsWith('WebGPU'));
    expect(line).toContain(`${name} (${software ? 'software, used only when asked for, ' : ''}`);
  }
});

test('a driver that cannot be loaded is advice, not a crash', async (context) => {
  vi.stubEnv('VK_DRIVER_FILES', '/none.json');
  vi.stubEnv('VK_ICD_FILENAMES', '/none.json');
  const { status, stdout } = await runHere(['doctor', '--json']);
  expect(status).toBe(0);
  const { webgpu, advice } = JSON.parse(stdout) as DoctorReport;
  if (webgpu === null || process.platform !== 'linux')
    return context.skip("npm's webgpu is not installed, or needs no Vulkan");
  expect(webgpu.adapters).toEqual([]);
  expect(advice).toContainEqual(expect.stringMatching(/^WebGPU finds no adapter: it needs a Vulkan driver/));
});
