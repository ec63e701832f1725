// Prepares the real `tensorflow` backend without the host that tfjs-node downloads libtensorflow from: .cache/tfjs-node gets @tensorflow/tfjs-node from npm, the
// libraries and headers of a tensorflow-cpu wheel from the Python package index, and the binding compiled against them. link.mjs then puts it among
// the workspace's packages. A Node of the newest line comes with it. Needs Linux, Python with pip, and a C++ compiler; nothing of node_modules, which may be under installation meanwhile.
//
//   node tools/tfjs-node/setup.mjs
//
// Exits 0 with the reason when something of that is not to be had, so that what needs this backend can be left out with that reason; exits 1
// when everything is there and the binding is not to be compiled or loaded, which is a fault in the pins.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { folder, linkTfjsNode, prepared, tfjsNode } from './link.mjs';

// The wheel of any Python will do: only its C library is used.
const WHEEL = [
  'tensorflow-cpu==2.21.0',
  '--python-version',
  '3.12',
  '--only-binary=:all:',
  '--no-deps',
  '--no-compile',
];
const NPM = {
  '@tensorflow/tfjs-node': '4.22.0',
  'node-api-headers': '1.9.0',
  // A newer Node than most develop with, since tfjs-node breaks on it without our help.
  [`node-${process.platform}-${process.arch}`]: '26.10.0',
};
const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
const NAPI = 8; // the newest that tfjs-node 4.22 looks for; one binary for every Node since 15
const LIMIT_MS = 10 * 60_000;

class Unavailable extends Error {}

function run(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: folder, timeout: LIMIT_MS, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (text) => (output += text));
    child.stderr.on('data', (text) => (output += text));
    child.on('error', (error) => reject(new Unavailable(`${command}: ${error.message}`)));
    child.on('close', (code) => {
      if (code === 0) return resolve();
      const lines = output.trim().split('\n');
      reject(new Unavailable(`${command}: ${lines.find((line) => /error/i.test(line)) ?? lines.at(-1)}`));
    });
  });
}

async function fetchPackage() {
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies: NPM }));
  await run('npm', [
    'install',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--no-package-lock',
    '--fetch-retries=1',
  ]);
  // Its own tfjs goes, so that it finds the workspace's: two instances share neither classes nor registries of layers.
  for (const name of ['', '-backend-cpu', '-backend-webgl', '-converter', '-core', '-data', '-layers'])
    rmSync(join(folder, `node_modules/@tensorflow/tfjs${name}`), { recursive: true });
}

async function fetchLibraries() {
  const venv = join(folder, 'venv');
  await run('python3', ['-m', 'venv', '--clear', venv]);
  const quick = ['--quiet', '--disable-pip-version-check', '--retries', '2', '--timeout', '60'];
  await run(join(venv, 'bin', 'python'), [
    '-m',
    'pip',
    'install',
    ...quick,
    '--target',
    join(folder, 'wheel'),
    ...WHEEL,
  ]);
  rmSync(venv, { recursive: true });
}

async function compileBinding() {
  const from = join(folder, 'wheel', 'tensorflow');
  const deps = join(tfjsNode, 'deps');
  const output = join(tfjsNode, 'lib', `napi-v${NAPI}`);
  for (const made of [join(deps, 'lib'), output]) mkdirSync(made, { recursive: true });
  renameSync(join(from, 'include'), join(deps, 'include'));
  for (const library of LIBRARIES) renameSync(join(from, library), join(deps, 'lib', library));
  rmSync(join(folder, 'wheel'), { recursive: true }); // 400 MB of Python
  const headers = [join(folder, 'node_modules', 'node-api-headers', 'include'), join(deps, 'include')];
  const binding = join(output, 'tfjs_binding.node');
  // What its binding.gyp does, less node-gyp, which would download Node's headers.
  await run('c++', [
    ...['-std=c++17', '-O2', '-shared', '-fPIC', `-DNAPI_VERSION=${NAPI}`, ...headers.map((path) => `-I${path}`)],
    ...['tfjs_backend.cc', 'tfjs_binding.cc'].map((source) => join(tfjsNode, 'binding', source)),
    ...[`-L${join(deps, 'lib')}`, ...LIBRARIES.map((name) => `-l:${name}`), '-Wl,-rpath,$ORIGIN/../../deps/lib'],
    ...['-o', binding],
  ]);
  rmSync(join(deps, 'include'), { recursive: true });
  await run(process.execPath, ['-e', 'require(process.argv[1])', binding]);
}

async function prepare() {
  const pins = JSON.stringify([WHEEL, NPM, NAPI]);
  if (existsSync(prepared) && readFileSync(prepared, 'utf8') === pins) return;
  if (process.platform !== 'linux') throw new Unavailable('the wheel is used on Linux only');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await run('c++', ['--version']); // before 300 MB come over the network
  // Both to their end, also where one fails: the folder is removed then.
  for (const { reason } of await Promise.allSettled([fetchPackage(), fetchLibraries()])) if (reason) throw reason;
  try {
    await compileBinding();
  } catch (error) {
    throw new Error(`the binding of tfjs-node: ${error.message}`, { cause: error });
  }
  writeFileSync(prepared, pins); // last: a folder without it was cut short
}

try {
  await prepare();
  linkTfjsNode();
  console.log(`the tensorflow backend: tfjs-node ${NPM['@tensorflow/tfjs-node']} on ${WHEEL[0]}`);
} catch (error) {
  rmSync(folder, { recursive: true, force: true });
  console.log(`no tensorflow backend: ${error.message}`);
  if (!(error instanceof Unavailable)) process.exitCode = 1;
}
