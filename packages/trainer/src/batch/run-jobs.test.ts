import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJob, type LoadedJob } from '../job/read.ts';
import { runFolder, runJob } from '../run/run.ts';
import { runJobs, runJobsIn, type BatchEvent } from './run-jobs.ts';

const V = 200;
const D = 4;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'batch-'));
  const data = new Float32Array(V * D);
  new RandomStream(1, 'table').fillNormal(data);
  await writeSafetensors(join(folder, 'items.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  const line = (i: number): string =>
    JSON.stringify({ ids: [(i * 7) % V, (i * 11) % V], class: i % 2 ? 'odd' : 'even' });
  await writeFile(join(folder, 'train.jsonl'), Array.from({ length: 80 }, (_, i) => `${line(i)}\n`).join(''));
  await writeFile(join(folder, 'test.jsonl'), Array.from({ length: 16 }, (_, i) => `${line(i + 80)}\n`).join(''));
});
afterEach(() => rm(folder, { recursive: true }));

function job(name: string, { rank = 2, file = 'train.jsonl', epochs = 2, memory = '75%' } = {}): LoadedJob {
  const input = {
    name,
    tables: { items: { file: 'items.safetensors' } },
    placement: { memory },
    data: { train: { file }, validation: { file: 'test.jsonl' }, batchSize: 8, workers: 0 },
    features: { history: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'history', label: 'class' },
    adapters: { items: { rank } },
    optimizer: { type: 'adamw', learningRate: 0.05 },
    train: { epochs, checkpointEverySteps: 4 },
  };
  return { job: checkJob(input), folder };
}

const adapterBytes = (run: string): Promise<string> =>
  readFile(join(run, 'adapter/adapter_model.safetensors'), 'base64');

/** When every file below was last written. */
async function written(): Promise<Record<string, number>> {
  const names = await readdir(join(folder, 'runs'), { recursive: true });
  const times = await Promise.all(names.map(async (name) => (await stat(join(folder, 'runs', name))).mtimeMs));
  return Object.fromEntries(names.map((name, i) => [name, times[i]!]));
}

test('four jobs, one of which fails: the others end as they do alone; again, only what is missing is done', async () => {
  const jobs = [job('a'), job('b', { rank: 3 }), job('broken', { file: 'late.jsonl' }), job('c', { epochs: 3 })];
  const events: BatchEvent[] = [];
  const outcomes = await runJobs(jobs, { concurrency: 2, onEvent: (event) => events.push(event) });
  expect(outcomes.map(({ name, status }) => [name, status])).toEqual([
    ['a', 'finished'],
    ['b', 'finished'],
    ['broken', 'failed'],
    ['c', 'finished'],
  ]);
  expect(outcomes[2]).toMatchObject({ result: null, error: { code: 'NOT_FOUND', message: /late\.jsonl/ } });
  expect(outcomes[2]!.error).toBeInstanceOf(Error);
  for (const [i, { name, folder: run, result }] of outcomes.entries()) {
    if (name === 'broken') continue;
    await runJob(jobs[i]!, { folder: join(folder, 'alone', name) });
    expect(await adapterBytes(run)).toBe(await adapterBytes(join(folder, 'alone', name)));
    expect(result!.steps).toBe(name === 'c' ? 30 : 20);
    expect(await readdir(run)).toContain('report.html');
    // Every event of the job, in order, before its end.
    const own = events.filter((event) => event.job === i);
    expect([own[0]!.type, own.at(-1)!.type]).toEqual(['begin', 'end']);
    const evaluated = own.flatMap((event) =>
      event.type === 'training' && event.event.type === 'evaluation' ? [event.event.step] : [],
    );
    expect(evaluated).toEqual(name === 'c' ? [10, 20, 30] : [10, 20]);
  }

  const before = await written();
  await writeFile(join(folder, 'late.jsonl'), await readFile(join(folder, 'train.jsonl')));
  const again = await runJobs(jobs, { concurrency: 2 });
  expect(again.map(({ status }) => status)).toEqual(['kept', 'kept', 'finished', 'kept']);
  expect(again[0]!.result).toEqual(outcomes[0]!.result);
  const after = await written();
  for (const [name, time] of Object.entries(before)) expect(after[name], name).toBe(time);
});

