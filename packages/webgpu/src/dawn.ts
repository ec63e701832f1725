/** npm's `webgpu` (Dawn), an optional peer: looked for by name when a device is first asked for. */
import { createRequire } from 'node:module';
import { FinetableError } from '@finetable/core';

interface Dawn {
  create(options: readonly string[]): GPU;
  readonly globals: {
    readonly GPUBufferUsage: GPUBufferUsage;
    readonly GPUMapMode: GPUMapMode;
  };
}

let opened: { readonly gpu: GPU; readonly version: string } | null = null;

/**
 * WebGPU of this process. Kept for good, since devices end with what `create` returned.
 * @throws UNSUPPORTED where the package is not installed, or not for this platform
 */
export async function openDawn(): Promise<{ readonly gpu: GPU; readonly version: string }> {
  if (opened) return opened;
  const name: string = 'webgpu';
  try {
    const { create } = (await import(name)) as Dawn;
    const { version } = createRequire(import.meta.url)(`${name}/package.json`) as { version: string };
    opened = { gpu: create([]), version };
    return opened;
  } catch (error) {
    const message = error instanceof Error ? error.message.split('\n', 1)[0] : String(error);
    const missing = /Cannot find (package|module) 'webgpu'/.test(message!);
    throw new FinetableError(
      'UNSUPPORTED',
      missing
        ? "@finetable/webgpu needs npm's webgpu (Dawn): npm install webgpu"
        : `npm's webgpu cannot be loaded on ${process.platform} ${process.arch}: ${message}`,
      { package: name, missing },
      { cause: error },
    );
  }
}
