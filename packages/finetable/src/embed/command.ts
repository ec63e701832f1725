/** `finetable embed`: vectors of texts by a static embedding model, with an adapter or without. */
import { FinetableError, type Matrix } from '@finetable/core';
import { openStaticModel, type StaticModel } from '@finetable/data';
import { writeNpy } from '@finetable/formats';
import { loadAdapters, type Adapter } from '@finetable/lora';
import { writeJson } from '../failure.ts';
import type { Io } from '../io.ts';
import type { EmbedOptions } from '../program.ts';
import { readTexts } from './texts.ts';

/** Texts at a time: enough to be quick, few enough to stop soon. */
const partTexts = 512;

export async function embedCommand(folder: string, options: EmbedOptions, io: Io): Promise<void> {
  if ((options.text === undefined) === (options.file === undefined)) {
    const given = options.text === undefined ? 'nothing' : 'both --text and --file';
    throw new FinetableError('INVALID_ARGUMENT', `embed: ${given} to embed; allowed: one of --text, --file`);
  }
  const model = await openStaticModel(folder);
  try {
    const [adapter] = options.adapter === undefined ? [] : await loadAdapters(options.adapter, [model.table]);
    try {
      const parts = vectors(model, adapter ?? null, options, io.signal);
      await (options.output === undefined ? print(parts, io) : write(options.output, parts, model, options, io));
    } finally {
      adapter?.close();
    }
  } finally {
    model.close();
  }
}

interface Part {
  readonly texts: readonly string[];
  readonly vectors: Matrix;
}

async function* vectors(
  model: StaticModel,
  adapter: Adapter | null,
  { text, file }: EmbedOptions,
  signal: AbortSignal,
): AsyncGenerator<Part> {
  let done = 0;
  for await (const texts of file === undefined ? partsOf(text!) : readTexts(file, partTexts)) {
    if (signal.aborted) throw new FinetableError('INTERRUPTED', `embed: stopped before text ${done}`);
    yield { texts, vectors: model.encode(texts, adapter) };
    done += texts.length;
  }
}

function* partsOf(texts: readonly string[]): Generator<readonly string[]> {
  for (let first = 0; first < texts.length; first += partTexts) yield texts.slice(first, first + partTexts);
}

async function print(parts: AsyncIterable<Part>, io: Io): Promise<void> {
  for await (const { texts, vectors } of parts) {
    texts.forEach((text, i) => {
      const vector = vectors.data.subarray(i * vectors.cols, (i + 1) * vectors.cols);
      writeJson(io, { text, vector: Array.from(vector) });
    });
  }
}

async function write(
  output: string,
  parts: AsyncIterable<Part>,
  model: StaticModel,
  { json }: EmbedOptions,
  io: Io,
): Promise<void> {
  let rows = 0;
  const { dim } = model.table;
  const bytes = async function* (): AsyncGenerator<Uint8Array> {
    for await (const { vectors } of parts) {
      rows += vectors.rows;
      yield new Uint8Array(vectors.data.buffer, vectors.data.byteOffset, vectors.data.byteLength);
    }
  };
  await writeNpy(output, { dtype: 'F32', shape: [null, dim], data: bytes() });
  if (json) writeJson(io, { written: { path: output, rows, dim } });
  else io.stdout.write(`${output}: F32 [${rows}, ${dim}]\n`);
}
