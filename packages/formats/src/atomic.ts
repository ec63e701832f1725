/**
 * Files and folders that are either there complete or not at all. Both are made under a temporary name in the same folder,
 * flushed to the disk, and renamed. On failure the temporary name is removed and what was there before stays.
 *
 * What a killed process can leave behind, all in the folder of the target:
 * - `.finetable-tmp-<16 hex digits>`: never complete in a way anybody may rely on;
 * - `.finetable-old-<name>`: the complete former folder `<name>`, moved aside by a replacement. If `<name>` is there, the new
 *   one is complete and the old one is rubbish; if not, the kill came between the two renames and the old one is put
 *   back. {@link recoverFolder} does this for one folder, {@link removeLeftovers} for everything in a folder.
 */
import { randomBytes } from 'node:crypto';
import { lstat, mkdir, open, readdir, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { FinetableError } from '@finetable/core';
import { ioError, largestTransferBytes } from './io.ts';

const temporaryPattern = /^\.finetable-tmp-[0-9a-f]{16}$/;
const asidePrefix = '.finetable-old-';

/** Appends `chunk`, or with `position` overwrites bytes written before, such as a header whose numbers are known last. */
export type WriteChunk = (chunk: Uint8Array, position?: number) => Promise<void>;

/** The content of a file: whole, as a stream, or as a function that writes. A chunk may be reused once its write is done. */
export type FileContent = Uint8Array | string | AsyncIterable<Uint8Array> | ((write: WriteChunk) => Promise<void>);

/**
 * Writes a file, replacing one that is there; a symbolic link is replaced, not followed.
 * @throws IO (disk full, permissions, …); INVALID_ARGUMENT where `path` is there and not a regular file; whatever the content throws
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  const kind = await kindOf(path);
  if (kind === 'folder' || kind === 'other') {
    const found = kind === 'folder' ? 'a folder' : 'not a regular file';
    throw new FinetableError('INVALID_ARGUMENT', `${path}: is ${found} and is not overwritten; name a file`, {
      file: path,
    });
  }
  const temporary = temporaryName(path);
  const handle = await writing(path, () => open(temporary, 'wx'));
  try {
    try {
      await writeContent(path, handle, content);
      await writing(path, () => handle.sync());
    } finally {
      await handle.close();
    }
    await writing(path, () => rename(temporary, path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined); // the first error is the one to report
    throw error;
  }
  await writing(path, () => syncPath(dirname(path)));
}

/** Bytes put aside on the disk: written once, then read once. */
export interface Spool {
  /** Appends bytes, and waits until they are taken. */
  readonly write: (chunk: Uint8Array) => Promise<void>;
  /** All that was written; a chunk is overwritten by the next one. */
  readonly read: () => AsyncGenerator<Uint8Array, void, undefined>;
}

/** Room on the disk of `path` for `use`. The file has no name, so that no end of the process leaves it there. @throws IO */
export async function withSpool<T>(path: string, use: (spool: Spool) => Promise<T>): Promise<T> {
  const temporary = temporaryName(path);
  const handle = await writing(path, () => open(temporary, 'wx+'));
  try {
    await writing(path, () => rm(temporary));
    return await use({
      write: (chunk) => writing(path, () => handle.appendFile(chunk)),
      async *read() {
        const buffer = new Uint8Array(spoolChunkBytes);
        for (let position = 0; ;) {
          const { bytesRead } = await writing(path, () => handle.read(buffer, 0, buffer.length, position));
          if (bytesRead === 0) return;
          yield buffer.subarray(0, bytesRead);
          position += bytesRead;
        }
      },
    });
  } finally {
    await handle.close();
  }
}

const spoolChunkBytes = 2 ** 20;

async function writeContent(path: string, handle: FileHandle, content: FileContent): Promise<void> {
  let end = 0;
  const put = async (chunk: Uint8Array, position?: number): Promise<void> => {
    const begin = position ?? end;
    for (let done = 0; done < chunk.byteLength;) {
      const length = Math.min(chunk.byteLength - done, largestTransferBytes);
      done += (await writing(path, () => handle.write(chunk, done, length, begin + done))).bytesWritten;
    }
    end = Math.max(end, begin + chunk.byteLength);
  };
  if (typeof content === 'string') return put(new TextEncoder().encode(content));
  if (content instanceof Uint8Array) return put(content);
  if (typeof content !== 'function') {
    for await (const chunk of content) await put(chunk);
    return;
  }
  // Writes go one after the other even if the function does not await them, and one that failed fails the file even if
  // the function swallowed the error.
  let last = Promise.resolve();
  const write: WriteChunk = (chunk, position) => (last = last.then(() => put(chunk, position)));
  try {
    await content(write);
  } finally {
    await last.catch(() => undefined);
  }
  await last;
}

/**
 * Makes a folder complete or not at all; missing parent folders are made.
 * @param build fills the temporary folder, an absolute path
 * @param options.overwrite puts the new folder in the place of one that is there; there is a moment, between two renames, when
 * neither is at `path` (see {@link recoverFolder})
 * @throws EXISTS where `path` is there and `overwrite` is not set; IO; whatever `build` throws
 */
export async function writeFolderAtomic(
  path: string,
  build: (temporaryFolder: string) => Promise<void>,
  options: { readonly overwrite?: boolean | undefined } = {},
): Promise<void> {
  await recoverFolder(path);
  const kind = await kindOf(path);
  if (kind !== 'nothing' && (kind !== 'folder' || options.overwrite !== true)) {
    const remedy =
      kind === 'folder'
        ? 'remove it, choose another name, or ask for it to be replaced'
        : 'it is not a folder; choose another name';
    throw new FinetableError('EXISTS', `${path}: is already there; ${remedy}`, { file: path });
  }
  const temporary = temporaryName(path);
  const aside = asideName(path);
  await writing(path, () => mkdir(dirname(path), { recursive: true }));
  try {
    await writing(path, () => mkdir(temporary));
    await build(temporary);
    await writing(path, () => syncTree(temporary));
    if (kind === 'folder') await writing(path, () => rename(path, aside));
    try {
      await writing(path, () => rename(temporary, path));
    } catch (error) {
      if (kind === 'folder') await writing(path, () => rename(aside, path));
      throw error;
    }
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined); // the first error is the one to report
    throw error;
  }
  await writing(path, () => syncPath(dirname(path)));
  if (kind === 'folder') await writing(path, () => rm(aside, { recursive: true, force: true }));
}

