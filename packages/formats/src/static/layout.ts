/**
 * Folders of static embedding models: a table, its tokenizer, and what to do with the rows of a text's tokens.
 *
 * Two layouts, told apart by the tensor's name in `model.safetensors`:
 * - sentence-transformers (read as 6.2 does): `modules.json` names one StaticEmbedding module, in the root or a folder, with
 *   `embedding.weight` [V, D] and `tokenizer.json`; after it there may be Normalize modules;
 * - model2vec (as 0.10 does): `embeddings` [R, D] and perhaps `weights` [V] and `mapping` [V] (token id to row), beside
 *   `config.json` and `tokenizer.json`.
 *
 * Everything else that would change a vector is refused by name: other modules, a cut to fewer dims, int8 rows without scales.
 */
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import { exists } from '../adapter/folder.ts';
import { readSmallText, show } from '../io.ts';
import { parseJson, readJsonObject, type JsonObject, type JsonValue } from '../json.ts';
import {
  openSafetensors,
  readTensor,
  readTensorF32,
  type SafetensorsModel,
  type TensorInfo,
} from '../safetensors/model.ts';

/** Where the parts of a static embedding model lie in its folder, and how its library reads them. */
export interface StaticLayout {
  readonly folder: string;
  readonly library: 'sentence-transformers' | 'model2vec';
  /** The file and the name of the table's tensor. */
  readonly file: string;
  readonly tensor: string;
  readonly tokenizer: string;
  /** Whether sentence vectors are scaled to length 1. */
  readonly normalize: boolean;
  /** Put before every text (sentence-transformers' default prompt); mostly empty. */
  readonly prompt: string;
  /** model2vec cuts texts to so many tokens; null: to as many as the tokenizer file says. */
  readonly maxTokens: number | null;
  /** `[V] f32` by token id; null: all 1. */
  readonly weights: Float32Array | null;
  /** `[V] i32`, the table's row of each token id; null: the id is the row. */
  readonly mapping: Int32Array | null;
  /** Folders of the model's modules, relative to `folder`; the root is ''. */
  readonly folders: readonly string[];
}

/** model2vec's own default. */
const defaultMaxTokens = 512;

/**
 * Reads what a model folder says of itself, and the small tensors beside the table.
 * @throws NOT_FOUND (a file that must be there), INVALID_FILE (shapes, ids outside the table, broken configurations),
 *   UNSUPPORTED (other modules, settings or dtypes), IO
 */
export async function readStaticLayout(folder: string): Promise<StaticLayout> {
  const modules = (await exists(join(folder, modulesName))) ? await readModules(folder) : null;
  const root = modules?.embedding ?? '';
  const file = join(folder, root, tableName);
  if (!(await exists(file))) {
    const expected = `${tableName} with tokenizer.json, and modules.json (sentence-transformers) or config.json (model2vec)`;
    throw missing(file, `no such file; a static embedding model has ${expected}`);
  }
  const tokenizer = join(folder, root, 'tokenizer.json');
  if (!(await exists(tokenizer))) throw missing(tokenizer, 'no such file; the model needs its tokenizer');
  const model = await openSafetensors(file);
  const folders = [...new Set(['', root, ...(modules?.normalizers ?? [])])];
  if (model.tensors.has('embeddings')) {
    const own = await readModel2vec(join(folder, root), model);
    return { folder, library: 'model2vec', file, tensor: 'embeddings', tokenizer, prompt: '', folders, ...own };
  }
  checkTable(model, 'embedding.weight');
  if (!modules) {
    throw missing(
      join(folder, modulesName),
      'no such file; sentence-transformers needs it, with a StaticEmbedding module',
    );
  }
  return {
    folder,
    library: 'sentence-transformers',
    file,
    tensor: 'embedding.weight',
    tokenizer,
    normalize: modules.normalizers.length > 0,
    prompt: await readPrompt(folder),
    maxTokens: null,
    weights: null,
    mapping: null,
    folders,
  };
}

