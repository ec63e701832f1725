import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readSafetensorsHeader } from '../safetensors/header.ts';
import { writeSafetensors, type TensorSource } from '../safetensors/write.ts';
import { loadAdapter } from './load.ts';
import { loadSparseAdapter, saveSparseAdapter } from './sparse.ts';
import type { AdapterTensors } from './tensors.ts';
import { adapterOf, withRest } from '../testing/adapter.ts';

let root: string;
let folder: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'finetable-'));
  folder = join(root, 'adapters', 'x');
});
afterEach(() => rm(root, { recursive: true, force: true }));

const words = adapterOf({
  table: 'words',
  base: { rows: 10, dim: 3, dtype: 'f16', fingerprint: 'abc' },
  kind: 'lora',
  rank: 2,
  alpha: 16,
  rsLora: false,
  rows: new Int32Array([1, 4, 9]),
  a: new Float32Array([1, 2, 3, 4, 5, 6]),
  b: new Float32Array([1, 2, 3, 4, 5, 6]),
});
const rest = words.groups[0]!;
const dense: AdapterTensors = {
  ...withRest(words, { kind: 'dense', rank: 3, alpha: 3, a: new Float32Array(9).fill(7), b: null }),
  table: 'new',
};
const empty: AdapterTensors = {
  ...withRest(words, { rows: new Int32Array(0), a: new Float32Array(0), alpha: 0.1, rsLora: true }),
  table: 'x.words',
};
const withoutFingerprint: AdapterTensors = { ...words, table: '0', base: { ...words.base, fingerprint: null } };

test('what is saved is loaded: several tables, kinds, ranks, alphas, scales', async () => {
  const adapters = [words, dense, empty, withoutFingerprint];
  await saveSparseAdapter(folder, adapters);
  expect(await loadSparseAdapter(folder)).toEqual(adapters);
  expect(await loadAdapter(folder)).toEqual(adapters);
  expect((await readdir(folder)).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
});

test('the file is as its description says', async () => {
  await saveSparseAdapter(folder, [words]);
  const { tensors, metadata } = await readSafetensorsHeader(join(folder, 'adapter_model.safetensors'));
  expect([...tensors].map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual([
    ['words.A', 'F32', [3, 2]],
    ['words.B', 'F32', [2, 3]],
    ['words.rows', 'I32', [3]],
  ]);
  expect(JSON.parse(metadata['words.base']!)).toEqual({ rows: 10, dim: 3, dtype: 'f16', fingerprint: 'abc' });
  expect(JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'))).toMatchObject({
    peft_type: 'LORA',
    r: 2,
    lora_alpha: 16,
    target_modules: ['words'],
    rank_pattern: {},
    alpha_pattern: {},
    use_rslora: false,
    finetable: { format: 1, kinds: { words: 'lora' } },
  });
});

test('the same adapter gives the same bytes', async () => {
  const again = join(root, 'again');
  await saveSparseAdapter(folder, [words, dense, empty]);
  await saveSparseAdapter(again, [words, dense, empty]);
  for (const name of await readdir(folder))
    expect(await readFile(join(again, name))).toEqual(await readFile(join(folder, name)));
});

test('replaces an adapter only when asked to, and never another folder', async () => {
  await saveSparseAdapter(folder, [words]);
  await expect(saveSparseAdapter(folder, [dense])).rejects.toMatchObject({ code: 'EXISTS' });
  expect(await loadSparseAdapter(folder)).toEqual([words]);
  await saveSparseAdapter(folder, [dense], { replace: true });
  expect(await loadSparseAdapter(folder)).toEqual([dense]);
  const precious = join(root, 'precious');
  await mkdir(precious);
  await writeFile(join(precious, 'thesis.txt'), 'x');
  await expect(saveSparseAdapter(precious, [words], { replace: true })).rejects.toThrow(/is not an adapter/);
  expect(await readdir(precious)).toEqual(['thesis.txt']);
});

test.each<[name: string, adapters: AdapterTensors[], code: string, message: RegExp]>([
  ['no adapter', [], 'INVALID_ARGUMENT', /at least one table/],
  ['a table twice', [words, words], 'INVALID_ARGUMENT', /two adapters of table "words"/],
  [
    'rows that descend',
    [withRest(words, { rows: new Int32Array([4, 1, 9]) })],
    'INVALID_ARGUMENT',
    /rows\[1\] is 1 after 4; rows must ascend/,
  ],
  [
    'a row twice',
    [withRest(words, { rows: new Int32Array([1, 1, 9]) })],
    'INVALID_ARGUMENT',
    /rows must ascend, each once/,
  ],
  [
    'a row past the base',
    [withRest(words, { rows: new Int32Array([1, 4, 10]) })],
    'INVALID_ARGUMENT',
    /rows\[2\] is 10; allowed: 0 to 9/,
  ],
  ['a negative row', [withRest(words, { rows: new Int32Array([-1, 4, 9]) })], 'INVALID_ARGUMENT', /rows\[0\] is -1/],
  [
    'an A of another length',
    [withRest(words, { rank: 3 })],
    'INVALID_ARGUMENT',
    /A has 6 values; 3 rows of rank 3 have 9/,
  ],
  [
    'a B of another length',
    [withRest(words, { b: new Float32Array(5) })],
    'INVALID_ARGUMENT',
    /B has 5 values; rank 2 by 3 dims has 6/,
  ],
  ['no B', [withRest(words, { b: null })], 'INVALID_ARGUMENT', /B is missing/],
  ['a dense delta with a B', [withRest(dense, { b: rest.b })], 'INVALID_ARGUMENT', /is dense and yet has a B/],
  [
    'a dense delta of low rank',
    [withRest(words, { kind: 'dense', b: null })],
    'INVALID_ARGUMENT',
    /is dense of rank 2; .*dim, 3/,
  ],
  ['rank 0', [withRest(words, { rank: 0 })], 'INVALID_ARGUMENT', /rank is 0; allowed: an integer from 1/],
  ['alpha NaN', [withRest(words, { alpha: NaN })], 'INVALID_ARGUMENT', /alpha is NaN/],
  [
    'NaN in A',
    [withRest(words, { a: new Float32Array([1, 2, 3, NaN, 5, 6]) })],
    'NON_FINITE',
    /A\[1, 1\] is NaN; the training that made it diverged/,
  ],
  [
    'infinity in B',
    [withRest(words, { b: new Float32Array([1, 2, 3, 4, 5, Infinity]) })],
    'NON_FINITE',
    /B\[1, 2\] is Infinity/,
  ],
])('refuses to save %s, and writes nothing', async (_, adapters, code, message) => {
  const error = await saveSparseAdapter(folder, adapters).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code });
  expect((error as Error).message).toMatch(message);
  expect(await readdir(root)).toEqual([]);
});

