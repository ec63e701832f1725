/**
 * Static embedding models of sentence-transformers and model2vec: the vector of a text is the mean of its tokens' rows. Their
 * table opens like any other, so adapters train over it; pooling is linear, so a merged model gives the adapted vectors.
 *
 * Where the libraries differ, each model is read as its own library does: sentence-transformers keeps the unknown token and
 * cuts texts as the tokenizer file says; model2vec cuts characters, then tokens, and then drops unknown ones, and its mean
 * divides by the number of tokens whatever their weights are. Vectors are f32, also of f16 models.
 */
import { FinetableError, makePlan, matrix, rowsOf, type Jagged, type Matrix, type Pooling } from '@finetable/core';
import { readStaticLayout, saveStaticFolder, type StaticLayout } from '@finetable/formats';
import type { Adapter } from '@finetable/lora';
import { openTable, type OpenTableOptions, type ShardedTable } from '@finetable/placement';
import { IdList } from '../id-list.ts';
import { readTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { mergedRows } from './merge.ts';

/** How a static model is saved. */
export interface SaveStaticOptions {
  /** Merged into the table. Its rows may be trained further afterwards, not meanwhile. */
  readonly adapter?: Adapter | undefined;
  /** Replace a model folder that is there. */
  readonly overwrite?: boolean | undefined;
}

/** Texts pooled at a time: bounds what plans take. */
const batchTexts = 1024;

/** A static embedding model: a table, a tokenizer, and the mean. Opened by {@link openStaticModel}; to be closed. */
export class StaticModel {
  readonly folder: string;
  readonly library: StaticLayout['library'];
  /** The model's table. `createAdapter(model.table, …)` makes an adapter for it. Owned by the model. */
  readonly table: ShardedTable;
  readonly tokenizer: Tokenizer;
  /** How the bags of `ids` are pooled: `mean`, or `sum` where they come with weights. */
  readonly pooling: Pooling;
  /** Whether `encode` scales vectors to length 1. */
  readonly normalize: boolean;
  readonly #layout: StaticLayout;
  /** Characters (code points) that a text is cut to. */
  readonly #maxCharacters: number;
  readonly #ids = new IdList();

  constructor(layout: StaticLayout, table: ShardedTable, tokenizer: Tokenizer) {
    const { weights, mapping, maxTokens } = layout;
    const ids = mapping?.length ?? table.rows;
    if (tokenizer.size > ids) {
      throw new FinetableError(
        'INVALID_FILE',
        `${tokenizer.file}: has ids up to ${tokenizer.size - 1}; the model has ${ids} tokens, so 0 to ${ids - 1} are allowed`,
        { file: tokenizer.file },
      );
    }
    this.folder = layout.folder;
    this.library = layout.library;
    this.table = table;
    this.tokenizer = tokenizer;
    this.pooling = weights ? 'sum' : 'mean';
    this.normalize = layout.normalize;
    this.#layout = layout;
    this.#maxCharacters = maxTokens === null ? Infinity : maxTokens * medianLength(tokenizer.tokens());
  }

  /**
   * The table's rows of each text's tokens, one bag per text, as `makePlan(…, { pooling: model.pooling })` takes them: the
   * mapping is applied, and weights are those of the model over the number of tokens. A text without tokens is an empty bag.
   */
  ids(texts: readonly string[]): Jagged {
    const { weights, mapping } = this.#layout;
    const offsets = new Int32Array(texts.length + 1);
    this.#ids.clear();
    texts.forEach((text, i) => {
      for (const id of this.#tokensOf(text)) this.#ids.push(id);
      offsets[i + 1] = this.#ids.length;
    });
    const tokens = this.#ids.copy();
    const values = mapping ? tokens.map((token) => mapping[token]!) : tokens;
    if (!weights) return { values, offsets };
    const scaled = new Float32Array(tokens.length);
    for (let bag = 0; bag < texts.length; bag++) {
      const [begin, end] = [offsets[bag]!, offsets[bag + 1]!];
      for (let place = begin; place < end; place++) scaled[place] = weights[tokens[place]!]! / (end - begin);
    }
    return { values, offsets, weights: scaled };
  }

  /**
   * One vector per text, `[texts.length, D]`, newly allocated; zeros for a text without tokens.
   * @param adapter over `table`, in use but not merged
   * @throws MISMATCH where the adapter is of another table; CLOSED; UNSUPPORTED where rows are on devices
   */
  encode(texts: readonly string[], adapter: Adapter | null = null): Matrix {
    this.#checkAdapter(adapter);
    const { table, pooling } = this;
    const out = matrix(texts.length, table.dim);
    for (let first = 0; first < texts.length; first += batchTexts) {
      const batch = texts.slice(first, first + batchTexts);
      const plan = makePlan(this.ids(batch), table.rows, { pooling, table: table.name });
      (adapter ?? table).lookup(plan, rowsOf(out, first, batch.length));
    }
    if (this.normalize) normalizeRows(out);
    return out;
  }

  /**
   * Writes the model into a folder that its Python library loads, whole or not at all: the adapter merged into the table,
   * which keeps its dtype; rows that were not touched, the tokenizer and the configurations byte for byte. The table is
   * streamed, never held.
   * @returns files of the model's folder that were left out, since they may hold the weights as they were
   * @throws EXISTS, INVALID_ARGUMENT where `folder` is the model's own; UNSUPPORTED for an adapter with `maxNorm`; NON_FINITE where a merged row does not fit the dtype;
   *   INVALID_FILE where the model's files have changed; MISMATCH, CLOSED, IO
   */
  async save(folder: string, { adapter = undefined, overwrite }: SaveStaticOptions = {}): Promise<string[]> {
    this.#checkAdapter(adapter ?? null);
    await this.table.checkUnchanged();
    return saveStaticFolder(this.#layout, folder, adapter ? mergedRows(adapter) : null, { overwrite });
  }

  /** Closes the table. Safe to call twice. */
  close(): void {
    this.table.close();
  }

  #tokensOf(text: string): readonly number[] {
    const { maxTokens, prompt } = this.#layout;
    if (this.library === 'sentence-transformers') return this.tokenizer.encode(prompt + text);
    const ids = this.tokenizer.encode(firstCharacters(text, this.#maxCharacters), maxTokens ?? Infinity);
    return ids.filter((id) => id !== this.tokenizer.unknownId);
  }

  #checkAdapter(adapter: Adapter | null): void {
    if (!adapter || adapter.table === this.table) return;
    throw new FinetableError(
      'MISMATCH',
      `${this.folder}: the adapter is over another table, "${adapter.table.name}" with ${adapter.table.rows} rows; allowed: one over this model's own (${this.table.rows} rows, without any that were added)`,
      { file: this.folder },
    );
  }
}

/**
 * Opens a model folder: `modules.json` with a StaticEmbedding (sentence-transformers), or `config.json` (model2vec), with
 * `model.safetensors` and `tokenizer.json`. The table is mapped unless `options` place it elsewhere.
 * @throws NOT_FOUND (a file that must be there), INVALID_FILE, UNSUPPORTED (other modules, dtypes, parts of a tokenizer), what
 *   `openTable` throws; nothing stays open then
 */
export async function openStaticModel(
  folder: string,
  options: Omit<OpenTableOptions, 'tensor'> = {},
): Promise<StaticModel> {
  const layout = await readStaticLayout(folder);
  const tokenizer = readTokenizer(layout.tokenizer);
  const table = await openTable(layout.file, { ...options, tensor: layout.tensor });
  try {
    return new StaticModel(layout, table, tokenizer);
  } catch (error) {
    table.close();
    throw error;
  }
}

/** The median length of a token in characters, rounded down, by which model2vec cuts texts before it splits them. */
function medianLength(tokens: readonly string[]): number {
  const lengths = Int32Array.from(tokens, (token) => [...token].length).sort();
  const middle = lengths.length >> 1;
  return lengths.length % 2 === 1 ? lengths[middle]! : Math.floor((lengths[middle - 1]! + lengths[middle]!) / 2);
}

function firstCharacters(text: string, count: number): string {
  if (text.length <= count) return text;
  let end = 0;
  for (let i = 0; i < count && end < text.length; i++) end += text.codePointAt(end)! > 0xffff ? 2 : 1;
  return text.slice(0, end);
}

function normalizeRows({ data, rows, cols }: Matrix): void {
  for (let row = 0; row < rows; row++) {
    const vector = data.subarray(row * cols, (row + 1) * cols);
    const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
    if (length > 0) for (let i = 0; i < cols; i++) vector[i]! /= length;
  }
}