/** Removes a folder that others may look for: at once by its name, then its files. @throws IO */
export async function removeFolderAtomic(path: string): Promise<void> {
  const temporary = temporaryName(path);
  await writing(path, () => rename(path, temporary));
  await writing(path, () => rm(temporary, { recursive: true, force: true }));
}

/**
 * Repairs `path` after a kill in the middle of a replacement: puts the former folder back where no new one arrived, else
 * removes it. Call it before reading a folder that is written with `overwrite`, while nothing writes it.
 * @returns whether there is a complete folder at `path`
 */
export async function recoverFolder(path: string): Promise<boolean> {
  const present = (await kindOf(path)) === 'folder';
  const aside = asideName(path);
  if ((await kindOf(aside)) !== 'folder') return present;
  await writing(path, () => (present ? rm(aside, { recursive: true, force: true }) : rename(aside, path)));
  await writing(path, () => syncPath(dirname(path)));
  return true;
}

/**
 * Removes the temporary names that a killed process left in `folder`, and recovers folders that it was replacing. Call it
 * only while nothing else writes into `folder`: the temporary names of a living process look the same.
 * @returns the names removed or recovered, sorted
 */
export async function removeLeftovers(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    throw ioError(error, 'reading', folder);
  });
  const found = names.filter((name) => temporaryPattern.test(name) || name.startsWith(asidePrefix)).sort();
  for (const name of found) {
    if (name.startsWith(asidePrefix)) await recoverFolder(join(folder, name.slice(asidePrefix.length)));
    else await writing(join(folder, name), () => rm(join(folder, name), { recursive: true, force: true }));
  }
  return found;
}

function temporaryName(path: string): string {
  return join(dirname(resolve(path)), `.finetable-tmp-${randomBytes(8).toString('hex')}`);
}

function asideName(path: string): string {
  return join(dirname(resolve(path)), asidePrefix + basename(resolve(path)));
}

async function kindOf(path: string): Promise<'nothing' | 'file' | 'folder' | 'other'> {
  try {
    const found = await lstat(path);
    if (found.isDirectory()) return 'folder';
    return found.isFile() || found.isSymbolicLink() ? 'file' : 'other';
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 'nothing';
    throw ioError(error, 'writing', path);
  }
}

async function writing<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw ioError(error, 'writing', path);
  }
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await syncPath(path);
  }
  await syncPath(folder);
}

async function syncPath(path: string): Promise<void> {
  // Windows can neither open a folder nor flush a file opened for reading; its renames are journalled.
  if (process.platform === 'win32') return;
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
