/** Embeddings of models that Keras 3, tf-keras or Keras 2 have saved: `.keras`, `.weights.h5` and `.h5`. */
import { FinetableError, type Matrix } from '@finetable/core';
import { openArchive } from './archive.ts';
import { formOf, readMatrix, type KerasDtype, type MatrixForm } from './decode.ts';
import { hdf5Part, openHdf5, type Hdf5Dataset, type Hdf5File } from './hdf5.ts';
import { findEmbeddings, type EmbeddingLayer } from './layers.ts';

/** An embedding layer of a file; V rows of D dims. */
export interface KerasEmbedding {
  /** As the model names it, else the last part of `path`. */
  readonly name: string;
  /** Where the file has it, such as `layers/embedding_1`. */
  readonly path: string;
  readonly rows: number;
  readonly dim: number;
  /** As it is stored. */
  readonly dtype: KerasDtype;
  /**
   * Of factors that the file has: the layer's rows are W + (alpha / rank) A B. Null where it has none: Keras merges them into W as it writes
   * `.keras` and `.weights.h5`, and keeps them in the older `.h5` of a whole model.
   */
  readonly lora: { readonly rank: number; readonly alpha: number } | null;
}

/** The embedding layers of a Keras model's file. To be closed. */
export interface KerasFile {
  readonly path: string;
  /** A whole model in a zip archive, weights alone, or a whole model or weights in the older format. */
  readonly format: 'keras' | 'weights.h5' | 'h5';
  /** Every embedding layer, in order of their paths. */
  readonly embeddings: readonly KerasEmbedding[];
  /**
   * The layer of this name or path, or the only one.
   * @throws INVALID_ARGUMENT listing all where there is none of that name, or several and none named
   */
  readonly embedding: (name?: string) => KerasEmbedding;
  /** Rows [begin, end) of W, decoded to f32; `[end - begin, D]`, owned by the caller. @throws INVALID_FILE */
  readonly readRows: (embedding: KerasEmbedding, begin: number, end: number) => Matrix;
  /** A `[V, r]` and B `[r, D]` in f32, owned by the caller; null without `lora`. @throws INVALID_FILE */
  readonly readLora: (embedding: KerasEmbedding) => { readonly a: Matrix; readonly b: Matrix } | null;
  /** Closes the file. */
  readonly close: () => void;
}

interface Found extends KerasEmbedding {
  readonly layer: EmbeddingLayer;
}

/**
 * Opens a model's file; rows are read where they lie, when they are asked for, so a file may be larger than memory.
 * @throws INVALID_FILE, UNSUPPORTED (an embedding of a dtype that is none of ours), NOT_FOUND, IO
 */
export async function openKerasFile(path: string): Promise<KerasFile> {
  const archive = path.endsWith('.keras') ? await openArchive(path) : null;
  const file = await openHdf5(archive?.weights ?? (await hdf5Part(path)));
  let embeddings: readonly Found[];
  try {
    const text = archive?.config ?? file.attribute('/', 'model_config');
    const layers = findEmbeddings(file, text === undefined ? null : parseConfig(path, text));
    embeddings = layers.map((layer) => describeLayer(path, file, layer));
  } catch (error) {
    file.close();
    throw error;
  }
  let open = true;
  const opened = (): Hdf5File => {
    if (open) return file;
    throw new FinetableError('CLOSED', `${path}: read after close()`, { file: path });
  };
  return {
    path,
    format: archive ? 'keras' : path.endsWith('.weights.h5') ? 'weights.h5' : 'h5',
    embeddings,
    embedding: (name) => choose(path, embeddings, name),
    readRows: (embedding, begin, end) => {
      checkRange(embedding, begin, end);
      return readMatrix(opened(), (embedding as Found).layer, embedding, begin, end);
    },
    readLora: (embedding) => readFactors(opened(), embedding as Found),
    close: () => {
      if (open) file.close();
      open = false;
    },
  };
}

