import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runFolder, type RunResult } from '../run/run.ts';
import { checkBatch, readBatch } from './read.ts';
import { batchRows, bestOfBaselines, writeBatchCsv } from './results.ts';
import type { JobOutcome } from './run-jobs.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'batch-'));
});
afterEach(() => rm(folder, { recursive: true }));

const base = {
  name: 'base',
  tables: { items: { file: 'items.safetensors' } },
  data: { train: { file: 'train.jsonl' } },
  features: { history: { table: 'items', column: 'ids' } },
  objective: { type: 'classification', input: 'history', label: 'class' },
  adapters: { items: { rank: 2 } },
  optimizer: { type: 'adamw', learningRate: 0.05 },
};

test('a grid: every combination, named by what differs, in folders of the batch', async () => {
  await mkdir(join(folder, 'jobs'));
  await writeFile(join(folder, 'jobs/base.yaml'), JSON.stringify(base));
  await writeFile(
    join(folder, 'ranks.yaml'),
    'base: jobs/base.yaml\nset: { train.epochs: 3 }\ngrid: { adapters.items.rank: [4, 8], optimizer.learningRate: [0.1, 0.01, 0.001] }\n',
  );
  const batch = await readBatch(join(folder, 'ranks.yaml'));
  expect(batch).toMatchObject({
    name: 'ranks',
    folder: join(folder, 'runs/ranks'),
    metric: 'loss',
    stopOnFailure: false,
  });
  expect(batch.jobs.map(({ loaded }) => loaded.job.name)).toEqual([
    'rank-4_learningRate-0.1',
    'rank-4_learningRate-0.01',
    'rank-4_learningRate-0.001',
    'rank-8_learningRate-0.1',
    'rank-8_learningRate-0.01',
    'rank-8_learningRate-0.001',
  ]);
  const { loaded, settings } = batch.jobs[4]!;
  expect(settings).toEqual({ 'adapters.items.rank': 8, 'optimizer.learningRate': 0.01 });
  expect(loaded.job).toMatchObject({
    adapters: { items: { rank: 8 } },
    optimizer: { learningRate: 0.01 },
    train: { epochs: 3 },
  });
  // Paths of the job are relative to its own file.
  expect(loaded.folder).toBe(join(folder, 'jobs'));
  expect(runFolder(loaded)).toBe(join(folder, 'runs/ranks/rank-8_learningRate-0.01'));
});

test('baselines: the job and what it is compared with, each over the grid and its own fields', async () => {
  const batch = await checkBatch(
    {
      base,
      grid: { 'optimizer.learningRate': [0.1, 0.01] },
      baselines: {
        none: { 'adapters.items.rank': [2, 4] },
        frozen: {},
        map: { 'optimizer.learningRate': [0.001] },
      },
    },
    folder,
  );
  expect(batch.jobs.map(({ loaded }) => loaded.job.name)).toEqual([
    'baseline-none_learningRate-0.1_rank-2',
    'baseline-none_learningRate-0.1_rank-4',
    'baseline-none_learningRate-0.01_rank-2',
    'baseline-none_learningRate-0.01_rank-4',
    'baseline-frozen_learningRate-0.1',
    'baseline-frozen_learningRate-0.01',
    'baseline-map_learningRate-0.001',
  ]);
  expect(batch.jobs.map(({ loaded }) => loaded.job.baseline)).toEqual([
    ...Array<string>(4).fill('none'),
    ...Array<string>(2).fill('frozen'),
    'map',
  ]);
  const rows = batchRows(
    batch,
    batch.jobs.map(({ loaded }, i) => ({
      name: loaded.job.name,
      folder: 'runs',
      status: i === 4 ? 'failed' : 'finished',
      result: i === 4 ? null : ({ validation: { loss: [4, 3, 2, 5, 0, 1, 6][i] }, adapters: {} } as never),
      error: null,
    })),
  );
  expect(bestOfBaselines(rows).map(({ name, metric }) => [name, metric])).toEqual([
    ['baseline-frozen_learningRate-0.01', 1],
    ['baseline-none_learningRate-0.01_rank-2', 2],
    ['baseline-map_learningRate-0.001', 6],
  ]);
  expect(bestOfBaselines(rows.filter(({ settings }) => settings.baseline === 'none'))).toEqual([]);
});

test('a list: job files as they are, or changed; a job may stand in the batch', async () => {
  await writeFile(join(folder, 'base.yaml'), JSON.stringify(base));
  const batch = await checkBatch(
    {
      output: 'out',
      jobs: [
        'base.yaml',
        { job: 'base.yaml', name: 'wide', set: { 'adapters.items.rank': 16 } },
        { job: { ...base, name: 'here' } },
      ],
    },
    folder,
  );
  expect(batch.jobs.map(({ loaded }) => runFolder(loaded))).toEqual(
    ['base', 'wide', 'here'].map((name) => join(folder, 'out', name)),
  );
  expect(batch.jobs.map(({ loaded }) => (loaded.job.adapters.items as { rank: number }).rank)).toEqual([2, 16, 2]);
});

