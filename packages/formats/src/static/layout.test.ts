import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeSafetensors, type TensorSource } from '../safetensors/write.ts';
import { readStaticLayout } from './layout.ts';

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'static-'))));
afterAll(() => rm(folder, { recursive: true }));

let count = 0;
const f32 = (name: string, ...shape: number[]): TensorSource => ({
  name,
  dtype: 'F32',
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b)),
});

/** Files by path; values other than text are JSON. */
async function write(tensors: TensorSource[], files: Readonly<Record<string, unknown>>, at = ''): Promise<string> {
  const model = join(folder, `${count++}`);
  await mkdir(join(model, at), { recursive: true });
  if (tensors.length > 0) await writeSafetensors(join(model, at, 'model.safetensors'), tensors);
  for (const [path, value] of Object.entries(files)) {
    await mkdir(join(model, path, '..'), { recursive: true });
    await writeFile(join(model, path), typeof value === 'string' ? value : JSON.stringify(value));
  }
  return model;
}

const embedding = { idx: 0, name: '0', path: '', type: 'sentence_transformers.models.StaticEmbedding' };
const normalize = {
  idx: 1,
  name: '1',
  path: '1_Normalize',
  type: 'sentence_transformers.base.modules.normalize.Normalize',
};
const files = { 'tokenizer.json': {}, 'modules.json': [embedding] };
const own = { 'tokenizer.json': {}, 'config.json': {} };

test('sentence-transformers: in the root, and in a folder of its own', async () => {
  const model = await write([f32('embedding.weight', 3, 2)], files);
  expect(await readStaticLayout(model)).toEqual({
    folder: model,
    library: 'sentence-transformers',
    file: join(model, 'model.safetensors'),
    tensor: 'embedding.weight',
    tokenizer: join(model, 'tokenizer.json'),
    normalize: false,
    prompt: '',
    maxTokens: null,
    weights: null,
    mapping: null,
    folders: [''],
  });
  const nested = await write(
    [f32('embedding.weight', 3, 2)],
    {
      '0_StaticEmbedding/tokenizer.json': {},
      '1_Normalize/config.json': { module_input_name: 'sentence_embedding' },
      'modules.json': [{ ...embedding, path: '0_StaticEmbedding' }, normalize],
      'config_sentence_transformers.json': {
        default_prompt_name: 'ask',
        prompts: { ask: 'how: ' },
        truncate_dim: null,
      },
    },
    '0_StaticEmbedding',
  );
  expect(await readStaticLayout(nested)).toMatchObject({
    file: join(nested, '0_StaticEmbedding', 'model.safetensors'),
    normalize: true,
    prompt: 'how: ',
    folders: ['', '0_StaticEmbedding', '1_Normalize'],
  });
});

test('model2vec: settings with their defaults, weights and mapping by token', async () => {
  const plain = await write([f32('embeddings', 3, 2)], own);
  expect(await readStaticLayout(plain)).toMatchObject({
    library: 'model2vec',
    tensor: 'embeddings',
    normalize: false,
    maxTokens: 512,
    weights: null,
    mapping: null,
  });
  const tensors: TensorSource[] = [
    f32('embeddings', 3, 2),
    { name: 'weights', dtype: 'F64', shape: [4], data: Float64Array.of(1, 0.5, 2, 0) },
    { name: 'mapping', dtype: 'I64', shape: [4], data: BigInt64Array.of(2n, 0n, 2n, 1n) },
  ];
  const config = { normalize: true, max_length: null, embedding_dtype: 'float32', anything: 1 };
  expect(await readStaticLayout(await write(tensors, { ...own, 'config.json': config }))).toMatchObject({
    normalize: true,
    maxTokens: null,
    weights: Float32Array.of(1, 0.5, 2, 0),
    mapping: Int32Array.of(2, 0, 2, 1),
  });
});

