/** Compressed files: decompressed once, into a temporary folder, since examples are read in any order. */
import { createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import * as zlib from 'node:zlib';
import { FinetableError } from '@finetable/core';
import { fileError, interrupted } from '../errors.ts';

const compression = /\.(gz|zst)$/i;

export const isCompressed = (file: string): boolean => compression.test(file);
export const withoutCompression = (file: string): string => file.replace(compression, '');

/** Of Node from 22.15 on. */
const { createZstdDecompress } = zlib as { createZstdDecompress?: () => Transform };

/**
 * Writes what is in a compressed file to `path`, which is not there afterwards where it fails.
 * @throws NOT_FOUND, IO (no room, too), INVALID_FILE where it is broken, UNSUPPORTED, INTERRUPTED
 */
export async function decompress(file: string, path: string, signal?: AbortSignal): Promise<void> {
  const decompressor = decompressorOf(file);
  const highWaterMark = 1 << 20;
  const source = createReadStream(file, { highWaterMark });
  try {
    await pipeline(source, decompressor, createWriteStream(path, { highWaterMark }), signal ? { signal } : {});
  } catch (error) {
    // What is not a file, such as a full device of a test, stays.
    rmSync(path, { force: true });
    if (signal?.aborted) throw interrupted(file);
    throw reasonOf(error as NodeJS.ErrnoException, file, path);
  }
}

function decompressorOf(file: string): Transform {
  if (!file.toLowerCase().endsWith('.zst')) return zlib.createGunzip();
  if (createZstdDecompress) return createZstdDecompress();
  throw new FinetableError(
    'UNSUPPORTED',
    `${file}: zstd needs Node.js 22.15 or later, and this is ${process.version}; or decompress the file beforehand, with zstd -d`,
    { file },
  );
}

function reasonOf(error: NodeJS.ErrnoException, file: string, path: string): FinetableError {
  const { syscall, message } = error;
  if (syscall === 'write' || (syscall !== undefined && error.path === path)) {
    return new FinetableError(
      'IO',
      `${file}: what is in it cannot be written to ${path}: ${message}; the folder is that of the environment variable TMPDIR`,
      { file, path },
      { cause: error },
    );
  }
  if (syscall !== undefined) return fileError(error, file);
  return new FinetableError('INVALID_FILE', `${file}: cannot be decompressed: ${message}`, { file }, { cause: error });
}

/** Folders that are there, removed at the latest as the process ends. */
const folders = new Set<string>();

/** A temporary folder, made when it is first needed. */
export class TemporaryFolder {
  #folder: string | null = null;
  #count = 0;

  /** A new name in it. @throws IO */
  pathFor(file: string): string {
    try {
      this.#folder ??= mkdtempSync(join(tmpdir(), 'finetable-'));
    } catch (error) {
      throw new FinetableError('IO', `${file}: no temporary folder: ${(error as Error).message}`, { file });
    }
    if (folders.size === 0) process.on('exit', removeFolders);
    folders.add(this.#folder);
    return join(this.#folder, `${this.#count++}-${basename(withoutCompression(file))}`);
  }

  remove(): void {
    if (this.#folder === null) return;
    rmSync(this.#folder, { recursive: true, force: true });
    folders.delete(this.#folder);
    this.#folder = null;
    if (folders.size === 0) process.off('exit', removeFolders);
  }
}

function removeFolders(): void {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}