test('random search: within the bounds, the same for a seed, and more trials begin with the same ones', async () => {
  const fields = {
    'optimizer.learningRate': { logUniform: [0.001, 1] },
    'adapters.items.rank': { integers: [1, 4] },
    'adapters.items.dropout': { uniform: [0.1, 0.5] },
    'optimizer.type': { values: ['adam', 'adamw'] },
  };
  const draw = async (trials: number, seed: number) =>
    (await checkBatch({ base, random: { trials, seed, fields } }, folder)).jobs.map(({ settings }) => settings);
  const drawn = await draw(200, 1);
  const column = (field: string): number[] => drawn.map((settings) => settings[field] as number);
  const rates = column('optimizer.learningRate');
  expect(Math.min(...rates)).toBeGreaterThanOrEqual(0.001);
  expect(Math.max(...rates)).toBeLessThanOrEqual(1);
  // Half of what is log-uniform lies below the geometric mean: 100 of 200, within four standard deviations of 7.
  const below = rates.filter((rate) => rate < 0.0316).length;
  expect(below).toBeGreaterThan(71);
  expect(below).toBeLessThan(129);
  expect(new Set(column('adapters.items.rank'))).toEqual(new Set([1, 2, 3, 4]));
  expect(Math.min(...column('adapters.items.dropout'))).toBeGreaterThanOrEqual(0.1);
  expect(new Set(drawn.map((settings) => settings['optimizer.type']))).toEqual(new Set(['adam', 'adamw']));
  expect(await draw(5, 1)).toEqual(drawn.slice(0, 5));
  expect(await draw(5, 2)).not.toEqual(drawn.slice(0, 5));
});

test.each<[string, object, RegExp]>([
  ['nothing to run', {}, /batch: jobs: allowed: either jobs, or base with grid, baselines or random/],
  ['a base alone', { base }, /base: goes with grid, baselines or both, or with random alone/],
  ['no baseline', { base, baselines: {} }, /baselines: allowed: none, frozen, full, map, one or more/],
  ['a baseline that there is not', { base, baselines: { lora: {} } }, /baselines/],
  [
    'baselines of values drawn at random',
    { base, baselines: { map: {} }, random: { trials: 1, fields: {} } },
    /base: goes with grid, baselines or both, or with random alone/,
  ],
  [
    'baselines of listed jobs',
    { jobs: [{ job: base }], baselines: { map: {} } },
    /jobs: grid, baselines and random go with base/,
  ],
  ['a field that it does not know', { base, gird: {} }, /gird: unknown field; did you mean "grid"/],
  [
    'an empty grid',
    { base, grid: { 'adapters.items.rank': [] } },
    /grid\.adapters\.items\.rank: found \[\]; allowed: 1 entries or more/,
  ],
  [
    'a field that the job does not know',
    { base, grid: { 'adapters.items.rnak': [1] } },
    /rnak-1: adapters\.items\.rnak: unknown field; did you mean "rank"/,
  ],
  [
    'a value that the job does not allow',
    { base, grid: { 'adapters.items.rank': [4, 0] } },
    /rank-0: adapters\.items\.rank: found 0; allowed: 1 or more/,
  ],
  ['a folder of its own', { base, grid: { output: ['a'] } }, /output: allowed: a field of the job/],
  [
    'bounds the wrong way round',
    { base, random: { trials: 1, fields: { 'optimizer.learningRate': { uniform: [1, 0] } } } },
    /random\.fields/,
  ],
  ['two jobs of one name', { jobs: [{ job: base }, { job: base }] }, /two jobs are named base/],
  ['too many jobs', { base, grid: { a: Array(200).fill(1), b: Array(200).fill(1) } }, /grid: 40000 jobs/],
])('%s is refused', async (_, input, message) => {
  const failure = checkBatch(input, folder);
  await expect(failure).rejects.toMatchObject({ code: 'INVALID_JOB' });
  await expect(failure).rejects.toThrow(message);
});

test('rows are sorted by the metric, jobs without it last, and written as CSV', async () => {
  const batch = await checkBatch({ base, metric: 'accuracy', grid: { 'adapters.items.rank': [1, 2, 3] } }, folder);
  const result = (accuracy: number) =>
    ({
      validation: { loss: 1, accuracy },
      train: {},
      seconds: 2,
      examplesPerSecond: 50,
      adapters: { items: { touchedRows: 7, adapterBytes: 28 } },
    }) as unknown as RunResult;
  const outcome = (i: number, rest: Partial<JobOutcome>): JobOutcome => ({
    name: batch.jobs[i]!.loaded.job.name,
    folder: `runs/${i}`,
    status: 'finished',
    result: null,
    error: null,
    ...rest,
  });
  const failed = { status: 'failed' as const, error: Object.assign(new Error('no "such", file')) as never };
  const rows = batchRows(batch, [
    outcome(0, failed),
    outcome(1, { result: result(0.5) }),
    outcome(2, { result: result(0.75) }),
  ]);
  expect(rows.map(({ name, metric }) => [name, metric])).toEqual([
    ['rank-3', 0.75],
    ['rank-2', 0.5],
    ['rank-1', null],
  ]);
  const path = await writeBatchCsv(batch, rows);
  expect(path).toBe(join(folder, 'runs/batch/results.csv'));
  expect(await readFile(path, 'utf8')).toBe(
    [
      'name,status,adapters.items.rank,loss,accuracy,seconds,examplesPerSecond,touchedRows,adapterBytes,folder,error',
      'rank-3,finished,3,1,0.75,2,50,7,28,runs/2,',
      'rank-2,finished,2,1,0.5,2,50,7,28,runs/1,',
      'rank-1,failed,1,,,,,,,runs/0,"no ""such"", file"',
      '',
    ].join('\n'),
  );
});
