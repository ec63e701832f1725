/** Both implementations, as far as this machine has them. */
import { test, type TestContext } from 'vitest';
import { CheckedKernels } from '../check/checked.ts';
import type { Kernels } from '../kernels.ts';
import { findAddon, type Addon } from '../native/addon.ts';
import { nativeKernels } from '../native/native.ts';
import { portableKernels } from '../portable/portable.ts';

export const portable: Kernels = new CheckedKernels(portableKernels());

/** The addon, or the test is skipped, with the reason. */
export function needAddon(context: TestContext): Addon {
  const found = findAddon();
  if ('addon' in found) return found.addon;
  return context.skip(`no native kernels: ${found.missing}`);
}

export const native = (addon: Addon, threads = 1, instructionSet: string | null = null): Kernels =>
  new CheckedKernels(nativeKernels(addon, threads, instructionSet));

/** The instruction sets that this processor has. */
export function instructionSets(addon: Addon): string[] {
  return ['sse2', 'neon', 'scalar', 'avx2', 'avx512'].filter((name) => addon.createContext(name, 1) !== null);
}

/** One test for each implementation. */
export function testBoth(name: string, body: (kernels: Kernels) => void | Promise<void>): void {
  test(`portable: ${name}`, () => body(portable));
  test(`native: ${name}`, (context) => body(native(needAddon(context), 2)));
}