/** Python writes NaN and Infinity, which are no JSON; nothing that is read here is one. */
function parseConfig(path: string, text: string): unknown {
  try {
    return JSON.parse(text.replace(/(?<=[:[,]\s*)(?:-?Infinity|NaN)(?=\s*[,}\]])/g, 'null'));
  } catch (error) {
    throw new FinetableError(
      'INVALID_FILE',
      `${path}: the model's configuration is no JSON`,
      { file: path },
      { cause: error },
    );
  }
}

function describeLayer(path: string, file: Hdf5File, layer: EmbeddingLayer): Found {
  const where = `${path}: ${layer.path}`;
  const form = formOf(where, file, layer);
  return { name: layer.name, path: layer.path, ...form, lora: loraOf(where, layer, form), layer };
}

function loraOf(
  where: string,
  { loraA, loraB, config }: EmbeddingLayer,
  { rows, dim }: MatrixForm,
): KerasEmbedding['lora'] {
  if (!loraA && !loraB) return null;
  const rank = loraA?.shape[1] ?? 0;
  const fits = (factor: Hdf5Dataset | undefined, shape: readonly number[]): boolean =>
    factor?.dtype === 'f4' && factor.shape.join() === shape.join();
  if (rank < 1 || !fits(loraA, [rows, rank]) || !fits(loraB, [rank, dim])) {
    const shown = [loraA, loraB].map((factor) =>
      factor ? `${factor.dtype ?? '?'} [${factor.shape.join(', ')}]` : 'none',
    );
    throw new FinetableError(
      'INVALID_FILE',
      `${where}: factors ${shown.join(' and ')}; needed: f4 [${rows}, r] and f4 [r, ${dim}]`,
    );
  }
  const alpha = config?.lora_alpha ?? rank; // Keras' default
  if (typeof alpha !== 'number' || !Number.isFinite(alpha))
    throw new FinetableError('INVALID_FILE', `${where}: lora_alpha is ${JSON.stringify(alpha)}; allowed: a number`);
  return { rank, alpha };
}

function readFactors(file: Hdf5File, { rows, dim, lora, layer }: Found): { a: Matrix; b: Matrix } | null {
  if (!lora) return null;
  const read = (factor: Hdf5Dataset, count: number, width: number): Matrix => ({
    rows: count,
    cols: width,
    data: new Float32Array(file.read(factor, 0, count).buffer),
  });
  return { a: read(layer.loraA!, rows, lora.rank), b: read(layer.loraB!, lora.rank, dim) };
}

function choose(path: string, embeddings: readonly Found[], name: string | undefined): Found {
  const named = embeddings.filter(
    (embedding) => name === undefined || embedding.path === name || embedding.name === name,
  );
  if (named.length === 1) return named[0]!;
  if (embeddings.length === 0)
    throw new FinetableError('INVALID_FILE', `${path}: no embedding layer is in it`, { file: path });
  const names = new Map<string, number>();
  for (const embedding of embeddings) names.set(embedding.name, (names.get(embedding.name) ?? 0) + 1);
  const allowed = embeddings.map((embedding) => (names.get(embedding.name) === 1 ? embedding.name : embedding.path));
  const problem =
    name === undefined
      ? `has ${embeddings.length} embedding layers; choose one`
      : `has ${named.length === 0 ? 'no' : 'several'} embedding layers named ${JSON.stringify(name)}`;
  throw new FinetableError('INVALID_ARGUMENT', `${path}: ${problem}; allowed: ${allowed.slice(0, 20).join(', ')}`, {
    file: path,
    allowed,
  });
}

function checkRange({ rows, path }: KerasEmbedding, begin: number, end: number): void {
  if (Number.isInteger(begin) && Number.isInteger(end) && begin >= 0 && begin <= end && end <= rows) return;
  throw new FinetableError('INVALID_ARGUMENT', `${path}: rows ${begin} to ${end}; allowed: within 0 to ${rows}`);
}