/** Saves `words`, then changes its configuration or its tensors. */
async function changed(
  change: (config: Record<string, unknown>) => void,
  tensors?: TensorSource[],
  base?: string | null,
): Promise<string> {
  await saveSparseAdapter(folder, [words]);
  const file = join(folder, 'adapter_config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  change(config);
  await writeFile(file, JSON.stringify(config));
  if (tensors) {
    const metadata = base === null ? {} : { 'words.base': base ?? JSON.stringify(words.base) };
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors, metadata);
  }
  return folder;
}
const same = (): void => undefined;
const rowsTensor: TensorSource = { name: 'words.rows', dtype: 'I32', shape: [3], data: rest.rows };
const aTensor: TensorSource = { name: 'words.A', dtype: 'F32', shape: [3, 2], data: rest.a };
const bTensor: TensorSource = { name: 'words.B', dtype: 'F32', shape: [2, 3], data: rest.b! };
const good = [rowsTensor, aTensor, bTensor];

test.each<[name: string, Parameters<typeof changed>, code: string, message: RegExp]>([
  ['another format', [(c) => (c.finetable = { format: 2 })], 'UNSUPPORTED', /finetable.format is 2; allowed: 1/],
  ['another rank', [(c) => (c.r = 4)], 'INVALID_FILE', /tensor "words.A" is F32 \[3, 2\]; needed: F32 \[3, 4\]/],
  [
    'an unknown kind',
    [(c) => (c.finetable = { format: 1, kinds: { words: 'x' } })],
    'INVALID_FILE',
    /finetable.kinds.words is "x"; allowed: "lora" or "dense"/,
  ],
  ['other tables than modules', [(c) => (c.target_modules = ['other'])], 'INVALID_FILE', /name different tables/],
  ['modules as text', [(c) => (c.target_modules = 'words')], 'INVALID_FILE', /target_modules is not a list/],
  ['no finetable', [(c) => delete c.finetable], 'INVALID_FILE', /not a sparse adapter; read it as a PEFT adapter/],
  ['no B', [same, [rowsTensor, aTensor]], 'INVALID_FILE', /tensor "words.B" is missing; needed: F32 \[2, 3\]/],
  ['another tensor', [same, [...good, { ...bTensor, name: 'words.C' }]], 'INVALID_FILE', /unknown tensor "words.C"/],
  [
    'rows of another dtype',
    [same, [{ ...rowsTensor, dtype: 'U32', data: new Uint32Array(3) }, aTensor, bTensor]],
    'INVALID_FILE',
    /"words.rows" is U32 \[3\]; needed: I32/,
  ],
  [
    'rows that descend',
    [same, [{ ...rowsTensor, data: new Int32Array([4, 1, 9]) }, aTensor, bTensor]],
    'INVALID_FILE',
    /rows must ascend/,
  ],
  [
    'NaN',
    [same, [rowsTensor, { ...aTensor, data: new Float32Array(6).fill(NaN) }, bTensor]],
    'NON_FINITE',
    /A\[0, 0\] is NaN/,
  ],
  ['no base', [same, good, null], 'INVALID_FILE', /metadata "words.base": is missing/],
  ['a base that is not JSON', [same, good, '{'], 'INVALID_FILE', /metadata "words.base": expected a key/],
  ['a base without rows', [same, good, '{}'], 'INVALID_FILE', /rows is null; allowed: an integer/],
  [
    'a base without fingerprint',
    [same, good, '{"rows":10,"dim":3,"dtype":"f32"}'],
    'INVALID_FILE',
    /fingerprint is ""; allowed: text or null/,
  ],
])('refuses to load %s', async (_, change, code, message) => {
  const error = await loadSparseAdapter(await changed(...change)).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code });
  expect((error as Error).message).toMatch(message);
});

test('finds an adapter after a kill in the middle of its replacement', async () => {
  await saveSparseAdapter(folder, [words]);
  await cp(folder, join(root, 'adapters', '.finetable-old-x'), { recursive: true });
  await rm(folder, { recursive: true });
  expect(await loadAdapter(folder)).toEqual([words]);
});

test('folders without an adapter', async () => {
  await expect(loadAdapter(join(root, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(loadAdapter(root)).rejects.toThrow(/has no adapter_config.json, nor has a folder in it/);
  await saveSparseAdapter(join(root, 'b'), [words]);
  expect(await loadAdapter(root)).toEqual([words]);
  await saveSparseAdapter(join(root, 'a'), [words]);
  await expect(loadAdapter(root)).rejects.toThrow(/holds 2 adapters \(a, b\); name one of these folders/);
});
