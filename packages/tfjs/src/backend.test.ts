import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { useBackend, useBestBackend, type BackendReport } from './backend.ts';
import { tf } from './load.ts';
import { onEachBackend } from './testing/backends.ts';

const require = createRequire(import.meta.url);
const gpu = '@tensorflow/tfjs-node-gpu';
const node = '@tensorflow/tfjs-node';
const wasm = '@tensorflow/tfjs-backend-wasm';
let folder: string;

beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'finetable-backend-'))));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Runs a program of its own, with packages missing (null) or made of the code given; what it returns is printed as JSON. */
async function runWith<T>(
  packages: Record<string, string | null>,
  program: string,
  executable = process.execPath,
): Promise<T> {
  const replaced: Record<string, string | null> = {};
  for (const [name, code] of Object.entries(packages)) {
    replaced[name] = code === null ? null : join(folder, `${name.replace('/', '-')}.cjs`);
    if (code !== null) await writeFile(replaced[name]!, code);
  }
  const preload = fileURLToPath(new URL('testing/replace-packages.mjs', import.meta.url));
  const index = new URL('../dist/index.js', import.meta.url).href;
  const code = `console.log(JSON.stringify(await (async () => { ${program.replaceAll('FINETABLE', JSON.stringify(index))} })()))`;
  const { stdout, stderr, status } = spawnSync(executable, ['--import', preload, '--input-type=module', '-e', code], {
    encoding: 'utf8',
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    env: { ...process.env, REPLACED_PACKAGES: JSON.stringify(replaced), TFJS: require.resolve('@tensorflow/tfjs') },
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as T;
}

const best = `const { useBestBackend } = await import(FINETABLE); return await useBestBackend();`;
const withoutNode = { [gpu]: null, [node]: null };

onEachBackend((backend) => {
  test('computes, and is reported with its package', async () => {
    expect(await tf.matMul(tf.tensor2d([[1, 2]]), tf.tensor2d([[3], [4]])).array()).toEqual([[11]]);
    const report = await useBackend(backend);
    const from = { tensorflow: node, wasm, cpu: '@tensorflow/tfjs' }[backend];
    expect(report).toMatchObject({ backend, kept: true, tfjs: tf.version.tfjs, version: tf.version.tfjs });
    expect([from, gpu]).toContain(report.package);
    expect(await useBestBackend()).toMatchObject({ backend, kept: true });
  });

  test('replaces what the program chose only where it is asked for', async () => {
    await tf.setBackend('cpu');
    expect(await useBestBackend()).toMatchObject({ backend: 'cpu', kept: true, problems: [] });
    expect(await useBestBackend({ prefer: backend })).toMatchObject({ backend, kept: backend === 'cpu' });
    expect(tf.getBackend()).toBe(backend);
  });
});

test('the best that is installed, saying why not the others', async () => {
  const report = await runWith<BackendReport>(withoutNode, best);
  expect(report).toEqual({
    backend: 'wasm',
    package: wasm,
    version: '4.22.0',
    tfjs: '4.22.0',
    gpu: false,
    kept: false,
    problems: [gpu, node].map((name) => ({
      package: name,
      reason: 'not-installed',
      message: `it is not installed: npm install ${name}`,
    })),
  });
  expect(await runWith<BackendReport>({ ...withoutNode, [wasm]: null }, best)).toMatchObject({
    backend: 'cpu',
    package: '@tensorflow/tfjs',
  });
});

test('prints nothing, whichever it is', async () => {
  const program = (
    choice: string,
  ) => `const { tf, useBestBackend } = await import(FINETABLE); await useBestBackend(${choice});
    return [tf.getBackend(), ...(await tf.add(tf.tensor1d([1]), 1).data())];`;
  expect(await runWith({}, program(''))).toEqual([expect.any(String), 2]);
  expect(await runWith(withoutNode, program(''))).toEqual(['wasm', 2]);
  expect(await runWith({}, program(`{ prefer: 'cpu' }`))).toEqual(['cpu', 2]);
});

test('a package that does not work costs nothing but its line', async () => {
  const unbuilt = `throw new Error('The Node.js native addon module (tfjs_binding.node) can not be found at path: /x. \\nPlease run …')`;
  const unlinked = `throw Object.assign(new Error('libtensorflow.so.2: cannot open shared object file'), { code: 'ERR_DLOPEN_FAILED' })`;
  const { problems, backend } = await runWith<BackendReport>({ [gpu]: unlinked, [node]: unbuilt, [wasm]: '' }, best);
  expect(backend).toBe('cpu');
  expect(problems).toEqual([
    {
      package: gpu,
      reason: 'library-missing',
      message: expect.stringContaining('libtensorflow.so.2: cannot open') as string,
    },
    {
      package: node,
      reason: 'binding-missing',
      message: expect.stringContaining('npm rebuild @tensorflow/tfjs-node') as string,
    },
    { package: wasm, reason: 'failed', message: 'it registers no backend named wasm' },
  ]);
});

test('tfjs-node-gpu without a GPU is told', async () => {
  const fake = `const tf = require(process.env.TFJS);
    class Fake extends tf.KernelBackend { isGPUPackage = true; isUsingGpuDevice = false; dispose() {} }
    tf.registerBackend('tensorflow', () => new Fake(), 3);`;
  const { problems, ...report } = await runWith<BackendReport>({ [gpu]: fake }, best);
  expect(report).toMatchObject({ backend: 'tensorflow', package: gpu, gpu: false });
  expect(problems).toEqual([
    { package: gpu, reason: 'gpu-missing', message: expect.stringContaining('computes on the CPU') as string },
  ]);
});

test('a backend that does not start is told with its reason, and the one in use stays', async () => {
  const broken = `require(process.env.TFJS).registerBackend('tensorflow', () => { throw new Error('no such device') }, 3)`;
  const program = `const { tf, useBackend, useBestBackend } = await import(FINETABLE);
    await tf.setBackend('cpu');
    const failed = await useBackend('tensorflow').catch((error) => error);
    return [failed.code, failed.message, failed.details, await useBestBackend({ prefer: 'tensorflow' })];`;
  const message =
    'the tensorflow backend of TensorFlow.js is not to be had: @tensorflow/tfjs-node-gpu: it is not installed: npm install @tensorflow/tfjs-node-gpu; @tensorflow/tfjs-node: no such device';
  expect(await runWith({ [gpu]: null, [node]: broken }, program)).toEqual([
    'UNSUPPORTED',
    message,
    { packages: [gpu, node], reasons: ['not-installed', 'failed'] },
    expect.objectContaining({
      backend: 'cpu',
      kept: true,
      problems: [expect.objectContaining({ package: node, message: 'no such device' })],
    }),
  ]);
});

// What is prepared for the tensorflow backend has a Node of the newest line, where tfjs-node lacks `util.isNullOrUndefined`.
const newest = fileURLToPath(
  new URL(`../../../.cache/tfjs-node/node_modules/node-${process.platform}-${process.arch}/bin/node`, import.meta.url),
);

for (const executable of [process.execPath, newest]) {
  test(`tfjs-node that the program imported first, on ${executable === newest ? 'the newest Node' : 'this Node'}`, async (context) => {
    if (!existsSync(newest)) context.skip('tfjs-node is not prepared here: node tools/tfjs-node/setup.mjs');
    const program = `process.env.TF_CPP_MIN_LOG_LEVEL = '2'; // its messages are its own affair
      const own = await import('@tensorflow/tfjs-node');
      const { tf, useBestBackend } = await import(FINETABLE);
      const { backend, kept } = await useBestBackend();
      const top = tf.topk(tf.tensor1d([1, 2]), 1).values.dataSync();
      return [backend, kept, own.default.Tensor === tf.Tensor, top[0], Number(process.versions.node.split('.')[0])];`;
    expect(await runWith({}, program, executable)).toEqual([
      'tensorflow',
      true,
      true,
      2,
      executable === newest ? 26 : Number(process.versions.node.split('.')[0]),
    ]);
  });
}

test('other names and options are refused', async () => {
  await expect(useBackend('webgl' as never)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'found backend "webgl"; allowed: tensorflow, wasm, cpu',
  });
  await expect(useBestBackend({ prefer: 'gpu' as never })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(useBestBackend({ prefered: 'cpu' } as never)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});