const modulesName = 'modules.json';
const tableName = 'model.safetensors';

interface Modules {
  /** Folder of the StaticEmbedding module. */
  readonly embedding: string;
  readonly normalizers: readonly string[];
}

async function readModules(folder: string): Promise<Modules> {
  const file = join(folder, modulesName);
  const list = parseJson(await readSmallText(file, largestConfigBytes), file);
  if (!Array.isArray(list) || list.length === 0) throw invalid(file, `found ${show(list)}; allowed: a list of modules`);
  const modules = list.map((item, i) => readModule(file, item, i));
  const [first, ...rest] = modules;
  const wrong = first!.name === 'StaticEmbedding' ? rest.find(({ name }) => name !== 'Normalize') : first!;
  if (wrong) {
    const allowed = 'sentence_transformers StaticEmbedding, then Normalize or nothing';
    throw unsupported(file, `module ${show(wrong.type)}; allowed: ${allowed}`);
  }
  for (const { path } of rest) await checkNormalize(join(folder, path, 'config.json'));
  return { embedding: first!.path, normalizers: rest.map(({ path }) => path) };
}

function readModule(file: string, item: JsonValue, i: number): { type: string; name: string; path: string } {
  const [type, path] = item instanceof Map ? [item.get('type'), item.get('path')] : [];
  if (typeof type !== 'string' || typeof path !== 'string') {
    throw invalid(file, `module ${i} is ${show(item)}; allowed: an object with type and path`);
  }
  if (/^[/\\]|^[A-Za-z]:|\0/.test(path) || path.split(/[/\\]/).includes('..')) {
    throw invalid(file, `module ${i} has the path ${show(path)}; allowed: a folder inside the model's`);
  }
  // A class of somebody else's may be called StaticEmbedding too.
  const name = /^sentence_transformers\.(?:\w+\.)*(\w+)$/.exec(type)?.[1] ?? type;
  return { type, name, path: path === '.' ? '' : path };
}

async function checkNormalize(file: string): Promise<void> {
  if (!(await exists(file))) return;
  const config = await readJsonObject(file);
  for (const member of ['module_input_name', 'module_output_name']) {
    const value = config.get(member) ?? null;
    if (value !== null && value !== 'sentence_embedding') {
      throw unsupported(file, `${member} is ${show(value)}; allowed: "sentence_embedding"`);
    }
  }
}

/** The default prompt of `config_sentence_transformers.json`, and a refusal of what we would not do. */
async function readPrompt(folder: string): Promise<string> {
  const file = join(folder, 'config_sentence_transformers.json');
  if (!(await exists(file))) return '';
  const config = await readJsonObject(file);
  const type = config.get('model_type') ?? 'SentenceTransformer';
  if (type !== 'SentenceTransformer') {
    throw unsupported(file, `model_type is ${show(type)}; allowed: "SentenceTransformer"`);
  }
  const dims = config.get('truncate_dim') ?? null;
  if (dims !== null) throw unsupported(file, `truncate_dim is ${show(dims)}; allowed: null, vectors are not cut`);
  const name = config.get('default_prompt_name') ?? null;
  if (name === null) return '';
  const prompts = config.get('prompts');
  const prompt = prompts instanceof Map && typeof name === 'string' ? (prompts as JsonObject).get(name) : undefined;
  if (typeof prompt === 'string') return prompt;
  throw invalid(file, `default_prompt_name is ${show(name)}; allowed: null, or a name in prompts`);
}

type OwnOfModel2vec = Pick<StaticLayout, 'normalize' | 'maxTokens' | 'weights' | 'mapping'>;

