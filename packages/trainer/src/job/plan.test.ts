import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeNpy, writeSafetensors } from '@finetable/formats';
import { loadKernels } from '@finetable/kernels';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { runJob } from '../run/run.ts';
import { OpenJob } from './open.ts';
import { planJob } from './plan.ts';
import { checkJob, type LoadedJob } from './read.ts';
import type { JobInput } from './schema.ts';

const V = 40;
const D = 4;
const GiB = 2 ** 30;
const memory = { totalBytes: 4 * GiB, freeBytes: 3 * GiB, limit: 'machine' } as const;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'plan-'));
  const data = Float32Array.from({ length: V * D }, (_, i) => Math.sin(i));
  await writeSafetensors(join(folder, 'items.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  // Bags of 1, 2, 3, 1, 2, 3, …: two on average.
  const line = (i: number): string =>
    JSON.stringify({
      ids: Array.from({ length: 1 + (i % 3) }, (_, j) => (i + 7 * j) % V),
      text: 'ab abc',
      class: i % 2,
    });
  await writeFile(join(folder, 'train.jsonl'), Array.from({ length: 60 }, (_, i) => `${line(i)}\n`).join(''));
});
afterEach(() => rm(folder, { recursive: true }));

function job(changes: Partial<JobInput> = {}, table: Partial<JobInput['tables'][string]> = {}): LoadedJob {
  const input: JobInput = {
    name: 'small',
    tables: { items: { file: 'items.safetensors', ...table } },
    data: { train: { file: 'train.jsonl' }, batchSize: 10, workers: 0 },
    features: { history: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'history', label: 'class' },
    adapters: { items: { rank: 2 } },
    optimizer: { type: 'adamw', learningRate: 0.05 },
    train: { epochs: 2 },
    ...changes,
  };
  return { job: checkJob(input), folder };
}

test('sizes come from headers, the shape of a batch from the examples', async () => {
  const plan = await planJob(job(), memory);
  const [items] = plan.tables;
  expect(items).toMatchObject({ name: 'items', rows: V, dim: D, dtype: 'f32', bytes: V * D * 4, lookups: 20 });
  expect(items!.uniqueRows).toBeCloseTo(V * (1 - (1 - 1 / V) ** 20), 9);
  expect(items!.touchedRows).toBe(Math.ceil(V * (1 - (1 - 1 / V) ** 120)));
  expect(plan.reserved['index of the examples']).toBe(60 * 16);
  expect(plan.devices.map(({ name, budgetBytes }) => [name, budgetBytes])).toEqual([
    ['ram', 3 * GiB],
    ['mapped', null],
  ]);
  expect(plan.notes).toEqual([]);
});

test.each([
  ['n-grams', { ngrams: { min: 2, max: 3 } }, 5 + 4],
  ['tokens', { tokens: { vocabulary: 'words.txt' } }, 2],
])('%s are counted in the text', async (_, how, ids) => {
  const features = { history: { table: 'items', column: 'text', ...how } };
  const plan = await planJob(job({ features }), memory);
  expect(plan.tables[0]!.lookups).toBe(10 * ids);
  expect(plan.reserved.vocabularies).toBe('tokens' in how ? 100 * V : 0);
});

