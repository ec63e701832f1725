/** Files of words: line i is the word of row i. */
import { isUtf8 } from 'node:buffer';

/** The lines of a file's bytes, a byte order mark and the last line's end left out; null where they are not UTF-8. */
export function wordLines(bytes: Buffer): string[] | null {
  if (!isUtf8(bytes)) return null;
  const words = bytes
    .toString()
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/);
  if (words.at(-1) === '') words.pop();
  return words;
}
