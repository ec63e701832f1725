import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HeUniformRows } from '@finetable/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openSafetensors, readTensorF32 } from '../safetensors/model.ts';
import { writeSafetensors, type TensorSource } from '../safetensors/write.ts';
import { loadAdapter } from './load.ts';
import { loadPeftAdapter, savePeftAdapter } from './peft.ts';
import type { AdapterTensors, GroupTensors } from './tensors.ts';
import { adapterOf, withRest } from '../testing/adapter.ts';

let root: string;
let folder: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'finetable-'));
  folder = join(root, 'x');
});
afterEach(() => rm(root, { recursive: true, force: true }));

const base = { rows: 5, dim: 3, dtype: 'unknown', fingerprint: null };
const words = adapterOf({
  table: 'words', base, kind: 'lora', rank: 2, alpha: 16, rsLora: true,
  rows: new Int32Array([1, 4]), a: new Float32Array([1, 2, 3, 4]), b: new Float32Array([1, 2, 3, 4, 5, 6]),
}); // prettier-ignore

test('writes the tensors and the configuration that PEFT reads', async () => {
  await savePeftAdapter(folder, [words], { modulePaths: { words: 'model.embedding' } });
  const file = join(folder, 'adapter_model.safetensors');
  const model = await openSafetensors(file);
  const key = 'base_model.model.model.embedding.lora_embedding_';
  expect([...model.tensors].map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual([
    [`${key}A`, 'F32', [2, 5]],
    [`${key}B`, 'F32', [3, 2]],
  ]);
  expect([...(await readTensorF32(file, model, `${key}A`))]).toEqual([0, 1, 0, 0, 3, 0, 2, 0, 0, 4]);
  expect([...(await readTensorF32(file, model, `${key}B`))]).toEqual([1, 4, 2, 5, 3, 6]);
  expect(JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'))).toEqual({
    peft_type: 'LORA', task_type: null, base_model_name_or_path: null, r: 2, lora_alpha: 16, target_modules: ['model.embedding'],
    rank_pattern: {}, alpha_pattern: {}, use_rslora: true, use_dora: false, lora_dropout: 0, bias: 'none', fan_in_fan_out: false,
    init_lora_weights: true, inference_mode: true,
  }); // prettier-ignore
  expect(await loadAdapter(folder)).toEqual([{ ...words, table: 'model.embedding' }]);
});

test('tables that differ, one the end of the other: the patterns name each, longest first', async () => {
  const narrow = { rank: 1, a: new Float32Array([1, 2]), b: new Float32Array(3), alpha: 4 };
  const first: AdapterTensors = { ...withRest(words, narrow), table: '0' };
  const second: AdapterTensors = { ...words, table: 'x.0' };
  await savePeftAdapter(folder, [first, second]);
  const config = await readFile(join(folder, 'adapter_config.json'), 'utf8');
  expect(config).toContain('"rank_pattern": {\n    "x.0": 2,\n    "0": 1\n  }');
  expect(await loadAdapter(folder)).toEqual([first, second]);
});

test('more rows than one block, touched at its edges; the same bytes twice', async () => {
  const rows = new Int32Array([0, 2 ** 20 - 1, 2 ** 20, 2 ** 21 - 1, 2 ** 21, 2 ** 21 + 6]);
  const a = Float32Array.from({ length: 12 }, (_, i) => i + 1);
  a[4] = 0; // a row is kept when one of its values is not zero
  const large: AdapterTensors = { ...withRest(words, { rows, a }), base: { ...base, rows: 2 ** 21 + 7 } };
  await savePeftAdapter(folder, [large]);
  expect(await loadAdapter(folder)).toEqual([large]);
  await savePeftAdapter(join(root, 'again'), [large]);
  for (const name of await readdir(folder)) {
    expect((await readFile(join(root, 'again', name))).equals(await readFile(join(folder, name)))).toBe(true);
  }
});

