/** Chooses an implementation, once per process and setting. */
import { availableParallelism } from 'node:os';
import { FinetableError } from '@finetable/core';
import { CheckedKernels, mostThreads } from './check/checked.ts';
import { checkInteger } from './check/values.ts';
import type { Kernels } from './kernels.ts';
import { portableKernels } from './portable/portable.ts';

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
  const kind = options.kind ?? kindFromEnvironment() ?? 'portable';
  const threads = options.threads ?? defaultThreads();
  checkInteger('loadKernels', 'threads', threads, 1, mostThreads);
  const key = `${kind} ${threads}`;
  let kernels = loaded.get(key);
  if (!kernels) {
    kernels = new CheckedKernels(portableKernels(threads));
    loaded.set(key, kernels);
  }
  return kernels;
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
