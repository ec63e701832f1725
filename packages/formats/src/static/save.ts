/** A model folder written again, its table's rows changed on the way; the rest byte for byte. */
import { mkdir, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { FinetableError } from '@finetable/core';
import { exists, type SaveOptions } from '../adapter/folder.ts';
import { recoverFolder, writeFileAtomic, writeFolderAtomic } from '../atomic.ts';
import { ioError, readChunks, withFile } from '../io.ts';
import { openSafetensors } from '../safetensors/model.ts';
import type { StaticLayout } from './layout.ts';

/** Overwrites what changes of whole rows, in the file's dtype, of which `firstRow` is the first. */
export type ChangeRows = (firstRow: number, rows: Uint8Array) => void | Promise<void>;

/** Bytes of rows held at a time. */
const blockBytes = 2 ** 22;

/**
 * Writes a model folder, whole or not at all, holding a few MiB of it at a time. Configurations, the tokenizer, texts and all
 * tensors but the table's are copied byte for byte. Other files are left out, since some would hold the weights as they
 * were (ONNX, `pytorch_model.bin`).
 * @returns the names left out
 * @throws EXISTS, INVALID_ARGUMENT where `folder` is the model's own, IO, what `change` throws
 */
export async function saveStaticFolder(
  layout: StaticLayout,
  folder: string,
  change: ChangeRows | null,
  { overwrite = false }: SaveOptions = {},
): Promise<string[]> {
  if (resolve(folder) === resolve(layout.folder)) {
    const message = `${folder}: is the model itself, which is never overwritten; name another folder`;
    throw new FinetableError('INVALID_ARGUMENT', message, { file: folder });
  }
  if (overwrite && (await recoverFolder(folder)) && !(await isModel(folder))) {
    const message = `${folder}: is there, and is not a model (it has no modules.json or model.safetensors); choose another name`;
    throw new FinetableError('EXISTS', message, { file: folder });
  }
  const leftOut: string[] = [];
  const build = async (temporary: string): Promise<void> => {
    const table = resolve(layout.file);
    for (const part of layout.folders) {
      await mkdir(join(temporary, part), { recursive: true });
      for (const name of await filesIn(join(layout.folder, part))) {
        const path = join(part, name);
        const from = join(layout.folder, path);
        if (resolve(from) === table) await writeFileAtomic(join(temporary, path), tableFile(layout, change));
        else if (isCopied(name)) await writeFileAtomic(join(temporary, path), wholeFile(from));
        else leftOut.push(path);
      }
    }
  };
  await writeFolderAtomic(folder, build, { overwrite });
  return leftOut;
}

/** What describes a model; an index of safetensors would name files that are not there. */
const isCopied = (name: string): boolean =>
  /^[^.]+$|\.(json|txt|md|model)$/i.test(name) && !name.endsWith('.index.json');

async function isModel(folder: string): Promise<boolean> {
  return (await exists(join(folder, 'modules.json'))) || (await exists(join(folder, 'model.safetensors')));
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    // A Normalize module has nothing to keep, and some writers make no folder for it.
    const wrapped = ioError(error, 'reading', folder);
    if (wrapped.code === 'NOT_FOUND') return [];
    throw wrapped;
  });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map(({ name }) => name)
    .sort();
}

async function* wholeFile(path: string): AsyncGenerator<Uint8Array> {
  const { bytes } = await withFile(path, (file) => Promise.resolve(file));
  yield* readChunks(path, { byteOffset: 0, byteLength: bytes }, blockBytes);
}

/** The bytes of the table's file in order: what comes before the table, its rows as they are changed, what comes after. */
async function* tableFile({ file, tensor }: StaticLayout, change: ChangeRows | null): AsyncGenerator<Uint8Array> {
  const { tensors, fileBytes } = await openSafetensors(file);
  const { byteOffset, byteLength, shape } = tensors.get(tensor)!;
  yield* readChunks(file, { byteOffset: 0, byteLength: byteOffset }, blockBytes);
  const rowBytes = byteLength / shape[0]!;
  const blockRows = Math.max(1, Math.floor(blockBytes / rowBytes));
  let firstRow = 0;
  for await (const rows of readChunks(file, { byteOffset, byteLength }, blockRows * rowBytes)) {
    await change?.(firstRow, rows);
    yield rows;
    firstRow += rows.length / rowBytes;
  }
  const end = byteOffset + byteLength;
  yield* readChunks(file, { byteOffset: end, byteLength: fileBytes - end }, blockBytes);
}