test('an adapter that changes nothing', async () => {
  const nothing = withRest(words, { rows: new Int32Array(0), a: new Float32Array(0) });
  await savePeftAdapter(folder, [nothing]);
  expect(await loadAdapter(folder)).toEqual([nothing]);
});

const group: GroupTensors = {
  name: 'new', members: new Int32Array([3, 4]), untouched: null, kind: 'lora', rank: 1, alpha: 3, rsLora: false,
  rows: new Int32Array([3]), a: new Float32Array([7]), b: new Float32Array([1, 0, -1]),
}; // prettier-ignore

/** The delta of every row, in f64. */
function deltas({ base: { rows: V, dim }, groups }: AdapterTensors): number[] {
  const out = new Array<number>(V * dim).fill(0);
  for (const { rows, rank, alpha, rsLora, a, b } of groups) {
    const scale = alpha / (rsLora ? Math.sqrt(rank) : rank);
    rows.forEach((row, i) => {
      for (let k = 0; k < rank; k++)
        for (let j = 0; j < dim; j++) out[row * dim + j]! += scale * a[i * rank + k]! * b![k * dim + j]!;
    });
  }
  return out;
}

test('groups become one adapter of their ranks together, with the same deltas', async () => {
  const grouped: AdapterTensors = {
    ...words,
    groups: [
      { ...words.groups[0]!, members: new Int32Array([0, 2, 4, 5]) },
      group,
      { ...group, name: 'none', members: new Int32Array([2, 3]), rank: 2, rows: new Int32Array(0), a: new Float32Array(0), b: new Float32Array(6) },
    ],
  }; // prettier-ignore
  await savePeftAdapter(folder, [grouped, { ...words, table: 'other' }]);
  const [loaded, other] = await loadPeftAdapter(folder).then((all) => all.reverse());
  expect(loaded!.groups).toMatchObject([
    { name: 'rest', members: null, rank: 5, alpha: 5, rsLora: false, rows: new Int32Array([1, 3, 4]) },
  ]);
  expect([...loaded!.groups[0]!.a]).toEqual([1, 2, 0, 0, 0, 0, 0, 7, 0, 0, 3, 4, 0, 0, 0]);
  const found = deltas(loaded!);
  deltas(grouped).forEach((delta, i) =>
    expect(Math.abs(found[i]! - delta)).toBeLessThanOrEqual(1e-7 * Math.abs(delta)),
  );
  // PEFT has one use_rslora for all modules: here alpha tells the scale.
  expect(other!.groups[0]).toMatchObject({ rank: 2, rsLora: false, alpha: 16 * Math.sqrt(2) });
  expect(other!.groups[0]!.b).toEqual(words.groups[0]!.b);
});

test('rows that start at random are written out, members only', async () => {
  const V = 2 ** 20 + 5;
  const untouched = { seed: 3, stream: 'words/A' };
  const members = new Int32Array([1, 3, 2 ** 20 - 2, 2 ** 20 + 3]);
  const rows = new Int32Array([2, 2 ** 20]);
  const random: AdapterTensors = {
    ...withRest(words, { untouched, members, rows, rank: 3, a: new Float32Array(6).fill(9), b: new Float32Array(9) }),
    base: { ...base, rows: V },
  };
  await savePeftAdapter(folder, [random]);
  const [loaded] = await loadPeftAdapter(folder);
  const expected = new Int32Array([1, 2, 2 ** 20 - 2, 2 ** 20 - 1, 2 ** 20, 2 ** 20 + 1, 2 ** 20 + 2]);
  const a = new HeUniformRows(untouched.seed, untouched.stream, V, 3).of(expected).data;
  a.fill(9, 3, 6).fill(9, 12, 15);
  expect(loaded!.groups[0]).toMatchObject({ untouched: null, members: null, rows: expected, a });
});

