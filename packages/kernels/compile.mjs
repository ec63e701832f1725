/** The one compiler call that makes the addon, for the install, builds with sanitizers, and the benchmarks' own loops. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

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
  '-shared',
  '-fPIC',
  '-fvisibility=hidden',
  '-ffp-contract=off',
  '-Wno-psabi',
  '-pthread',
];
if (process.platform === 'darwin') flags.push('-undefined', 'dynamic_lookup');

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
 * @param more flags after the usual ones, which they override
 * @param units default: the kernels'
 * @throws CannotBuild with the compiler's first complaint
 */
export function compile({ command, given }, output, more = [], units = kernelUnits()) {
  const include = createRequire(import.meta.url)('node-api-headers').include_dir;
  const args = [...given, ...flags, ...more, '-DNAPI_VERSION=8', `-I${include}`, ...units, '-o', output];
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (result.status === 0) return;
  const lines = `${result.stderr}${result.error?.message ?? ''}`.split('\n');
  throw new CannotBuild(
    `the compiler failed: ${lines.find((text) => /error|fatal|undefined/i.test(text)) ?? lines[0]}`,
  );
}
