/** Reading a text file of records at any place, and what can be wrong with it. */
import { fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { FinetableError } from '@finetable/core';
import { fileError, invalidData } from '../../errors.ts';

export function openFile(file: string): number {
  try {
    return openSync(file, 'r');
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

/** V8 strings end at 512 MiB; a record of this size is a mistake long before. */
const longestRecordBytes = 2 ** 28;

/** @throws INVALID_DATA where a record is longer than 256 MiB */
export function checkRecordBytes(size: number, file: string, line: number): void {
  if (size <= longestRecordBytes) return;
  throw invalidData(
    { file, line },
    `a record of ${size} bytes; allowed: ${longestRecordBytes} (in CSV, look for a quote that is not closed)`,
  );
}

export function notUtf8(file: string, line: number): FinetableError {
  return invalidData({ file, line }, 'not UTF-8; convert the file, for example with iconv');
}

export function fileChanged(file: string): FinetableError {
  return new FinetableError(
    'INVALID_FILE',
    `${file}: changed since it was indexed (size or modification time); open the loader again`,
    { file },
  );
}