test('DoRA: magnitudes come and go', async () => {
  const dora: AdapterTensors = { ...words, magnitude: new Float32Array([1, 2, 3]) };
  await savePeftAdapter(folder, [{ ...dora, baseSquares: new Float64Array(3) }]);
  const model = await openSafetensors(join(folder, 'adapter_model.safetensors'));
  expect([...model.tensors.keys()]).toContain('base_model.model.words.lora_magnitude_vector');
  expect(await readFile(join(folder, 'adapter_config.json'), 'utf8')).toContain('"use_dora": true');
  expect(await loadAdapter(folder)).toEqual([dora]);
});

test('refuses to save what PEFT cannot hold, and writes nothing', async () => {
  const dense = withRest(words, { kind: 'dense', rank: 3, a: new Float32Array(6), b: null });
  await expect(savePeftAdapter(folder, [dense])).rejects.toThrow(/PEFT has no format for a dense delta/);
  const partly = { ...words, groups: [{ ...words.groups[0]!, members: new Int32Array([0, 2, 4, 5]) }, { ...dense.groups[0]!, name: 'new', members: new Int32Array([2, 3]), rows: new Int32Array(0), a: new Float32Array(0) }] }; // prettier-ignore
  await expect(savePeftAdapter(folder, [partly])).rejects.toThrow(/PEFT has no format for a dense delta.*merge it/);
  await expect(savePeftAdapter(folder, [{ ...words, grown: new Float32Array(3) }])).rejects.toThrow(
    /no format for rows that the base lacks; merge the adapter/,
  );
  const dora = { ...words, table: 'other', magnitude: new Float32Array(3) };
  await expect(savePeftAdapter(folder, [words, dora])).rejects.toThrow(/one use_dora for all tables, and these differ/);
  const huge = { ...words, groups: [{ ...words.groups[0]!, members: new Int32Array([0, 2, 4, 5]) }, { ...group, alpha: 1e39 }] }; // prettier-ignore
  await expect(savePeftAdapter(folder, [huge])).rejects.toThrow(
    /group "new": B times its scale, 1e\+39, goes beyond f32/,
  );
  await expect(savePeftAdapter(folder, [{ ...words, table: 'a(b' }])).rejects.toThrow(/module path "a\(b"/);
  expect(await readdir(root)).toEqual([]);
});

const key = 'base_model.model.embedding.lora_embedding_';
const aTensor: TensorSource = {
  name: `${key}A`,
  dtype: 'F32',
  shape: [2, 5],
  data: new Float32Array([0, 1, 0, 0, 3, 0, 2, 0, 0, 4]),
};
const bTensor: TensorSource = {
  name: `${key}B`,
  dtype: 'F32',
  shape: [3, 2],
  data: new Float32Array([1, 4, 2, 5, 3, 6]),
};
const smallest = { peft_type: 'LORA', r: 2, lora_alpha: 16, target_modules: ['embedding'] };

async function python(config: object, tensors: TensorSource[] = [aTensor, bTensor], name = ''): Promise<string> {
  await mkdir(join(folder, name), { recursive: true });
  await writeFile(join(folder, name, 'adapter_config.json'), JSON.stringify(config));
  await writeSafetensors(join(folder, name, 'adapter_model.safetensors'), tensors, { format: 'pt' });
  return folder;
}
const expected: AdapterTensors = { ...withRest(words, { rsLora: false }), table: 'embedding' };

test('the smallest configuration, one with every field that PEFT writes, a sub-folder', async () => {
  expect(await loadPeftAdapter(await python(smallest))).toEqual([expected]);
  const full = {
    ...smallest, alora_invocation_tokens: null, alpha_pattern: {}, arrow_config: null, auto_mapping: { base_model_class: 'M' },
    base_model_name_or_path: 'x', bias: 'none', corda_config: null, ensure_weight_tying: false, eva_config: null, exclude_modules: null,
    fan_in_fan_out: false, inference_mode: true, init_lora_weights: true, layer_replication: null, layers_pattern: null,
    layers_to_transform: null, loftq_config: {}, lora_bias: false, lora_dropout: 0.0, megatron_config: null,
    megatron_core: 'megatron.core', modules_to_save: null, peft_version: '0.20.0', qalora_group_size: 16, rank_pattern: {}, revision: null,
    target_parameters: null, task_type: null, trainable_token_indices: null, use_dora: false, use_qalora: false, use_rslora: false,
  }; // prettier-ignore
  expect(await loadPeftAdapter(await python(full))).toEqual([expected]);
  await rm(folder, { recursive: true });
  expect(await loadPeftAdapter(await python(smallest, undefined, 'german'))).toEqual([expected]);
});