const table = [f32('embedding.weight', 3, 2)];
const vectors = [f32('embeddings', 3, 2)];
const rows = (...values: number[]): TensorSource => ({
  name: 'mapping',
  dtype: 'I32',
  shape: [values.length],
  data: Int32Array.from(values),
});
const settings = (value: object): object => ({ ...files, 'config_sentence_transformers.json': value });
test.for<[string, TensorSource[], object, string, string]>([
  ['no table', [], files, 'NOT_FOUND', 'model.safetensors: no such file; a static embedding model has model.safetensors with'],
  ['no tokenizer', table, { 'modules.json': [embedding] }, 'NOT_FOUND', 'tokenizer.json: no such file'],
  ['no modules.json', table, { 'tokenizer.json': {} }, 'NOT_FOUND', 'modules.json: no such file; sentence-transformers needs it'],
  ['no config.json', vectors, { 'tokenizer.json': {} }, 'NOT_FOUND', 'config.json: no such file; model2vec needs it'],
  ['another tensor', [f32('weight', 3, 2)], files, 'INVALID_FILE', 'has the tensors "weight"; allowed: "embedding.weight" or'],
  ['a table of another shape', [f32('embedding.weight', 6)], files, 'INVALID_FILE', 'has shape [6]; allowed: [rows, dims]'],
  ['a dense layer', table, { ...files, 'modules.json': [embedding, { ...normalize, type: 'sentence_transformers.models.Dense' }] }, 'UNSUPPORTED', 'module "sentence_transformers.models.Dense"; allowed: sentence_transformers StaticEmbedding, then Normalize'],
  ['a transformer', table, { ...files, 'modules.json': [{ ...embedding, type: 'sentence_transformers.models.Transformer' }] }, 'UNSUPPORTED', 'module "sentence_transformers.models.Transformer"'],
  ["somebody else's module", table, { ...files, 'modules.json': [{ ...embedding, type: 'mine.StaticEmbedding' }] }, 'UNSUPPORTED', 'module "mine.StaticEmbedding"'],
  ['a path out of the model', table, { ...files, 'modules.json': [{ ...embedding, path: '../x' }] }, 'INVALID_FILE', 'module 0 has the path "../x"; allowed: a folder inside'],
  ['modules that are none', table, { ...files, 'modules.json': {} }, 'INVALID_FILE', 'modules.json: found an object; allowed: a list of modules'],
  ['a cut to fewer dims', table, settings({ truncate_dim: 1 }), 'UNSUPPORTED', 'truncate_dim is 1; allowed: null'],
  ['another kind of model', table, settings({ model_type: 'CrossEncoder' }), 'UNSUPPORTED', 'model_type is "CrossEncoder"'],
  ['a prompt that is not there', table, settings({ default_prompt_name: 'ask', prompts: {} }), 'INVALID_FILE', 'default_prompt_name is "ask"'],
  ['tokens normalised', table, { ...files, 'modules.json': [embedding, normalize], '1_Normalize/config.json': { module_input_name: 'token_embeddings' } }, 'UNSUPPORTED', 'module_input_name is "token_embeddings"; allowed: "sentence_embedding"'],
  ['int8', [{ name: 'embeddings', dtype: 'I8', shape: [3, 2], data: new Int8Array(6) }], own, 'UNSUPPORTED', 'tensor "embeddings" is I8; allowed: F32, F16, BF16'],
  ['max_length 0', vectors, { ...own, 'config.json': { max_length: 0 } }, 'INVALID_FILE', 'max_length is 0; allowed: an integer from 1, or null'],
  ['normalize as text', vectors, { ...own, 'config.json': { normalize: 'yes' } }, 'INVALID_FILE', 'normalize is "yes"; allowed: true, false'],
  ['a mapping out of the table', [...vectors, rows(0, 3)], own, 'INVALID_FILE', 'tensor "mapping" gives token 1 row 3; allowed: 0 to 2'],
  ['a negative mapping', [...vectors, rows(-1)], own, 'INVALID_FILE', 'gives token 0 row -1'],
  ['weights that are too few', [...vectors, f32('weights', 2)], own, 'INVALID_FILE', 'tensor "weights" has 2 values; allowed: 3, one for each token'],
  ['weights in a matrix', [...vectors, f32('weights', 3, 1)], own, 'INVALID_FILE', 'tensor "weights" has shape [3, 1]; allowed: [tokens]'],
  ['a mapping of floats', [...vectors, f32('mapping', 3)], own, 'INVALID_FILE', 'tensor "mapping" is F32; allowed: integers'],
  ['infinite weights', [...vectors, { ...f32('weights', 3), data: Float32Array.of(1, Infinity, 1) }], own, 'NON_FINITE', 'tensor "weights" holds Infinity at 1'],
])('%s', async ([, tensors, contents, code, message], { expect }) => {
  const model = await write(tensors, contents as Record<string, unknown>);
  const error: unknown = await readStaticLayout(model).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code, message: expect.stringContaining(message) as string });
}); // prettier-ignore
