/** Word vectors to a table and `words.txt` beside it, one word a line, in one pass over the file. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { FinetableError, matrix } from '@finetable/core';
import { readWordVectors, writeFileAtomic, type WriteChunk } from '@finetable/formats';
import type { ConvertOptions } from '../program.ts';
import type { Written } from './command.ts';
import { untilAborted } from './read-rows.ts';
import type { RoundingError } from './row-encoder.ts';
import { chosenFormat, defaultTensor, describeFormat, writeRows, type DecodedRows } from './write-rows.ts';

export async function convertWords(
  input: string,
  output: string,
  to: 'safetensors' | 'npy',
  options: ConvertOptions,
  signal: AbortSignal,
): Promise<Written[]> {
  const wordsPath = join(dirname(output), 'words.txt');
  // With --overwrite too: the file that is read must not be replaced while it is.
  if (resolve(wordsPath) === resolve(input) || (options.overwrite !== true && existsSync(wordsPath)))
    throw new FinetableError(
      'EXISTS',
      `${wordsPath} is there already, and the words would go there; write to another folder${resolve(wordsPath) === resolve(input) ? '' : ', or replace it with --overwrite'}`,
      { file: wordsPath },
    );
  const vectors = await readWordVectors(input, { duplicates: options.duplicates });
  const { dim } = vectors;
  const format = chosenFormat(options.dtype ?? 'f32', dim, options.group);
  let rows = 0;

  async function* values(writeWords: WriteChunk): AsyncGenerator<DecodedRows> {
    for await (const { words, values } of untilAborted(vectors.blocks(), signal)) {
      await writeWords(Buffer.from(words.map((word) => `${word}\n`).join('')));
      rows += words.length;
      yield { values: matrix(words.length, dim, values), where: (row) => `${input}: the vector of "${words[row]}"` };
    }
  }

  const tensor = options.tensor ?? defaultTensor;
  let error: RoundingError | null = null;
  // The table gets its name first: words without it would be of no use, and are not left by a failure.
  await writeFileAtomic(wordsPath, async (writeWords) => {
    error = await writeRows({ path: output, to, tensor, format, shape: [null, dim] }, values(writeWords));
  });
  return [
    { path: output, what: describeFormat(format, [rows, dim]), error },
    { path: wordsPath, what: `${rows} words` },
  ];
}