test('a signal ends all with checkpoints, and the same call goes on to the same bytes', async () => {
  // Long enough that neither ends before the other has begun.
  const jobs = [job('a', { epochs: 30 }), job('b', { epochs: 30, rank: 3 }), job('c', { epochs: 4 })];
  const abort = new AbortController();
  const seen = new Set<number>();
  const outcomes = await runJobs(jobs, {
    concurrency: 2,
    signal: abort.signal,
    onEvent: (event) => {
      if (event.type === 'training' && event.event.type === 'evaluation') seen.add(event.job);
      if (seen.size === 2) abort.abort();
    },
  });
  const stopped = outcomes.filter(({ status }) => status === 'interrupted');
  expect(stopped.length).toBeGreaterThan(0);
  for (const { folder: run } of stopped)
    expect((await readdir(join(run, 'checkpoints'))).some((name) => name.startsWith('step-'))).toBe(true);
  expect(outcomes[2]).toMatchObject({ status: 'waiting', result: null, error: null });

  const ended = await runJobs(jobs, { concurrency: 3 });
  for (const [i, { name, status, folder: run }] of ended.entries()) {
    expect(status).toBe(outcomes[i]!.status === 'finished' ? 'kept' : 'finished');
    await runJob(jobs[i]!, { folder: join(folder, 'alone', name) });
    expect(await adapterBytes(run)).toBe(await adapterBytes(join(folder, 'alone', name)));
  }
});

test('a thread that dies is a failed job: the others end, and its folder can be worked in again', async () => {
  const jobs = [job('exit'), job('a'), job('throw'), job('b'), job('c')];
  const faulty = new URL('../../test/faulty-worker-entry.cjs', import.meta.url).href;
  const outcomes = await runJobsIn(faulty, jobs, { concurrency: 2 });
  expect(outcomes.map(({ status }) => status)).toEqual(['failed', 'finished', 'failed', 'finished', 'finished']);
  expect(outcomes[0]!.error).toMatchObject({ code: 'WORKER_FAILED', message: /^exit: its thread failed: .*code: 3/ });
  expect(outcomes[2]!.error).toMatchObject({ code: 'WORKER_FAILED', message: /thrown on purpose/ });
  const again = await runJobs(jobs);
  expect(again.map(({ status }) => status)).toEqual(['finished', 'kept', 'finished', 'kept', 'kept']);
});

test('stopOnFailure ends the others', async () => {
  const jobs = [job('broken', { file: 'nothing.jsonl' }), job('a'), job('b')];
  const outcomes = await runJobs(jobs, { concurrency: 1, stopOnFailure: true });
  expect(outcomes.map(({ status }) => status)).toEqual(['failed', 'waiting', 'waiting']);
});

test('the memory budget admits jobs by their plans', async () => {
  let running = 0;
  let most = 0;
  const count = (event: BatchEvent): void => {
    if (event.type === 'begin') most = Math.max(most, ++running);
    if (event.type === 'end') running--;
  };
  const jobs = [job('a'), job('b'), job('c')];
  // Each needs its thread's 40 MiB and little more.
  const outcomes = await runJobs(jobs, { concurrency: 3, memory: '70MiB', onEvent: count });
  expect(outcomes.map(({ status }) => status)).toEqual(['finished', 'finished', 'finished']);
  expect(most).toBe(1);
  const [tooLarge] = await runJobs([job('d')], { memory: '10MiB' });
  expect(tooLarge).toMatchObject({
    status: 'failed',
    error: { code: 'DOES_NOT_FIT', message: /^d: needs 4\d(\.\d)? MiB, but the jobs of the batch may take 10 MiB/ },
  });
});

test('what cannot be run is refused before anything runs', async () => {
  await expect(runJobs([job('a'), job('a')])).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/jobs a and a have the same folder/),
  });
  await expect(runJobs([job('a')], { concurrency: 0 })).rejects.toThrow(/concurrency 0; allowed/);
  await expect(runJobs([job('a')], { memory: 'much' })).rejects.toThrow(/memory: "much" is not a size/);
  await expect(runJobs([job('a')], { jobs: 2 } as object)).rejects.toThrow(/jobs/);
  await expect(readdir(join(folder, 'runs'))).rejects.toThrow();
  expect(await runJobs([])).toEqual([]);
});

test('a folder of another job, or of something else, is left alone', async () => {
  await runJobs([job('a')]);
  const before = await written();
  const [other] = await runJobs([job('a', { rank: 3 })]);
  expect(other).toMatchObject({
    status: 'failed',
    error: { code: 'MISMATCH', message: /adapters\.items\.rank = 2, now it is 3/ },
  });
  expect(await written()).toEqual(before);
  const [redone] = await runJobs([job('a', { rank: 3 })], { existing: 'overwrite' });
  expect(redone!.status).toBe('finished');
  const diary = runFolder(job('diary'));
  await mkdir(diary, { recursive: true });
  await writeFile(join(diary, 'diary.txt'), 'dear');
  expect((await runJobs([job('diary')]))[0]).toMatchObject({ status: 'failed', error: { code: 'EXISTS' } });
});

test('what the listener throws ends the batch and comes out', async () => {
  const jobs = [job('a'), job('b')];
  const failing = runJobs(jobs, {
    concurrency: 1,
    onEvent: ({ type }) => {
      if (type === 'training') throw new Error('no more');
    },
  });
  await expect(failing).rejects.toThrow('no more');
  expect(await readdir(join(folder, 'runs'))).not.toContain('b');
});