test('a tokenizer counts its own tokens; one that cannot be read is an error', async () => {
  const vocab = { '[UNK]': 0, a: 1, '##b': 2 };
  const model = { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', vocab };
  const plan = (maxTokens?: number) => {
    const tokens = { tokenizer: 'tokenizer.json', maxTokens };
    return planJob(job({ features: { history: { table: 'items', column: 'text', tokens } } }), memory);
  };
  await expect(plan()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await writeFile(
    join(folder, 'tokenizer.json'),
    JSON.stringify({ model, pre_tokenizer: { type: 'WhitespaceSplit' } }),
  );
  // "ab" is two tokens, "abc" the unknown one.
  expect((await plan()).tables[0]!.lookups).toBe(10 * 3);
  const cut = await plan(2);
  expect(cut.tables[0]!.lookups).toBe(10 * 2);
  expect(cut.reserved.vocabularies).toBe(3 * 110);
});

test('ids as text in CSV', async () => {
  const lines = ['ids,class', '1 2 3,a', '4,b', '"[5,6]",a', '7 8,b'];
  await writeFile(join(folder, 'train.csv'), lines.join('\n'));
  const plan = await planJob(job({ data: { train: { file: 'train.csv' }, batchSize: 2 } }), memory);
  expect(plan.tables[0]!.lookups).toBe(4);
});

test('two loaders where there is validation data', async () => {
  const data = { train: { file: 'train.jsonl' }, batchSize: 10, workers: 2 };
  const one = await planJob(job({ data }), memory);
  const two = await planJob(job({ data: { ...data, validation: { file: 'train.jsonl' } } }), memory);
  expect(two.reserved['loader threads']).toBe(2 * one.reserved['loader threads']!);
  expect(two.reserved['batches in flight']).toBeGreaterThan(1.5 * one.reserved['batches in flight']!);
});

test('batches in flight are bounded by bytes, and examples that are kept are counted', async () => {
  const data = { train: { file: 'train.jsonl' }, batchSize: 10, workers: 2 };
  const reserved = async (more: object, epochs = 2): Promise<Readonly<Record<string, number>>> =>
    (await planJob(job({ data: { ...data, ...more }, train: { epochs } }), memory)).reserved;
  const usual = await reserved({});
  expect((await reserved({ prefetchBytes: 1 }))['batches in flight']).toBeLessThan(usual['batches in flight']!);
  // 60 examples of 2 ids on average.
  const kept = 60 * (40 + 4 * (2 + 2 * 2));
  expect(usual['examples kept between epochs']).toBe(kept);
  expect((await reserved({ validation: { file: 'train.jsonl' } }))['examples kept between epochs']).toBe(2 * kept);
  expect((await reserved({ cache: 100 }))['examples kept between epochs']).toBe(100);
  expect((await reserved({ cache: 0 }))['examples kept between epochs']).toBe(0);
  expect((await reserved({}, 1))['examples kept between epochs']).toBe(0);
  const { size } = await stat(join(folder, 'train.jsonl'));
  expect(usual['files as they are read']).toBe(2 * size);
});

test.each([
  ['cache', '5GiB', 'data.cache'],
  ['prefetchBytes', 0, 'data.prefetchBytes'],
  ['cache', 'much', 'data.cache'],
])('data.%s: %j is refused', (name, value, path) => {
  expect(() => job({ data: { train: { file: 'train.jsonl' }, [name]: value } })).toThrow(
    expect.objectContaining({ code: 'INVALID_JOB', message: expect.stringContaining(`${path}: `) as string }),
  );
});

test('the budget: a share, a size, and never more than is free', async () => {
  const ram = async (size: string | number): Promise<unknown> => {
    const { budgetBytes, note } = (await planJob(job({ placement: { memory: size } }), memory)).devices[0]!;
    return [budgetBytes, note];
  };
  expect(await ram('50%')).toEqual([2 * GiB, 'placement.memory 50%, the machine has 4 GiB']);
  expect(await ram('1GiB')).toEqual([GiB, 'placement.memory 1GiB, the machine has 4 GiB']);
  expect(await ram(5e8)).toEqual([5e8, 'placement.memory 500000000, the machine has 4 GiB']);
  expect(await ram('100%')).toEqual([3 * GiB, 'what is free now; placement.memory 100%, the machine has 4 GiB']);
});

test('constraints of the job are those of the plan', async () => {
  const places = async (
    table: Partial<JobInput['tables'][string]>,
    changes: Partial<JobInput> = {},
  ): Promise<unknown> =>
    (await planJob(job(changes, table), memory)).tables[0]!.shards.map(({ device, rows }) => [device, rows]);
  expect(await places({ placement: 'mapped' })).toEqual([['mapped', V]]);
  expect(await places({ placement: 'ram' })).toEqual([['ram', V]]);
  expect(await places({ placement: [{ home: 'mapped', rows: 10 }, { home: 'ram' }] })).toEqual([
    ['mapped', 10],
    ['ram', V - 10],
  ]);
  expect(await places({})).toEqual([['ram', V]]);
  const fast = { bandwidths: { mapped: { randomRead: 1e13 } } };
  expect(await places({}, { placement: fast })).toEqual([['mapped', V]]);
});

test('counts from a file', async () => {
  const counts = BigInt64Array.from({ length: V }, (_, i) => BigInt(i === 3 ? 1000 : 0));
  await writeNpy(join(folder, 'counts.npy'), { dtype: 'I64', shape: [V], data: counts });
  const plan = await planJob(job({}, { frequencies: { counts: 'counts.npy' } }), memory);
  expect(plan.tables[0]!.uniqueRows).toBe(1);
  await writeNpy(join(folder, 'counts.npy'), { dtype: 'I64', shape: [V, 1], data: counts });
  await expect(planJob(job({}, { frequencies: { counts: 'counts.npy' } }), memory)).rejects.toThrow(
    /counts\.npy has shape \[40, 1\]; counts are \[rows\]/,
  );
});

test('examples that cannot be read are assumed, and it is said', async () => {
  const plan = await planJob(job({ data: { train: { file: 'gone.jsonl' }, batchSize: 10, workers: 0 } }), memory);
  expect(plan.tables[0]).toMatchObject({ lookups: 200, touchedRows: 0 });
  expect(plan.notes).toEqual([expect.stringMatching(/^gone\.jsonl could not be looked at .*: 20 ids an example/)]);
});

test('a job that does not fit is refused before anything is opened or written', async () => {
  const kernels = loadKernels();
  const opened = vi.spyOn(kernels, 'openRows');
  const before = await readdir(folder);
  await expect(runJob(job({ placement: { memory: '1KB' } }))).rejects.toMatchObject({
    code: 'DOES_NOT_FIT',
    message: expect.stringMatching(/ram needs 96[.\d]* MiB .* budget is 1000 B \(placement\.memory 1KB, /),
  });
  expect(opened).not.toHaveBeenCalled();
  expect(await readdir(folder)).toEqual(before);
  await runJob(job());
  expect(opened).toHaveBeenCalledOnce();
  opened.mockRestore();
});

test('tables are opened as planned', async () => {
  const open = await OpenJob.open(job({}, { placement: [{ home: 'mapped', rows: 10 }, { home: 'ram' }] }));
  expect(open.tables.items!.shards.map(({ firstRow, store }) => [firstRow, store.rows])).toEqual([
    [0, 10],
    [10, V - 10],
  ]);
  await open.close();
});

test('caches are opened as planned, and the run ends with the same bytes', async () => {
  const counts = BigInt64Array.from({ length: V }, (_, i) => BigInt((i * 7) % 11));
  await writeNpy(join(folder, 'counts.npy'), { dtype: 'I64', shape: [V], data: counts });
  const result = async (loaded: LoadedJob): Promise<unknown> =>
    (await runJob(loaded, { existing: 'overwrite' })).checksums;
  const expected = await result(job({}, { placement: 'mapped' }));

  // Random reads of the file are so slow that the few steps repay what they save.
  const table = { frequencies: { counts: 'counts.npy' }, split: 'table' as const };
  const reserved = (await planJob(job({}, table), memory)).devices[0]!.reservedBytes;
  const placement = { memory: reserved + 400, bandwidths: { mapped: { randomRead: 1000 } } };
  const cached = job({ placement }, table);
  const open = await OpenJob.open(cached);
  expect(open.tables.items!.shards).toHaveLength(1);
  expect(open.tables.items!.cache!.capacity).toBeGreaterThan(0);
  await open.close();
  expect(await result(cached)).toEqual(expected);
});

test('rows that are added count', async () => {
  const plan = await planJob(job({}, { grow: { count: 7 } }), memory);
  expect(plan.reserved['rows added to items']).toBe(7 * D * 4);
  expect(plan.tables[0]!.rows).toBe(V);
  const features = { history: { table: 'items', column: 'text', tokens: { vocabulary: 'words.txt' } } };
  expect((await planJob(job({ features }, { grow: { count: 7 } }), memory)).reserved.vocabularies).toBe(100 * (V + 7));
});
