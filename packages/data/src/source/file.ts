/** Reading a file at any place. */
import { fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { FinetableError } from '@finetable/core';
import { fileError } from '../errors.ts';
import type { FileIndex } from './source.ts';

/** @param file as it was named @throws NOT_FOUND, IO */
export function openFile(path: string, file: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw fileError(error, file);
  }
}

export function statFile(fd: number, file: string): Stats {
  const stats = fstatSync(fd);
  if (stats.isFile()) return stats;
  throw new FinetableError(
    'INVALID_FILE',
    `${file}: not a regular file; examples are read in any order, so it must be one`,
    {
      file,
    },
  );
}

/** Fills `length` bytes of `buffer` from `offset` on; fewer only at the file's end. */
export function readAt(
  fd: number,
  file: string,
  buffer: Buffer,
  begin: number,
  length: number,
  offset: number,
): number {
  let done = 0;
  try {
    while (done < length) {
      const count = readSync(fd, buffer, begin + done, length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
  } catch (error) {
    throw fileError(error, file);
  }
  return done;
}

/** @throws INVALID_FILE where it is not the file that was scanned */
export function checkUnchanged(fd: number, { file, sizeBytes, modifiedMs }: FileIndex): void {
  const { size, mtimeMs } = statFile(fd, file);
  if (size !== sizeBytes || mtimeMs !== modifiedMs) throw fileChanged(file);
}

export function fileChanged(file: string): FinetableError {
  return new FinetableError(
    'INVALID_FILE',
    `${file}: changed since it was indexed (size or modification time); open the loader again`,
    { file },
  );
}