test('defaults of absent fields, patterns, modules as a regular expression', async () => {
  const eight = (tensor: TensorSource, shape: number[]): TensorSource => ({ ...tensor, shape, data: new Float32Array(shape[0]! * shape[1]!).fill(1) }); // prettier-ignore
  await python({ peft_type: 'LORA', target_modules: '.*embedding' }, [eight(aTensor, [8, 1]), eight(bTensor, [3, 8])]);
  expect(await loadPeftAdapter(folder)).toMatchObject([
    { groups: [{ rank: 8, alpha: 8, rsLora: false, rows: new Int32Array([0]) }] },
  ]);
  await python({ ...smallest, r: 7, rank_pattern: { other: 3, embedding: 2 }, alpha_pattern: { embedding: 0.5 } });
  expect(await loadPeftAdapter(folder)).toEqual([withRest(expected, { alpha: 0.5 })]);
});

test('F16 and BF16 factors, and a copy of the base', async () => {
  const half = (tensor: TensorSource, codes: number[]): TensorSource => ({
    ...tensor,
    dtype: 'F16',
    data: new Uint16Array(codes),
  });
  const copy: TensorSource = {
    name: 'base_model.model.embedding.base_layer.weight',
    dtype: 'BF16',
    shape: [5, 3],
    data: new Uint16Array(15),
  };
  const tensors = [
    half(aTensor, [0, 0x3c00, 0, 0, 0x4200, 0x8000, 0x4000, 0, 0, 0x4400]), // -0 is zero too
    half(bTensor, [0x3c00, 0x4400, 0x4000, 0x4500, 0x4200, 0x4600]),
    copy,
  ];
  expect(await loadPeftAdapter(await python(smallest, tensors))).toEqual([expected]);
  await python(smallest, [aTensor, bTensor, { ...copy, shape: [3, 5] }]);
  await expect(loadPeftAdapter(folder)).rejects.toThrow(
    /base_layer.weight" is BF16 \[3, 5\]; needed: \[V, D\] = \[5, 3\]/,
  );
});

test('patterns as PEFT matches them: the end of a path, a dot as any character, the first that matches', async () => {
  const one = (name: string): TensorSource[] =>
    [aTensor, bTensor].map((tensor) => ({ ...tensor, name: tensor.name.replace('embedding.', `${name}.`) }));
  const names = ['x.a.b', 'x.azb', 'xa.b', 'a.b'];
  const target_modules = names;
  const alphas = async (alpha_pattern: object) => {
    await python({ ...smallest, target_modules, alpha_pattern }, names.flatMap(one));
    return Object.fromEntries((await loadPeftAdapter(folder)).map(({ table, groups }) => [table, groups[0]!.alpha]));
  };
  expect(await alphas({ 'a.b': 1, 'x.a.b': 2 })).toEqual({ 'x.a.b': 1, 'x.azb': 1, 'xa.b': 16, 'a.b': 1 });
  expect(await alphas({ 'x.a.b': 2, 'a.b': 1 })).toEqual({ 'x.a.b': 2, 'x.azb': 2, 'xa.b': 16, 'a.b': 1 });
  // Saved so that each finds its own.
  const adapters = ['a.b', 'azb', 'x.a.b', 'x.azb'].map((table, i) => ({
    ...withRest(words, { alpha: i + 1 }),
    table,
  }));
  await rm(folder, { recursive: true });
  await savePeftAdapter(folder, adapters);
  expect(await loadPeftAdapter(folder)).toEqual(adapters);
});

