/** An adapter's folder: the two files in it, written together or not at all. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import { recoverFolder, writeFileAtomic, writeFolderAtomic } from '../atomic.ts';
import { ioError } from '../io.ts';
import { formatJson } from '../json.ts';
import { writeSafetensors, type TensorSource } from '../safetensors/write.ts';
import { configName, tensorsName } from './config.ts';

/** How an adapter's folder is written. */
export interface SaveOptions {
  /** Replace an adapter that is there. A folder that is not an adapter is never replaced. */
  readonly overwrite?: boolean | undefined;
}

export async function writeAdapterFolder(
  folder: string,
  config: object,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>>,
  { overwrite = false }: SaveOptions,
): Promise<void> {
  if (overwrite && (await recoverFolder(folder)) && !(await exists(join(folder, configName)))) {
    const message = `${folder}: is there, and is not an adapter (it has no ${configName}); choose another name`;
    throw new FinetableError('EXISTS', message, { file: folder });
  }
  const build = async (temporary: string): Promise<void> => {
    await writeSafetensors(join(temporary, tensorsName), tensors, metadata);
    await writeFileAtomic(join(temporary, configName), formatJson(config));
  };
  await writeFolderAtomic(folder, build, { overwrite });
}

/**
 * The folder that holds `adapter_config.json`: `folder`, or its one sub-folder that does (PEFT saves an adapter that is not
 * named `default` there).
 * @throws NOT_FOUND, naming the sub-folders where there are several
 */
export async function findAdapterFolder(folder: string): Promise<string> {
  await recoverFolder(folder);
  if (await exists(join(folder, configName))) return folder;
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    throw ioError(error, 'reading', folder);
  });
  const found: string[] = [];
  for (const entry of entries) {
    if (entry.isDirectory() && !entry.name.startsWith('.') && (await exists(join(folder, entry.name, configName))))
      found.push(entry.name);
  }
  if (found.length === 1) return join(folder, found[0]!);
  const message =
    found.length === 0
      ? `${folder}: has no ${configName}, nor has a folder in it; is this an adapter?`
      : `${folder}: holds ${found.length} adapters (${found.sort().join(', ')}); name one of these folders`;
  throw new FinetableError('NOT_FOUND', message, { file: folder });
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    const wrapped = ioError(error, 'reading', path);
    if (wrapped.code === 'NOT_FOUND') return false;
    throw wrapped;
  }
}
