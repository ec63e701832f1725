/** npm's `webgpu` (Dawn), an optional peer: looked for when a device is first asked for. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { FinetableError } from '@finetable/core';

interface Dawn {
  create(options: readonly string[]): GPU;
}

const require = createRequire(import.meta.url);
const name = 'webgpu';

let opened: { readonly gpu: GPU; readonly version: string } | null = null;

/**
 * WebGPU of this process. Kept for good, since devices end with what `create` returned.
 * @throws UNSUPPORTED where the package is not installed, or not for this platform
 */
export async function openDawn(): Promise<{ readonly gpu: GPU; readonly version: string }> {
  if (opened) return opened;
  const path = find();
  try {
    const { create } = (await import(pathToFileURL(path).href)) as Dawn;
    const { version } = require(`${name}/package.json`) as { version: string };
    opened = { gpu: create([]), version };
    return opened;
  } catch (error) {
    const message = error instanceof Error ? error.message.split('\n', 1)[0] : String(error);
    throw new FinetableError(
      'UNSUPPORTED',
      `npm's webgpu cannot be loaded on ${process.platform} ${process.arch}: ${message}`,
      { package: name, missing: false },
      { cause: error },
    );
  }
}

function find(): string {
  try {
    return require.resolve(name);
  } catch (error) {
    throw new FinetableError(
      'UNSUPPORTED',
      "@finetable/webgpu needs npm's webgpu (Dawn): npm install webgpu",
      { package: name, missing: true },
      { cause: error },
    );
  }
}
