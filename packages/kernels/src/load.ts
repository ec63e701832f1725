/** Chooses an implementation, once per process and setting. */
import { availableParallelism } from 'node:os';
import { FinetableError } from '@finetable/core';
import { CheckedKernels, mostThreads } from './check/checked.ts';
import { checkInteger, refuse } from './check/values.ts';
import type { Kernels } from './kernels.ts';
import { findAddon, type Addon } from './native/addon.ts';
import { nativeKernels } from './native/native.ts';
import { portableKernels } from './portable/portable.ts';

/** Which kernels are loaded, and with how many threads. */
export interface LoadOptions {
  /** Default: the environment's `FINETABLE_KERNELS`, else `native` where the addon was built, else `portable`. */
  readonly kind?: 'native' | 'portable';
  /** Default: the environment's `FINETABLE_THREADS`, else as many as the process may use at once. */
  readonly threads?: number;
}

const loaded = new Map<string, Kernels>();

/**
 * The kernels; the same object for the same options.
 * @throws INVALID_ARGUMENT for a bad option or environment variable, UNSUPPORTED where `native` is asked for and was not built
 */
export function loadKernels(options: LoadOptions = {}): Kernels {
  const kind = options.kind ?? kindFromEnvironment() ?? ('addon' in findAddon() ? 'native' : 'portable');
  if (kind !== 'native' && kind !== 'portable') refuse('loadKernels', 'kind', 'must be native or portable');
  const threads = options.threads ?? defaultThreads();
  checkInteger('loadKernels', 'threads', threads, 1, mostThreads);
  const key = `${kind} ${threads}`;
  let kernels = loaded.get(key);
  if (!kernels) {
    kernels = new CheckedKernels(kind === 'native' ? nativeKernels(addonOrThrow(), threads) : portableKernels(threads));
    loaded.set(key, kernels);
  }
  return kernels;
}

function addonOrThrow(): Addon {
  const found = findAddon();
  if ('addon' in found) return found.addon;
  throw new FinetableError(
    'UNSUPPORTED',
    `native kernels were asked for, but there are none: ${found.missing}. With a C++ compiler: npm rebuild @finetable/kernels`,
    { reason: found.missing },
  );
}

/** What this machine offers and what would be used; throws nothing. */
export interface KernelsStatus {
  /** Of `loadKernels()`, or null where the environment is wrong. */
  readonly kind: 'native' | 'portable' | null;
  readonly native: boolean;
  /** Why there is no native addon, or what is wrong with the environment; null where all is well. */
  readonly reason: string | null;
  /** `avx512`, `avx2`, `sse2` or `neon`; null without the addon. */
  readonly instructionSet: string | null;
  readonly threads: number | null;
}

/** Which kernels there are on this machine, and if none are native, why. Loads nothing for others to use. */
export function kernelsStatus(): KernelsStatus {
  const found = findAddon();
  const native = 'addon' in found;
  const context = native ? found.addon.createContext(null, 1) : null;
  const instructionSet = native && context ? found.addon.instructionSet(context) : null;
  try {
    const { name, threads } = loadKernels();
    return { kind: name, native, reason: native ? null : found.missing, instructionSet, threads };
  } catch (error) {
    return { kind: null, native, reason: (error as Error).message, instructionSet, threads: null };
  }
}

function kindFromEnvironment(): 'native' | 'portable' | undefined {
  const kind = process.env.FINETABLE_KERNELS;
  if (kind === undefined || kind === '') return undefined;
  if (kind === 'native' || kind === 'portable') return kind;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `FINETABLE_KERNELS is "${kind}"; allowed: native, portable, or leave it out`,
  );
}

function defaultThreads(): number {
  const text = process.env.FINETABLE_THREADS;
  if (text === undefined || text === '') return Math.min(availableParallelism(), mostThreads);
  const threads = Number(text);
  if (/^\d+$/.test(text) && threads >= 1 && threads <= mostThreads) return threads;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `FINETABLE_THREADS is "${text}"; allowed: an integer from 1 to ${mostThreads}`,
  );
}