async function readModel2vec(folder: string, model: SafetensorsModel): Promise<OwnOfModel2vec> {
  const rows = checkTable(model, 'embeddings').shape[0]!;
  const file = join(folder, 'config.json');
  if (!(await exists(file))) throw missing(file, 'no such file; model2vec needs it');
  const config = await readJsonObject(file);
  const normalize = config.get('normalize') ?? false;
  if (typeof normalize !== 'boolean') throw invalid(file, `normalize is ${show(normalize)}; allowed: true, false`);
  const maxTokens = config.has('max_length') ? config.get('max_length')! : defaultMaxTokens;
  if (maxTokens !== null && !(typeof maxTokens === 'number' && maxTokens >= 1)) {
    throw invalid(file, `max_length is ${show(maxTokens)}; allowed: an integer from 1, or null`);
  }
  const mapping = await readMapping(model, rows);
  const weights = await readWeights(model);
  const ids = mapping?.length ?? rows;
  if (weights && weights.length !== ids) {
    throw invalid(model.path, `tensor "weights" has ${weights.length} values; allowed: ${ids}, one for each token`);
  }
  return { normalize, maxTokens, weights, mapping };
}

async function readWeights(model: SafetensorsModel): Promise<Float32Array | null> {
  if (!model.tensors.has('weights')) return null;
  checkVector(model, 'weights');
  const weights = await readTensorF32(model.path, model, 'weights');
  const bad = weights.findIndex((weight) => !Number.isFinite(weight));
  if (bad < 0) return weights;
  throw new FinetableError('NON_FINITE', `${model.path}: tensor "weights" holds ${weights[bad]} at ${bad}`, {
    file: model.path,
    tensor: 'weights',
  });
}

async function readMapping(model: SafetensorsModel, rows: number): Promise<Int32Array | null> {
  if (!model.tensors.has('mapping')) return null;
  const { dtype } = checkVector(model, 'mapping');
  if (!/^[IU]\d+$/.test(dtype)) throw invalid(model.path, `tensor "mapping" is ${dtype}; allowed: integers`);
  const { data } = await readTensor(model.path, model, 'mapping');
  const values = Float64Array.from(data as ArrayLike<number | bigint>, Number);
  const bad = values.findIndex((row) => row < 0 || row >= rows);
  if (bad < 0) return Int32Array.from(values);
  throw invalid(model.path, `tensor "mapping" gives token ${bad} row ${values[bad]}; allowed: 0 to ${rows - 1}`);
}

function checkVector({ path, tensors }: SafetensorsModel, name: string): TensorInfo {
  const info = tensors.get(name)!;
  if (info.shape.length === 1) return info;
  throw invalid(path, `tensor "${name}" has shape [${info.shape.join(', ')}]; allowed: [tokens]`);
}

function checkTable({ path, tensors }: SafetensorsModel, name: string): TensorInfo {
  const info = tensors.get(name);
  if (!info) {
    const found = [...tensors.keys()].slice(0, 8).map(show).join(', ') || 'none';
    throw invalid(path, `has the tensors ${found}; allowed: "embedding.weight" or "embeddings", as [rows, dims]`);
  }
  const { shape, dtype } = info;
  if (shape.length !== 2 || shape.includes(0)) {
    throw invalid(path, `tensor "${name}" has shape [${shape.join(', ')}]; allowed: [rows, dims], both at least 1`);
  }
  if (['F32', 'F16', 'BF16'].includes(dtype)) return info;
  throw unsupported(
    path,
    `tensor "${name}" is ${dtype}; allowed: F32, F16, BF16. Save the model in one of these first`,
  );
}

/** Larger than any list of modules. */
const largestConfigBytes = 2 ** 20;

const invalid = (file: string, message: string): FinetableError =>
  new FinetableError('INVALID_FILE', `${file}: ${message}`, { file });
const unsupported = (file: string, message: string): FinetableError =>
  new FinetableError('UNSUPPORTED', `${file}: ${message}`, { file });
const missing = (file: string, message: string): FinetableError =>
  new FinetableError('NOT_FOUND', `${file}: ${message}`, { file });
