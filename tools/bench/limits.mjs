// The bare loops of native/limits.cc, compiled on the spot: the best that memory gives, whatever a lookup does.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { medianOf, takeTurns } from './measure.mjs';

const require = createRequire(import.meta.url);
const source = fileURLToPath(new URL('native/limits.cc', import.meta.url));
const folder = fileURLToPath(new URL('../../.cache/bench/', import.meta.url));
// The kernels' own flags, and all that this processor has.
const flags = [
  '-O3',
  '-std=c++17',
  '-shared',
  '-fPIC',
  '-fvisibility=hidden',
  '-Wno-psabi',
  '-pthread',
  '-march=native',
];
if (process.platform === 'darwin') flags.push('-undefined', 'dynamic_lookup');

/** The loops, or `{ missing }` with the reason why they are not to be had. */
export function loadLimits() {
  const [command, ...given] = (process.env.CXX || 'c++').trim().split(/\s+/);
  const version = spawnSync(command, [...given, '--version'], { encoding: 'utf8' });
  if (process.platform === 'win32' || version.status !== 0)
    return { missing: `there is no C++ compiler called "${command}"` };
  const include = require('node-api-headers').include_dir;
  const key = createHash('sha256')
    .update(JSON.stringify([flags, version.stdout]))
    .update(readFileSync(source));
  const library = `${folder}limits-${key.digest('hex').slice(0, 16)}.node`;
  if (!existsSync(library)) {
    mkdirSync(folder, { recursive: true });
    const temporary = `${library}.${process.pid}`;
    const args = [...given, ...flags, '-DNAPI_VERSION=8', `-I${include}`, source, '-o', temporary];
    const compiled = spawnSync(command, args, { encoding: 'utf8' });
    if (compiled.status !== 0) {
      rmSync(temporary, { force: true });
      return { missing: `the compiler failed: ${compiled.stderr.split('\n').find((l) => /error/i.test(l))}` };
    }
    renameSync(temporary, library);
  }
  return require(library);
}

const hints = { none: -1, nta: 0, t2: 1, t1: 2, t0: 3 };
const distances = [2, 4, 8, 12, 16, 24, 32, 48, 64];

/** Every way of reading that is tried. */
export const variants = everyVariant();

function everyVariant() {
  const all = [];
  for (const whole of [1, 0]) {
    for (const [name, hint] of Object.entries(hints)) {
      for (const ahead of hint < 0 ? [0] : distances) {
        const loads = whole ? 'vector loads of whole lines' : 'one load a line';
        const prefetch = hint < 0 ? 'no prefetch' : `prefetch ${name} ${ahead} rows ahead`;
        all.push({ whole, hint, ahead, name: `${loads}, ${prefetch}` });
      }
    }
  }
  return all;
}

/**
 * The fastest way of reading these rows on one thread: every variant in turns, then the best few again.
 * @param read calls the addon for batch i with a variant
 */
export async function fastestReader(read) {
  const race = async (candidates, rounds) => {
    const times = await takeTurns(
      candidates.map((variant) => (round) => read(round, variant)),
      { rounds, warmUp: 1 },
    );
    return candidates
      .map((variant, i) => ({ variant, time: medianOf(times[i]) }))
      .sort((a, b) => a.time - b.time)
      .map(({ variant }) => variant);
  };
  const [best] = await race((await race(variants, 5)).slice(0, 6), 25);
  return best;
}
