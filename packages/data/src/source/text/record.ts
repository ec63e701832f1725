/** What can be wrong with a record before it is parsed. */
import { invalidData } from '../../errors.ts';
import type { FinetableError } from '@finetable/core';

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