test('what training did and the file need not say: dropout, starts that leave the base alone', async () => {
  for (const change of [{ lora_dropout: 0.1 }, { init_lora_weights: 'orthogonal' }, { init_lora_weights: 'mica' }])
    expect(await loadPeftAdapter(await python({ ...smallest, ...change }))).toEqual([expected]);
});

test('DoRA as PEFT writes it, in F16 too, and with .weight', async () => {
  const name = 'base_model.model.embedding.lora_magnitude_vector';
  const magnitude: TensorSource = { name, dtype: 'F16', shape: [3], data: new Uint16Array([0x3c00, 0x4000, 0x4200]) };
  const dora = { ...smallest, use_dora: true };
  const loaded = { ...expected, magnitude: new Float32Array([1, 2, 3]) };
  expect(await loadPeftAdapter(await python(dora, [aTensor, bTensor, magnitude]))).toEqual([loaded]);
  const again = { ...magnitude, name: `${name}.weight` };
  expect(await loadPeftAdapter(await python(dora, [aTensor, bTensor, again]))).toEqual([loaded]);
  await python(dora, [aTensor, bTensor, magnitude, again]);
  await expect(loadPeftAdapter(folder)).rejects.toThrow(/lora_magnitude_vector" again; allowed: one of them/);
  await python(dora, [aTensor, bTensor, { ...magnitude, shape: [1, 3] }]);
  await expect(loadPeftAdapter(folder)).rejects.toThrow(/is F16 \[1, 3\]; needed: \[D\] = \[3\]/);
  await python(dora, [aTensor, bTensor, { ...magnitude, dtype: 'F64', data: new Float64Array(3) }]);
  await expect(loadPeftAdapter(folder)).rejects.toThrow(/is F64 \[3\]; needed: F32, F16 or BF16/);
});

test.each<[name: string, config: object, code: string, message: RegExp]>([
  ['another method', { peft_type: 'IA3' }, 'UNSUPPORTED', /peft_type is "IA3"; allowed: "LORA"/],
  ['no method', { peft_type: undefined }, 'UNSUPPORTED', /peft_type is missing/],
  [
    'DoRA without magnitudes',
    { use_dora: true },
    'INVALID_FILE',
    /use_dora is true, and there is no lora_magnitude_vector of module "embedding"/,
  ],
  ['a dropout of all', { lora_dropout: 1 }, 'INVALID_FILE', /lora_dropout is 1; allowed: a number from 0, below 1/],
  ['biases', { bias: 'all' }, 'UNSUPPORTED', /bias is "all"; allowed: "none"/],
  [
    'an initialisation that changes the base',
    { init_lora_weights: 'pissa' },
    'UNSUPPORTED',
    /init_lora_weights is "pissa"/,
  ],
  [
    'saved modules',
    { modules_to_save: ['head'] },
    'UNSUPPORTED',
    /modules_to_save is an array; allowed: null, false or empty/,
  ],
  [
    'token indices',
    { trainable_token_indices: { embedding: [1] } },
    'UNSUPPORTED',
    /trainable_token_indices is an object/,
  ],
  ['a field that nobody knows', { use_magic: true }, 'UNSUPPORTED', /use_magic is true/],
  [
    'a regular expression as pattern',
    { rank_pattern: { '(a+)+': 2 } },
    'UNSUPPORTED',
    /regular expressions are not supported/,
  ],
  ['a rank that is no integer', { r: 2.5 }, 'INVALID_FILE', /r is 2.5; allowed: an integer from 1/],
  ['a rank in quotes', { r: '2' }, 'INVALID_FILE', /r is "2"; allowed: an integer from 1/],
  ['an alpha in quotes', { lora_alpha: '2' }, 'INVALID_FILE', /lora_alpha is "2"; allowed: a finite number/],
  ['a flag that is none', { use_rslora: 1 }, 'INVALID_FILE', /use_rslora is 1; allowed: true or false/],
  ['modules that are no list', { target_modules: { a: 1 } }, 'INVALID_FILE', /target_modules is an object/],
  [
    'a pattern that is no object',
    { rank_pattern: [1] },
    'INVALID_FILE',
    /rank_pattern is an array; allowed: an object/,
  ],
  [
    'a module without factors',
    { target_modules: ['embedding', 'other'] },
    'INVALID_FILE',
    /names "other", for which there are no factors/,
  ],
  [
    'factors without a module',
    { target_modules: [] },
    'INVALID_FILE',
    /factors for "embedding", which target_modules \(\) does not name/,
  ],
  ['another rank', { r: 3 }, 'INVALID_FILE', /lora_embedding_A" is F32 \[2, 5\]; needed: \[r, V\] with r = 3/],
])('refuses %s', async (_, change, code, message) => {
  const error = await loadPeftAdapter(await python({ ...smallest, ...change })).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code });
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message).toContain(folder);
});

