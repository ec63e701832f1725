/** Word vector files: what the first line says, and the first words. */
import { stat } from 'node:fs/promises';
import { matrix } from '@finetable/core';
import { readWordVectors } from '@finetable/formats';
import type { WordsReport } from './report.ts';
import { rowStatistics } from './tensors.ts';

const shownWords = 10;
const shownRows = 3;

/** @throws INVALID_FILE where the first line is not that of a word vector file */
export async function inspectWords(path: string): Promise<WordsReport> {
  const { format, dim, rows, blocks } = await readWordVectors(path, { duplicates: 'skip' });
  for await (const { words, values } of blocks()) {
    const count = Math.min(shownRows, words.length);
    return {
      kind: 'words',
      path,
      sizeBytes: (await stat(path)).size,
      format,
      rows,
      dim,
      words: words.slice(0, shownWords),
      firstRows: rowStatistics(matrix(count, dim, values.subarray(0, count * dim))),
    };
  }
  return { kind: 'words', path, sizeBytes: (await stat(path)).size, format, rows, dim, words: [], firstRows: [] };
}
