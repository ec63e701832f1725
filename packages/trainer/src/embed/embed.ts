/**
 * Vectors of texts or ids, by what training made: a run as it was trained (its features, found vocabulary, weights, pooling, transforms
 * and best adapter), a table and its adapter, or a static embedding model. One stream in order, of bounded memory.
 */
import { stat } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { FinetableError, checkOptionNames, type Matrix, type OptionNames } from '@finetable/core';
import { openRunEmbedder } from './run.ts';
import { openStaticEmbedder } from './static.ts';
import { openTableEmbedder } from './table.ts';

/** Values of one column, or a data file that has it (.jsonl, .csv, .tsv, .parquet, .arrow, or a pattern). */
export type EmbedInput =
  | { readonly values: Iterable<unknown> | AsyncIterable<unknown> }
  | { readonly file: string | readonly string[]; readonly column?: string | undefined };

/** Which feature, adapter and threads vectors are made with. */
export interface EmbedOptions {
  /** Of a run with several features: whose vectors; default the only one. */
  readonly feature?: string | undefined;
  /** Of a table or a static model: its adapter's folder. A run has its own. */
  readonly adapter?: string | undefined;
  /** Of a table's file: which tensor. */
  readonly tensor?: string | undefined;
  /** A column that names the examples of a file; default: they have the numbers of their lines or rows. */
  readonly id?: string | undefined;
  /** Scale to length 1. Default: as training compared them (`normalize`, cosine), or the static model says; of tables false. */
  readonly normalize?: boolean | undefined;
  /** Threads that read and tokenise; default 1. */
  readonly workers?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Some vectors and the keys that they belong to. */
export interface EmbeddedPart {
  /** `[n, D]`, newly allocated. A value without ids has zeros, but for what a transform makes of them. */
  readonly vectors: Matrix;
  /** `[n]`: the values, or names or numbers of a file's examples. */
  readonly keys: readonly unknown[];
}

/** Makes vectors as a run was trained. Opened by {@link openEmbedder}; to be closed. */
export interface Embedder {
  /** D. */
  readonly dim: number;
  /** What values are: `text` or `id`. */
  readonly reads: 'text' | 'id';
  /** Whether it reads data files; a static model only has values. */
  readonly readsFiles: boolean;
  /** Vectors of the input, in its order, a part at a time. A part is the consumer's. */
  parts(input: EmbedInput): AsyncGenerator<EmbeddedPart>;
  /** Ends its threads and closes tables and adapters. */
  close(): Promise<void>;
}

const optionNames: OptionNames<EmbedOptions> = {
  feature: true,
  adapter: true,
  tensor: true,
  id: true,
  normalize: true,
  workers: true,
  signal: true,
};

/**
 * Opens a finished run's folder, a table's file or a static model's folder, to make vectors with it.
 * @example
 * const embedder = await openEmbedder('runs/intents');
 * await writeVectors('texts.npy', embedder.parts({ file: 'texts.jsonl' }), { dim: embedder.dim });
 * await embedder.close();
 * @throws NOT_FOUND; INVALID_ARGUMENT for an option that does not go with it; what opening tables and adapters throws
 */
export async function openEmbedder(path: string, options: EmbedOptions = {}): Promise<Embedder> {
  checkOptionNames('openEmbedder', options, optionNames);
  const found = await stat(path).catch((cause: unknown) => {
    throw new FinetableError('NOT_FOUND', `${path}: no such file or folder`, { file: path }, { cause });
  });
  const [kind, open, names] = !found.isDirectory()
    ? (['a table', openTableEmbedder, ['adapter', 'tensor', 'id']] as const)
    : existsSync(join(path, 'job.yaml'))
      ? (['a run', openRunEmbedder, ['feature', 'id']] as const)
      : (['a static model', openStaticEmbedder, ['adapter']] as const);
  for (const name of ['feature', 'adapter', 'tensor', 'id'] as const) {
    if (options[name] === undefined || (names as readonly string[]).includes(name)) continue;
    throw new FinetableError('INVALID_ARGUMENT', `embed: ${path} is ${kind}; ${name} does not go with it`, {
      option: name,
    });
  }
  return open(path, options);
}
