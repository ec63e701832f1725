import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readSafetensorsHeader } from '../safetensors/header.ts';
import { readTensor } from '../safetensors/model.ts';
import { writeSafetensors, type TensorSource } from '../safetensors/write.ts';
import { loadAdapter } from './load.ts';
import { loadSparseAdapter, saveSparseAdapter } from './sparse.ts';
import type { AdapterTensors, GroupTensors } from './tensors.ts';
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

const grouped = adapterOf({
  ...words,
  ...rest,
  table: 'grouped',
  members: new Int32Array([0, 5, 8, 11]),
  groups: [
    {
      name: 'a "tenant" / é',
      members: new Int32Array([5, 6]),
      untouched: { seed: 2 ** 53 - 1, stream: 'grouped/A' },
      kind: 'lora',
      rank: 1,
      alpha: 0.5,
      rsLora: true,
      rows: new Int32Array([5]),
      a: new Float32Array([8]),
      b: new Float32Array([1, 2, 3]),
    },
    {
      name: 'new',
      members: new Int32Array([6, 8, 11, 12]),
      untouched: null,
      kind: 'dense',
      rank: 3,
      alpha: 3,
      rsLora: false,
      rows: new Int32Array([6, 11]),
      a: new Float32Array([1, 2, 3, 4, 5, 6]),
      b: null,
    },
  ],
  magnitude: new Float32Array([1, 2, 3]),
  baseSquares: new Float64Array([1.1, 0, 3]),
  grown: new Float32Array([1, 2, 3, 4, 5, 6]),
});
const restOnly: AdapterTensors = { ...withRest(words, { members: new Int32Array([1, 10]) }), table: 'limited' };

