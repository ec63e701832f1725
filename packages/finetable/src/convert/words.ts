/** Word vectors to a table and `words.txt` beside it, one word a line, in one pass over the file. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { FinetableError } from '@finetable/core';
import { readWordVectors, writeFileAtomic, writeNpy, writeSafetensors, type WriteChunk } from '@finetable/formats';
import type { ConvertOptions } from '../program.ts';
import { toHalf, untilAborted } from './chunks.ts';
import type { Written } from './command.ts';
import { defaultTensor } from './table.ts';

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
  const half = options.dtype === 'f16';
  const dtype = half ? 'F16' : 'F32';
  let rows = 0;

  async function* values(writeWords: WriteChunk): AsyncGenerator<Uint8Array> {
    for await (const { words, values } of untilAborted(vectors.blocks(), signal)) {
      await writeWords(Buffer.from(words.map((word) => `${word}\n`).join('')));
      const stored = half ? toHalf(values, (i) => `${input}: the vector of "${words[Math.floor(i / dim)]}"`) : values;
      rows += words.length;
      yield new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
    }
  }

  // The table gets its name first: words without it would be of no use, and are not left by a failure.
  await writeFileAtomic(wordsPath, async (writeWords) => {
    const source = { dtype, shape: [null, dim], data: values(writeWords) } as const;
    if (to === 'npy') await writeNpy(output, source);
    else await writeSafetensors(output, [{ name: options.tensor ?? defaultTensor, ...source }]);
  });
  return [
    { path: output, what: `${dtype} [${rows}, ${dim}]` },
    { path: wordsPath, what: `${rows} words` },
  ];
}
