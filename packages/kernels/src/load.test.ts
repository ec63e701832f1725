/** Which kernels are chosen, and what the install leaves behind where it cannot build. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import * as index from './index.ts';
import { kernelsStatus, loadKernels } from './load.ts';
import { needAddon } from './testing/implementations.ts';

beforeEach(() => {
  vi.stubEnv('FINETABLE_KERNELS', undefined);
  vi.stubEnv('FINETABLE_THREADS', undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

const code = (expected: string, message: RegExp) =>
  expect.objectContaining({ code: expected, message: expect.stringMatching(message) as string }) as Error;

test('the public names', () => {
  expect(Object.keys(index).sort()).toEqual([
    'SkippedSteps',
    'kernelsStatus',
    'loadBuilt',
    'loadKernels',
    'stateColumns',
  ]);
});

test('native where it was built, and the same object each time', (context) => {
  needAddon(context);
  const kernels = loadKernels();
  expect(kernels.name).toBe('native');
  expect(kernels.description).toMatch(/^native \(C\+\+, (avx512|avx2|sse2|neon|scalar)\), \d+ threads?$/);
  expect(loadKernels()).toBe(kernels);
  expect(loadKernels({ threads: kernels.threads + 1 })).not.toBe(kernels);
  expect(kernelsStatus()).toMatchObject({ kind: 'native', native: true, reason: null, threads: kernels.threads });
});

test('the environment chooses; an option goes before it', (context) => {
  vi.stubEnv('FINETABLE_KERNELS', 'portable');
  expect(loadKernels().name).toBe('portable');
  expect(kernelsStatus().kind).toBe('portable');
  needAddon(context);
  expect(loadKernels({ kind: 'native' }).name).toBe('native');
});

test('the number of threads', () => {
  vi.stubEnv('FINETABLE_THREADS', '3');
  expect(loadKernels().threads).toBe(3);
  expect(loadKernels({ threads: 5 }).threads).toBe(5);
  expect(() => loadKernels({ threads: 0 })).toThrow(code('INVALID_ARGUMENT', /threads must be an integer from 1/));
  for (const wrong of ['0', '-1', '2.5', 'all', '99999', '1e2', ' 2']) {
    vi.stubEnv('FINETABLE_THREADS', wrong);
    expect(() => loadKernels()).toThrow(code('INVALID_ARGUMENT', /FINETABLE_THREADS is .*integer from 1 to 1024/));
  }
});

test('a wrong environment is refused, and the status says so without throwing', () => {
  vi.stubEnv('FINETABLE_KERNELS', 'fast');
  expect(() => loadKernels()).toThrow(
    code('INVALID_ARGUMENT', /FINETABLE_KERNELS is "fast"; allowed: native, portable/),
  );
  expect(kernelsStatus()).toMatchObject({ kind: null, reason: expect.stringMatching(/FINETABLE_KERNELS/) as string });
  expect(() => loadKernels({ kind: 'gpu' as 'native' })).toThrow(code('INVALID_ARGUMENT', /kind/));
});

describe('the install', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'finetable-install-'));
    const here = fileURLToPath(new URL('..', import.meta.url));
    for (const name of ['compile.mjs', 'install.mjs', 'package.json', 'dist'])
      cpSync(join(here, name), join(root, name), { recursive: true });
    mkdirSync(join(root, 'node_modules', '@finetable'), { recursive: true });
    for (const [name, from] of [
      ['node-api-headers', '../../node_modules/node-api-headers'],
      ['@finetable/core', '../core'],
    ] as const) {
      cpSync(join(here, from), join(root, 'node_modules', name), { recursive: true, dereference: true });
    }
    // One small source stands for all, so that a compile takes no time.
    mkdirSync(join(root, 'native'));
    writeFileSync(
      join(root, 'native', 'one.cc'),
      '#include <node_api.h>\nNAPI_MODULE_INIT() { (void)env; return exports; }\n',
    );
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
  const install = (env: Record<string, string> = {}) =>
    spawnSync(process.execPath, ['install.mjs'], { cwd: root, encoding: 'utf8', env: { ...process.env, ...env } });
  const status = () => JSON.parse(readFileSync(join(root, 'build', 'status.json'), 'utf8')) as Record<string, unknown>;
  const addon = () => join(root, 'build', 'finetable.node');

  test('without a compiler: exit 0, one line, and the portable kernels serve', () => {
    expect(install({ CXX: 'no-such-compiler' })).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(
        /^@finetable\/kernels: no native kernels, because .*"no-such-compiler".*npm rebuild @finetable\/kernels\n$/,
      ) as string,
      stderr: '',
    });
    expect(status()).toEqual({ built: false, reason: 'there is no C++ compiler called "no-such-compiler"' });
    const program = `import { kernelsStatus, loadKernels } from './dist/index.js';
      let error; try { loadKernels({ kind: 'native' }); } catch (e) { error = e; }
      process.stdout.write(JSON.stringify([loadKernels().name, kernelsStatus(), error.code, error.message]));`;
    const env = { ...process.env };
    delete env.FINETABLE_KERNELS;
    delete env.FINETABLE_ADDON;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      cwd: root,
      encoding: 'utf8',
      env,
    });
    const [name, found, errorCode, message] = JSON.parse(child.stdout) as [string, object, string, string];
    expect(name).toBe('portable');
    expect(found).toMatchObject({
      kind: 'portable',
      native: false,
      instructionSet: null,
      reason: expect.stringMatching(/no-such-compiler/) as string,
    });
    expect(errorCode).toBe('UNSUPPORTED');
    expect(message).toMatch(/C\+\+ compiler: npm rebuild @finetable\/kernels/);
  });

  const compiler = spawnSync(process.env.CXX || 'c++', ['--version']).status === 0;

  test('builds, skips what is up to date, and takes a stale addon away when a build fails', (context) => {
    if (!compiler) context.skip('no C++ compiler');
    expect(install()).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(existsSync(addon())).toBe(true);
    const first = status();
    expect(first).toMatchObject({ built: true });
    expect(install()).toMatchObject({ status: 0, stdout: '' });
    expect(status()).toEqual(first);

    writeFileSync(join(root, 'native', 'one.cc'), '#error broken on purpose\n');
    expect(install()).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/the compiler failed: .*broken on purpose/) as string,
    });
    expect(existsSync(addon())).toBe(false);
    expect(status()).toMatchObject({ built: false });
  });

  test('what does not load is not put in place', (context) => {
    if (!compiler) context.skip('no C++ compiler');
    writeFileSync(
      join(root, 'native', 'one.cc'),
      'extern "C" void absent(); extern "C" void* napi_register_module_v1(void*, void* e) { absent(); return e; }\n',
    );
    expect(install({ LD_BIND_NOW: '1' })).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/does not load/) as string,
    });
    expect(existsSync(addon())).toBe(false);
  });
});