test('what is saved is loaded: several tables, kinds, ranks, alphas, scales', async () => {
  const adapters = [words, dense, empty, withoutFingerprint, grouped, restOnly];
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

test('groups, magnitudes and grown rows are as the description says', async () => {
  await saveSparseAdapter(folder, [grouped, words]);
  const file = join(folder, 'adapter_model.safetensors');
  const header = await readSafetensorsHeader(file);
  expect([...header.tensors].map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual([
    ['grouped.baseSquares', 'F64', [3]],
    ['grouped.A', 'F32', [3, 2]],
    ['grouped.B', 'F32', [2, 3]],
    ['grouped.grown', 'F32', [2, 3]],
    ['grouped.magnitude', 'F32', [3]],
    ['grouped.members', 'I32', [2, 2]],
    ['grouped.rows', 'I32', [3]],
    ['grouped/a "tenant" / é.A', 'F32', [1, 1]],
    ['grouped/a "tenant" / é.B', 'F32', [1, 3]],
    ['grouped/a "tenant" / é.members', 'I32', [1, 2]],
    ['grouped/a "tenant" / é.rows', 'I32', [1]],
    ['grouped/new.A', 'F32', [2, 3]],
    ['grouped/new.members', 'I32', [2, 2]],
    ['grouped/new.rows', 'I32', [2]],
    ['words.A', 'F32', [3, 2]],
    ['words.B', 'F32', [2, 3]],
    ['words.rows', 'I32', [3]],
  ]);
  expect((await readTensor(file, header, 'grouped.members')).data).toEqual(new Int32Array([0, 5, 8, 11]));
  const config = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8')) as object;
  expect(config).toMatchObject({ r: 2, lora_alpha: 16, use_dora: true, use_rslora: false, rank_pattern: {} });
  expect(config).toHaveProperty('finetable', {
    format: 1,
    kinds: { grouped: 'lora', words: 'lora' },
    groups: {
      grouped: [
        { name: 'a "tenant" / é', kind: 'lora', rank: 1, alpha: 0.5, rslora: true },
        { name: 'new', kind: 'dense', rank: 3, alpha: 3, rslora: false },
      ],
    },
    untouched: { 'grouped/a "tenant" / é': { seed: 2 ** 53 - 1, stream: 'grouped/A' } },
  });
});

test('the example of docs/guide/12-formats.md', async () => {
  const example = adapterOf({
    table: 'words', base: { rows: 5, dim: 2, dtype: 'f32', fingerprint: null }, magnitude: new Float32Array([1, 2]),
    members: new Int32Array([0, 4]), rank: 1, alpha: 2, rows: new Int32Array([1, 3]), a: new Float32Array([0.5, -1]), b: new Float32Array([1, 2]),
    groups: [
      { name: 'new', members: new Int32Array([4, 5]), untouched: null, kind: 'dense', rank: 2, alpha: 2, rsLora: false, rows: new Int32Array([4]), a: new Float32Array([3, 4]), b: null },
    ],
  }); // prettier-ignore
  await saveSparseAdapter(folder, [example]);
  const bytes = await readFile(join(folder, 'adapter_model.safetensors'));
  expect(bytes.readBigUInt64LE(0)).toBe(632n);
  const data = [
    '0000003f000080bf', '0000803f00000040', '0000803f00000040', '0000000004000000', '0100000003000000', '0000404000008040',
    '0400000005000000', '04000000',
  ]; // prettier-ignore
  expect(bytes.subarray(640).toString('hex')).toBe(data.join(''));
  expect(await loadSparseAdapter(folder)).toEqual([example]);
});

test('the same adapter gives the same bytes', async () => {
  const again = join(root, 'again');
  await saveSparseAdapter(folder, [words, dense, empty, grouped]);
  await saveSparseAdapter(again, [words, dense, empty, grouped]);
  for (const name of await readdir(folder))
    expect(await readFile(join(again, name))).toEqual(await readFile(join(folder, name)));
});

test('replaces an adapter only when asked to, and never another folder', async () => {
  await saveSparseAdapter(folder, [words]);
  await expect(saveSparseAdapter(folder, [dense])).rejects.toMatchObject({ code: 'EXISTS' });
  expect(await loadSparseAdapter(folder)).toEqual([words]);
  await saveSparseAdapter(folder, [dense], { overwrite: true });
  expect(await loadSparseAdapter(folder)).toEqual([dense]);
  const precious = join(root, 'precious');
  await mkdir(precious);
  await writeFile(join(precious, 'thesis.txt'), 'x');
  await expect(saveSparseAdapter(precious, [words], { overwrite: true })).rejects.toThrow(/is not an adapter/);
  expect(await readdir(precious)).toEqual(['thesis.txt']);
});

/** `grouped` with its last group changed. */
function withGroup(change: Partial<GroupTensors>): AdapterTensors {
  return { ...grouped, groups: [...grouped.groups.slice(0, 2), { ...grouped.groups[2]!, ...change }] };
}

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
  ['no groups', [{ ...words, groups: [] }], 'INVALID_ARGUMENT', /has no groups; the first is "rest"/],
  [
    'a first group of another name',
    [withRest(words, { name: 'x' })],
    'INVALID_ARGUMENT',
    /first group is "x"; the first is/,
  ],
  ['a group without a name', [withGroup({ name: '' })], 'INVALID_ARGUMENT', /a group has no name/],
  ['a group twice', [withGroup({ name: 'rest' })], 'INVALID_ARGUMENT', /two groups are named "rest"/],
  [
    'a group of all rows beside another',
    [withGroup({ members: null })],
    'INVALID_ARGUMENT',
    /group "new": has no members; where there are several groups/,
  ],
  [
    'a group of no rows',
    [withGroup({ members: new Int32Array(0), rows: new Int32Array(0), a: new Float32Array(0) })],
    'INVALID_ARGUMENT',
    /group "new": has no members; a group is of one row/,
  ],
  [
    'a row in two groups',
    [withGroup({ members: new Int32Array([6, 12]) })],
    'INVALID_ARGUMENT',
    /row 8 is in the groups "new" and "rest"/,
  ],
  [
    "a group inside another's range",
    [withGroup({ members: new Int32Array([1, 2, 6, 8, 11, 12]) })],
    'INVALID_ARGUMENT',
    /row 1 is in the groups "rest" and "new"/,
  ],
  [
    'members that touch',
    [withGroup({ members: new Int32Array([6, 7, 7, 8, 11, 12]) })],
    'INVALID_ARGUMENT',
    /members\[1\] is \[7, 8\) after one that ends at 7/,
  ],
  [
    'members that descend',
    [withGroup({ members: new Int32Array([11, 12, 6, 8]) })],
    'INVALID_ARGUMENT',
    /members\[1\] is \[6, 8\) after/,
  ],
  [
    'an empty range',
    [withGroup({ members: new Int32Array([6, 6, 11, 12]) })],
    'INVALID_ARGUMENT',
    /members\[0\] is \[6, 6\); allowed: rows from 0 to 11, begin below end/,
  ],
  [
    'members past the grown rows',
    [withGroup({ members: new Int32Array([6, 8, 11, 13]) })],
    'INVALID_ARGUMENT',
    /members\[1\] is \[11, 13\)/,
  ],
  ['half a range', [withGroup({ members: new Int32Array([6, 8, 11]) })], 'INVALID_ARGUMENT', /members has 3 values/],
  [
    'a row that is no member',
    [withGroup({ members: new Int32Array([6, 8]) })],
    'INVALID_ARGUMENT',
    /group "new": rows\[1\] is 11, which is no member/,
  ],
  [
    'a row past the grown rows',
    [{ ...words, grown: new Float32Array(3), groups: [{ ...rest, rows: new Int32Array([1, 4, 11]) }] }],
    'INVALID_ARGUMENT',
    /rows\[2\] is 11; allowed: 0 to 10/,
  ],
  [
    'a dense group that starts at random',
    [withGroup({ untouched: { seed: 1, stream: '' } })],
    'INVALID_ARGUMENT',
    /is dense and yet has untouched rows/,
  ],
  [
    'a seed below 0',
    [withRest(words, { untouched: { seed: -1, stream: '' } })],
    'INVALID_ARGUMENT',
    /seed of its untouched rows is -1/,
  ],
  [
    'NaN in a group',
    [withGroup({ a: new Float32Array(6).fill(NaN) })],
    'NON_FINITE',
    /table "grouped": group "new": A\[0, 0\] is NaN/,
  ],
  [
    'magnitudes of another length',
    [{ ...words, magnitude: new Float32Array(2) }],
    'INVALID_ARGUMENT',
    /magnitude has 2 values; needed: one of each dim, 3/,
  ],
  [
    'a magnitude that is NaN',
    [{ ...words, magnitude: new Float32Array([1, NaN, 1]) }],
    'NON_FINITE',
    /magnitude\[1\] is NaN/,
  ],
  [
    'sums of another length',
    [{ ...words, baseSquares: new Float64Array(4) }],
    'INVALID_ARGUMENT',
    /baseSquares has 4 values/,
  ],
  [
    'sums below 0',
    [{ ...words, baseSquares: new Float64Array([1, -1, 1]) }],
    'INVALID_ARGUMENT',
    /baseSquares\[1\] is -1/,
  ],
  ['half a grown row', [{ ...words, grown: new Float32Array(4) }], 'INVALID_ARGUMENT', /grown has 4 values/],
  [
    'a grown row with NaN',
    [{ ...words, grown: new Float32Array([0, 0, 0, 0, NaN, 0]) }],
    'NON_FINITE',
    /grown\[1, 1\] is NaN/,
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
const magnitudeTensor: TensorSource = { name: 'words.magnitude', dtype: 'F32', shape: [3], data: new Float32Array(3) };
const groupJson = { name: 'x', kind: 'lora', rank: 1, alpha: 1, rslora: false };
const withFinetable =
  (members: object) =>
  (config: Record<string, unknown>): void => {
    config.finetable = { format: 1, kinds: { words: 'lora' }, ...members };
  };

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
  [
    'an unknown member',
    [(c) => (c.finetable = { format: 1, kinds: { words: 'lora' }, magic: 1 })],
    'INVALID_FILE',
    /finetable has "magic"; allowed: format, kinds/,
  ],
  [
    'groups of no table',
    [withFinetable({ groups: { other: [] } })],
    'INVALID_FILE',
    /finetable.groups has "other"; allowed: words/,
  ],
  [
    'groups that are no list',
    [withFinetable({ groups: { words: {} } })],
    'INVALID_FILE',
    /finetable.groups.words is an object; allowed: a list/,
  ],
  [
    'a group without a rank',
    [withFinetable({ groups: { words: [{ name: 'x', kind: 'lora' }] } })],
    'INVALID_FILE',
    /finetable.groups.words\[0\].rank is missing/,
  ],
  [
    'a group with more',
    [withFinetable({ groups: { words: [{ ...groupJson, b: 1 }] } })],
    'INVALID_FILE',
    /finetable.groups.words\[0\] has "b"; allowed: name/,
  ],
  [
    'two groups of a name',
    [withFinetable({ groups: { words: [groupJson, groupJson] } })],
    'INVALID_FILE',
    /two groups are named "words\/x" in the file/,
  ],
  [
    'a group without tensors',
    [withFinetable({ groups: { words: [groupJson] } })],
    'INVALID_FILE',
    /tensor "words\/x.rows" is missing; needed: I32/,
  ],
  [
    'random rows of no group',
    [withFinetable({ untouched: { 'words/x': { seed: 1, stream: '' } } })],
    'INVALID_FILE',
    /finetable.untouched has "words\/x"; allowed: words/,
  ],
  [
    'random rows without a stream',
    [withFinetable({ untouched: { words: { seed: 1 } } })],
    'INVALID_FILE',
    /finetable.untouched.words.stream is missing/,
  ],
  [
    'magnitudes without use_dora',
    [same, [...good, magnitudeTensor]],
    'INVALID_FILE',
    /use_dora is false, and .* has magnitudes; allowed: true/,
  ],
  [
    'use_dora without magnitudes',
    [(c) => (c.use_dora = true)],
    'INVALID_FILE',
    /use_dora is true, and .* has no magnitudes/,
  ],
  [
    'magnitudes of another length',
    [same, [...good, { ...magnitudeTensor, shape: [1], data: new Float32Array(1) }]],
    'INVALID_FILE',
    /"words.magnitude" is F32 \[1\]; needed: F32 \[3\]/,
  ],
  [
    'members of another shape',
    [same, [...good, { name: 'words.members', dtype: 'I32', shape: [2], data: new Int32Array([0, 10]) }]],
    'INVALID_FILE',
    /"words.members" is I32 \[2\]; needed: I32 \[2, 2\]/,
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
