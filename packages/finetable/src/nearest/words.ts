/** The words of a table's rows: line i of a text file is that of row i. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FinetableError } from '@finetable/core';
import { wordLines } from '@finetable/data';
import { ioError } from '@finetable/formats';

export interface Words {
  readonly file: string;
  readonly words: readonly string[];
}

/**
 * @param given a file that was named; else `words.txt` beside the table is taken where it has a line for every row
 * @throws NOT_FOUND, IO, INVALID_FILE (not UTF-8, more words than rows)
 */
export async function readWords(given: string | undefined, table: string, rows: number): Promise<Words | null> {
  const file = given ?? join(dirname(table), 'words.txt');
  if (given === undefined && !existsSync(file)) return null;
  const bytes = await readFile(file).catch((error: unknown) => {
    throw ioError(error, 'reading', file);
  });
  const refuse = (message: string): FinetableError =>
    new FinetableError('INVALID_FILE', `${file}: ${message}`, { file });
  const words = wordLines(bytes);
  if (!words) throw refuse('not UTF-8');
  if (given === undefined) return words.length === rows ? { file, words } : null;
  if (words.length > rows) throw refuse(`${words.length} words, but ${table} has ${rows} rows`);
  return { file, words };
}

/** The rows of these words. @throws INVALID_ARGUMENT for a word that is not there */
export function rowsOfWords({ file, words }: Words, asked: readonly string[]): Int32Array {
  return Int32Array.from(asked, (word) => {
    const row = words.indexOf(word);
    if (row >= 0) return row;
    const other = words.find((known) => known.toLowerCase() === word.toLowerCase());
    const hint = other === undefined ? '' : `; it has ${JSON.stringify(other)}`;
    throw new FinetableError('INVALID_ARGUMENT', `nearest: ${file} has no word ${JSON.stringify(word)}${hint}`, {
      file,
      value: word,
    });
  });
}
