/** Compiles the addon, for the install, builds with sanitizers, and the benchmarks' own loops. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';

export const sources = join(import.meta.dirname, 'native');
export const sourceFiles = () => readdirSync(sources).sort();
const kernelUnits = () =>
  sourceFiles()
    .filter((file) => file.endsWith('.cc'))
    .map((file) => join(sources, file));

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

export function compilerOf() {
  // CXX may carry arguments, as in "ccache g++".
  const [command, ...given] = (process.env.CXX || 'c++').trim().split(/\s+/);
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
