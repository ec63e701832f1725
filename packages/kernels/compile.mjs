/** Compiles addons, for installs, builds with sanitizers, and the benchmarks' own loops. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';

const filesIn = (sources) =>
  readdirSync(sources)
    .sort()
    .map((file) => join(sources, file));
const unitsIn = (sources) => filesIn(sources).filter((file) => file.endsWith('.cc'));
const kernelUnits = () => unitsIn(join(import.meta.dirname, 'native'));

// Contraction is off because one expression must round alike wherever it is inlined: the kernels say where they fuse.
export const flags = [
  '-O3',
  '-std=c++17',
  '-fPIC',
  '-fvisibility=hidden',
  '-ffp-contract=off',
  '-Wno-psabi',
  '-pthread',
];
const linking = ['-shared', ...(process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : [])];

/** Thrown for what people can act on. */
export class CannotBuild extends Error {}

/** @param line a command, which may carry arguments, as in "ccache g++" @throws CannotBuild where it is not there */
export function compilerOf(line = process.env.CXX || 'c++') {
  const [command, ...given] = line.trim().split(/\s+/);
  const version = spawnSync(command, [...given, '--version'], { encoding: 'utf8' });
  if (version.error || version.status !== 0) throw new CannotBuild(`there is no C++ compiler called "${command}"`);
  return { command, given, version: version.stdout.split('\n')[0] };
}

/**
 * Units at the same time, as many as there are cores, then the library.
 * @param more flags after the usual ones, which they override
 * @param units default: the kernels'
 * @throws CannotBuild with the compiler's first complaint
 */
export async function compile({ command, given }, output, more = [], units = kernelUnits()) {
  const include = createRequire(import.meta.url)('node-api-headers').include_dir;
  const all = [...given, ...flags, ...more];
  const objects = mkdtempSync(join(dirname(output), 'objects-'));
  try {
    const objectOf = (unit) => join(objects, `${basename(unit)}.o`);
    // Those of an instruction set take by far the longest.
    const left = [...units].sort((a, b) => Number(b.includes('isa_')) - Number(a.includes('isa_')));
    const work = async () => {
      for (let unit = left.shift(); unit !== undefined; unit = left.shift())
        await run(command, [...all, '-DNAPI_VERSION=8', `-I${include}`, '-c', unit, '-o', objectOf(unit)]);
    };
    await Promise.all(Array.from({ length: availableParallelism() }, work));
    await run(command, [...all, ...linking, ...units.map(objectOf), '-o', output]);
  } finally {
    rmSync(objects, { recursive: true, force: true });
  }
}

/**
 * Builds what is in a package's `native` to `build/<name>.node`, where its sources, the compiler or the machine have changed, and writes down
 * in `build/status.json` what was built, or why nothing was. One made from other sources does not stay.
 * @param compiler gives one, or throws
 * @throws CannotBuild, or whatever else went wrong
 */
export async function buildAddon({ folder, name, compiler, more = [] }) {
  const [build, sources] = [join(folder, 'build'), join(folder, 'native')];
  const [addon, statusFile] = [join(build, `${name}.node`), join(build, 'status.json')];
  const writeStatus = (status) => {
    const temporary = `${statusFile}.${process.pid}`;
    writeFileSync(temporary, `${JSON.stringify(status, null, 2)}\n`);
    renameSync(temporary, statusFile);
  };
  mkdirSync(build, { recursive: true });
  try {
    if (process.platform === 'win32') throw new CannotBuild('they are not made for Windows yet');
    const found = compiler();
    const hash = hashOf(filesIn(sources), [found, flags, more, process.platform, process.arch]);
    if (previous(addon, statusFile).hash === hash) return;
    const began = performance.now();
    const temporary = join(build, `${name}.${process.pid}.node`);
    try {
      await compile(found, temporary, more, unitsIn(sources));
      // A library for another architecture, say, must not replace what works.
      const loaded = spawnSync(process.execPath, ['-e', 'require(process.argv[1])', temporary], { encoding: 'utf8' });
      if (loaded.status !== 0)
        throw new CannotBuild(`what the compiler made does not load: ${loaded.stderr.match(/Error: .*/)?.[0]}`);
      renameSync(temporary, addon);
    } finally {
      rmSync(temporary, { force: true });
    }
    const seconds = Math.round((performance.now() - began) / 100) / 10;
    writeStatus({ built: true, hash, compiler: found.version, seconds });
  } catch (error) {
    rmSync(addon, { force: true }); // one made from other sources may not fit this TypeScript
    writeStatus({ built: false, reason: error.message });
    throw error;
  }
}

function previous(addon, statusFile) {
  try {
    statSync(addon);
    return JSON.parse(readFileSync(statusFile, 'utf8'));
  } catch {
    return {};
  }
}

function hashOf(files, parts) {
  const hash = createHash('sha256').update(JSON.stringify(parts));
  for (const file of files) hash.update(`\n${basename(file)}\n`).update(readFileSync(file));
  return hash.digest('hex');
}

function run(command, args) {
  return new Promise((resolve, reject) => {
    const process = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaints = '';
    process.stderr.setEncoding('utf8').on('data', (text) => (complaints += text));
    const fail = (text) => reject(new CannotBuild(`the compiler failed: ${text}`));
    process.on('error', ({ message }) => fail(message));
    process.on('close', (code, signal) => {
      if (code === 0) return resolve();
      const lines = complaints.split('\n');
      fail(lines.find((line) => /error|fatal|undefined/i.test(line)) || lines[0] || `it ended with ${signal ?? code}`);
    });
  });
}