const other = (tensor: TensorSource, name: string): TensorSource => ({ ...tensor, name });
test.each<[name: string, tensors: TensorSource[], code: string, message: RegExp]>([
  ['no B', [aTensor], 'INVALID_FILE', /module "embedding" has no lora_embedding_B; both factors are needed/],
  ['no A', [bTensor], 'INVALID_FILE', /module "embedding" has no lora_embedding_A/],
  ['no tensors', [], 'INVALID_FILE', /has no tensors/],
  [
    'a magnitude',
    [aTensor, bTensor, other(bTensor, 'base_model.model.embedding.lora_magnitude_vector')],
    'INVALID_FILE',
    /use_dora is false, and there is a lora_magnitude_vector of module "embedding"/,
  ],
  [
    'a linear layer',
    [aTensor, bTensor, other(bTensor, 'base_model.model.q.lora_A.weight')],
    'UNSUPPORTED',
    /a layer that is not an embedding/,
  ],
  [
    'another tensor',
    [aTensor, bTensor, other(bTensor, 'classifier.weight')],
    'UNSUPPORTED',
    /"classifier.weight": is not known; allowed/,
  ],
  [
    'another dtype',
    [{ ...aTensor, dtype: 'F64', data: new Float64Array(10) }, bTensor],
    'INVALID_FILE',
    /is F64 \[2, 5\]; needed: F32, F16 or BF16/,
  ],
  [
    'a transposed A',
    [{ ...aTensor, shape: [5, 2] }, bTensor],
    'INVALID_FILE',
    /is F32 \[5, 2\]; needed: \[r, V\] with r = 2/,
  ],
  [
    'a transposed B',
    [aTensor, { ...bTensor, shape: [2, 3] }],
    'INVALID_FILE',
    /is F32 \[2, 3\]; needed: \[D, r\] with r = 2/,
  ],
  ['three dimensions', [{ ...aTensor, shape: [2, 5, 1] }, bTensor], 'INVALID_FILE', /is F32 \[2, 5, 1\]/],
  ['NaN', [{ ...aTensor, data: new Float32Array(10).fill(NaN) }, bTensor], 'NON_FINITE', /A\[0, 0\] is NaN/],
])('refuses a file with %s', async (_, tensors, code, message) => {
  const error = await loadPeftAdapter(await python(smallest, tensors)).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code });
  expect((error as Error).message).toMatch(message);
});

test('a pickle is refused with a remedy', async () => {
  await python(smallest);
  await rm(join(folder, 'adapter_model.safetensors'));
  await writeFile(join(folder, 'adapter_model.bin'), '');
  await expect(loadPeftAdapter(folder)).rejects.toThrow(
    /a Python pickle, which is not read; save it again with safe_serialization=True/,
  );
});
