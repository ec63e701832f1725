/**
 * Builds the native kernels: one call of a C++ compiler, no other tool. Runs when the package is installed, and never
 * fails that: where it cannot build, the portable kernels serve, and `build/status.json` says why.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const root = import.meta.dirname;
const sources = join(root, 'native');
const build = join(root, 'build');
const addon = join(build, 'finetable.node');
const statusFile = join(build, 'status.json');

// Contraction is off because one expression must round alike wherever it is inlined: the kernels say where they fuse.
const flags = [
  '-O3',
  '-std=c++17',
  '-shared',
  '-fPIC',
  '-fvisibility=hidden',
  '-ffp-contract=off',
  '-Wno-psabi',
  '-pthread',
];
if (process.platform === 'darwin') flags.push('-undefined', 'dynamic_lookup');

/** Thrown for what people can act on. */
class CannotBuild extends Error {}

function compilerOf() {
  // CXX may carry arguments, as in "ccache g++".
  const [command, ...given] = (process.env.CXX || 'c++').trim().split(/\s+/);
  const version = spawnSync(command, [...given, '--version'], { encoding: 'utf8' });
  if (version.error || version.status !== 0) throw new CannotBuild(`there is no C++ compiler called "${command}"`);
  return { command, given, version: version.stdout.split('\n')[0] };
}

function hashOf(files, parts) {
  const hash = createHash('sha256').update(JSON.stringify(parts));
  for (const file of files) hash.update(`\n${file}\n`).update(readFileSync(join(sources, file)));
  return hash.digest('hex');
}

function previous() {
  try {
    statSync(addon);
    return JSON.parse(readFileSync(statusFile, 'utf8'));
  } catch {
    return {};
  }
}

function compile({ command, given }, files, include) {
  const temporary = join(build, `finetable.${process.pid}.node`);
  try {
    const units = files.filter((file) => file.endsWith('.cc')).map((file) => join(sources, file));
    const args = [...given, ...flags, '-DNAPI_VERSION=8', `-I${include}`, ...units, '-o', temporary];
    const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 2 ** 26 });
    if (result.status !== 0) {
      const output = `${result.stderr}${result.error?.message ?? ''}`.split('\n');
      const line = output.find((text) => /error|fatal|undefined/i.test(text)) ?? output[0];
      throw new CannotBuild(`the compiler failed: ${line}`);
    }
    // A library for another architecture, say, must not replace what works.
    const loaded = spawnSync(process.execPath, ['-e', 'require(process.argv[1])', temporary], { encoding: 'utf8' });
    if (loaded.status !== 0)
      throw new CannotBuild(`what the compiler made does not load: ${loaded.stderr.match(/Error: .*/)?.[0]}`);
    renameSync(temporary, addon);
  } finally {
    rmSync(temporary, { force: true });
  }
}

function writeStatus(status) {
  const temporary = `${statusFile}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(status, null, 2)}\n`);
  renameSync(temporary, statusFile);
}

try {
  mkdirSync(build, { recursive: true });
  try {
    if (process.platform === 'win32') throw new CannotBuild('they are not made for Windows yet');
    const compiler = compilerOf();
    const include = createRequire(import.meta.url)('node-api-headers').include_dir;
    const files = readdirSync(sources).sort();
    const hash = hashOf(files, [compiler, flags, process.platform, process.arch]);
    if (previous().hash !== hash) {
      const began = performance.now();
      compile(compiler, files, include);
      const seconds = Math.round((performance.now() - began) / 100) / 10;
      writeStatus({ built: true, hash, compiler: compiler.version, seconds });
    }
  } catch (error) {
    rmSync(addon, { force: true }); // one made from other sources may not fit this TypeScript
    writeStatus({ built: false, reason: error.message });
    throw error;
  }
} catch (error) {
  console.log(
    `@finetable/kernels: no native kernels, because ${error.message}. The portable ones serve, several times slower. ` +
      'With a C++ compiler: npm rebuild @finetable/kernels',
  );
}
