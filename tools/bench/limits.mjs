// The bare loops of native/limits.cc, compiled on the spot: the best that memory gives, whatever a lookup does.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { CannotBuild, compile, compilerOf, flags } from '../../packages/kernels/compile.mjs';
import { medianOf, takeTurns } from './measure.mjs';

const require = createRequire(import.meta.url);
const source = fileURLToPath(new URL('native/limits.cc', import.meta.url));
const folder = fileURLToPath(new URL('../../.cache/bench/', import.meta.url));
const everything = ['-march=native']; // of this processor

/** The loops, or `{ missing }` with the reason why they are not to be had. */
export async function loadLimits() {
  try {
    if (process.platform === 'win32') throw new CannotBuild('they are not made for Windows');
    const compiler = compilerOf();
    const key = createHash('sha256').update(JSON.stringify([compiler, flags, everything]));
    const library = `${folder}limits-${key.update(readFileSync(source)).digest('hex').slice(0, 16)}.node`;
    if (!existsSync(library)) await build(compiler, library);
    return require(library);
  } catch (error) {
    if (error instanceof CannotBuild) return { missing: error.message };
    throw error;
  }
}

async function build(compiler, library) {
  mkdirSync(folder, { recursive: true });
  const temporary = `${library}.${process.pid}`;
  try {
    await compile(compiler, temporary, everything, [source]);
    renameSync(temporary, library);
  } finally {
    rmSync(temporary, { force: true });
  }
}

const lineBytes = 64;
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

/** The fastest on one thread: every way in turns, then the best few again. */
async function fastest(read) {
  const race = async (candidates, rounds) => {
    const times = await takeTurns(
      candidates.map((variant) => (round) => read(round, 1, variant)),
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

/**
 * Reads the lines of round i's batch as a lookup does, in the fastest way found: rows of the base and, with an adapter, the rows
 * of A that ids have.
 * @param regions rows, and with an adapter factors, allocated here
 */
export async function readerOf(limits, { rows, factors }, rowBytes, batches, adapter) {
  const slots = batches.map(({ ids }) => {
    if (!adapter) return null;
    const found = new Int32Array(ids.length);
    adapter.groups[0].slots.find(ids, found);
    return found;
  });
  const read = (round, threads, { whole, hint, ahead }) => {
    const i = round % batches.length;
    const ofA = adapter ? [factors, adapter.groups[0].rank * 4, slots[i]] : [null, 0, null];
    limits.readRows(rows, rowBytes / lineBytes, batches[i].ids, ...ofA, whole, hint, ahead, threads);
  };
  const variant = await fastest(read);
  return { name: variant.name, read: (round, threads = 1) => read(round, threads, variant) };
}
