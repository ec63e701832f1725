/** `finetable embed`: vectors of texts or ids, by a run, a table with an adapter, or a static embedding model. */
import { FinetableError } from '@finetable/core';
import { checkVectorsPath, writeVectors } from '@finetable/formats';
import { openEmbedder, type EmbeddedPart, type Embedder, type EmbedInput } from '@finetable/trainer';
import { writeJson } from '../failure.ts';
import type { Io } from '../io.ts';
import type { EmbedOptions } from '../program.ts';
import { readTexts } from './texts.ts';

/** Lines at a time. */
const partLines = 512;

export async function embedCommand(path: string, options: EmbedOptions, io: Io): Promise<void> {
  const { text, ids, file, output, feature, adapter, tensor, id, normalize, workers } = options;
  const given = Object.entries({ text, ids, file }).filter(([, value]) => value !== undefined);
  if (given.length !== 1) {
    const names = given.length === 0 ? 'nothing' : given.map(([name]) => `--${name}`).join(' and ');
    throw refuse(`${given.length === 2 ? 'both ' : ''}${names} to embed; allowed: one of --text, --ids, --file`);
  }
  if (output !== undefined) checkVectorsPath(output);
  const embedder = await openEmbedder(path, { feature, adapter, tensor, id, normalize, workers, signal: io.signal });
  try {
    const { input, keyName } = inputOf(embedder, options);
    const parts = embedder.parts(input);
    if (output === undefined) await print(parts, keyName, io);
    else {
      const rows = await writeVectors(output, parts, { dim: embedder.dim, keyName });
      if (options.json) writeJson(io, { written: { path: output, rows, dim: embedder.dim } });
      else io.stdout.write(`${output}: F32 [${rows}, ${embedder.dim}]\n`);
    }
  } finally {
    await embedder.close();
  }
}

const dataFile = /\.(jsonl|csv|tsv|parquet|arrow)(\.gz|\.zst)?$/i;

function inputOf(
  { reads, readsFiles }: Embedder,
  { text, ids, file, column, id }: EmbedOptions,
): { readonly input: EmbedInput; readonly keyName: string } {
  if (ids && reads !== 'id') throw refuse('--ids to embed, but what is embedded are texts; allowed: --text, --file');
  if (text && reads !== 'text') throw refuse('--text to embed, but what is embedded are ids; allowed: --ids, --file');
  if (file === undefined) return { input: { values: text ?? ids! }, keyName: reads };
  if (readsFiles && dataFile.test(file))
    return { input: { file, column }, keyName: id ?? (/\.(parquet|arrow)$/i.test(file) ? 'row' : 'line') };
  if ((column ?? id) !== undefined) throw refuse(`--column and --id go with .jsonl, .csv, .tsv, .parquet, .arrow`);
  return { input: { values: reads === 'text' ? linesOf(file) : idsOf(file) }, keyName: reads };
}

async function* linesOf(file: string): AsyncGenerator<string> {
  for await (const lines of readTexts(file, partLines)) yield* lines;
}

/** An id a line, or several, whose vectors are averaged. */
async function* idsOf(file: string): AsyncGenerator<number | readonly number[]> {
  let line = 0;
  for await (const text of linesOf(file)) {
    line++;
    const words = text.split(/[\s,]+/).filter((word) => word !== '');
    const bad = words.find((word) => !/^\d+$/.test(word));
    if (bad !== undefined) {
      const message = `${file}, line ${line}: found ${JSON.stringify(bad)}; allowed: an id, or several`;
      throw new FinetableError('INVALID_DATA', message, { file, line });
    }
    yield words.length === 1 ? Number(words[0]) : words.map(Number);
  }
}

async function print(parts: AsyncIterable<EmbeddedPart>, keyName: string, io: Io): Promise<void> {
  for await (const { keys, vectors } of parts) {
    keys.forEach((key, i) => {
      const vector = Array.from(vectors.data.subarray(i * vectors.cols, (i + 1) * vectors.cols));
      writeJson(io, { [keyName]: key, vector });
    });
  }
}

function refuse(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `embed: ${message}`);
}
