import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJob, type LoadedJob } from '../job/read.ts';
import { readLogged } from '../report/read.ts';
import { runFolder, runJob } from '../run/run.ts';
import { survivors, type HalvingOptions } from './halving.ts';
import { checkBatch } from './read.ts';
import { batchRows, writeBatchCsv } from './results.ts';
import { runJobs, type BatchEvent, type JobOutcome } from './run-jobs.ts';

const [V, D] = [60, 4];
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'halving-'));
  const data = new Float32Array(V * D);
  new RandomStream(1, 'table').fillNormal(data);
  await writeSafetensors(join(folder, 'items.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  const line = (i: number): string => JSON.stringify({ ids: [i % V, (i * 7) % V], class: i % 2 ? 'odd' : 'even' });
  await writeFile(join(folder, 'train.jsonl'), Array.from({ length: 80 }, (_, i) => line(i)).join('\n'));
});
afterEach(() => rm(folder, { recursive: true }));

const rates = [0.0001, 0.1, 0.01, 0.001, 0.03];

const job = (rate: number) => ({
  name: `rate-${rate}`,
  tables: { items: { file: 'items.safetensors' } },
  data: { train: { file: 'train.jsonl' }, validation: { file: 'train.jsonl' }, batchSize: 8, workers: 0 },
  features: { history: { table: 'items', column: 'ids' } },
  objective: { type: 'classification', input: 'history', label: 'class' },
  adapters: { items: { rank: 2 } },
  optimizer: { type: 'adamw', learningRate: rate, schedule: { type: 'cosine' } },
  train: { epochs: 4, checkpointEverySteps: 7 },
});
const jobs = (): LoadedJob[] => rates.map((rate) => ({ job: checkJob(job(rate)), folder }));
const halving: HalvingOptions = { epochs: [1, 2], keep: 0.5 };

const statuses = (outcomes: readonly JobOutcome[]) =>
  outcomes.map(({ status, stopped }) => (stopped ? stopped.after : status));
const adapterOf = (run: string): Promise<Buffer> => readFile(join(run, 'adapter/adapter_model.safetensors'));
const stepsOf = async (loaded: LoadedJob): Promise<number> =>
  Math.max(...(await readLogged(runFolder(loaded))).evaluations.map(({ step }) => step));

/** The loss of each job after an epoch, from jobs that nothing stopped. */
async function lossesAlone(): Promise<number[][]> {
  const losses: number[][] = [];
  for (const loaded of jobs()) {
    const run = join(folder, 'alone', loaded.job.name);
    await runJob(loaded, { folder: run });
    losses.push((await readLogged(run)).evaluations.map(({ metrics }) => metrics.loss!));
  }
  return losses;
}

test('the best go on from rung to rung, and end as they do alone; again, nothing is left to do', async () => {
  const losses = await lossesAlone();
  const bestOf = (candidates: readonly number[], epoch: number, count: number): number[] => {
    const loss = (i: number): number => Math.min(...losses[i]!.slice(0, epoch));
    return candidates.toSorted((a, b) => loss(a) - loss(b)).slice(0, count);
  };
  const second = bestOf([0, 1, 2, 3, 4], 1, 3);
  const last = bestOf(second, 2, 2);
  const expected = rates.map((_, i) =>
    last.includes(i) ? 'finished' : second.includes(i) ? { epochs: 2 } : { epochs: 1 },
  );

  const events: BatchEvent[] = [];
  const outcomes = await runJobs(jobs(), { concurrency: 2, halving, onEvent: (event) => events.push(event) });
  expect(statuses(outcomes)).toEqual(expected);
  for (const [i, { name, stopped, result, folder: run }] of outcomes.entries()) {
    const own = events.filter((event) => event.job === i).map(({ type }) => type);
    const rungs = expected[i] === 'finished' ? 2 : (expected[i] as { epochs: number }).epochs;
    expect(own.filter((type) => type === 'rung')).toHaveLength(rungs);
    expect(own.filter((type) => type === 'end')).toHaveLength(1);
    expect(stopped?.metrics.loss).toEqual(stopped && Math.min(...losses[i]!.slice(0, rungs)));
    if (stopped) expect(await stepsOf(jobs()[i]!)).toBe(10 * rungs);
    if (!result) continue;
    expect(await adapterOf(run)).toEqual(await adapterOf(join(folder, 'alone', name)));
  }

  const files = async () => {
    const names = await readdir(join(folder, 'runs'), { recursive: true });
    return Object.fromEntries(await Promise.all(names.map(async (name) => [name, (await stat(join(folder, 'runs', name))).mtimeMs] as const))); // prettier-ignore
  };
  const before = await files();
  const again = await runJobs(jobs(), { halving });
  expect(statuses(again)).toEqual(expected.map((status) => (status === 'finished' ? 'kept' : status)));
  expect(again.map(({ stopped }) => stopped)).toEqual(outcomes.map(({ stopped }) => stopped));
  expect(await files()).toEqual(before);

  // More may go on later: what was stopped is not lost.
  const more = await runJobs(jobs(), { halving: { epochs: [1], keep: 0.9 } });
  expect(statuses(more)).toEqual(rates.map((_, i) => (last.includes(i) ? 'kept' : 'finished')));
  for (const { folder: run, name } of more)
    expect(await adapterOf(run)).toEqual(await adapterOf(join(folder, 'alone', name)));
});

test('rungs of steps; a signal between them, and the same call goes on', async () => {
  const options = { concurrency: 1, halving: { steps: [10], keep: 0.2 } };
  const abort = new AbortController();
  let rungs = 0;
  const stopped = await runJobs(jobs(), {
    ...options,
    signal: abort.signal,
    onEvent: ({ type }) => type === 'rung' && ++rungs === 2 && abort.abort(),
  });
  expect(stopped.map(({ status }) => status)).toEqual(['interrupted', 'interrupted', 'waiting', 'waiting', 'waiting']);
  const begun: number[] = [];
  const ended = await runJobs(jobs(), { ...options, onEvent: (e) => e.type === 'begin' && begun.push(e.job) });
  const [finished] = ended.flatMap(({ status }, i) => (status === 'finished' ? [i] : []));
  expect(statuses(ended)).toEqual(rates.map((_, i) => (i === finished ? 'finished' : { steps: 10 })));
  expect(begun).toEqual([2, 3, 4, finished]);
});

test('a batch file asks for it, and its table tells where each job stopped', async () => {
  const input = { base: job(0.1), grid: { 'optimizer.learningRate': rates }, halving };
  const batch = await checkBatch(input, folder);
  expect(batch.halving).toEqual({ ...halving, metric: 'loss' });
  const outcomes = await runJobs(batch.jobs.map(({ loaded }) => loaded), { halving: batch.halving }); // prettier-ignore
  const rows = batchRows(batch, outcomes);
  expect(rows.map(({ stoppedAfter }) => stoppedAfter)).toEqual([null, null, '2 epochs', '1 epoch', '1 epoch']);
  for (const { metric, seconds, stoppedAfter } of rows) {
    expect(metric).toBeGreaterThan(0);
    expect(seconds === null).toBe(stoppedAfter !== null);
  }
  const csv = await readFile(await writeBatchCsv(batch, rows), 'utf8');
  expect(csv.split('\n')[0]).toMatch(/^name,status,stoppedAfter,/);
  expect(csv).toContain(',stopped,2 epochs,');
});

test('who survives', () => {
  expect(survivors([3, 1, 2], 'loss')).toEqual([1]);
  expect(survivors([3, 1, 2, 9], 'accuracy', 0.5)).toEqual([0, 3]);
  expect(survivors([1, 1, 1, 1], 'loss', 0.25)).toEqual([0]);
  expect(survivors([NaN, 2, NaN], 'loss', 0.5)).toEqual([0, 1]);
  expect(survivors([NaN], 'loss')).toEqual([0]);
});

test.each<[HalvingOptions, RegExp]>([
  [{}, /allowed: either epochs or steps/],
  [{ epochs: [1], steps: [1] }, /allowed: either epochs or steps/],
  [{ epochs: [2, 1] }, /epochs: found \[2,1\]; allowed: integers from 1, ascending/],
  [{ steps: [5], keep: 1 }, /keep: found 1; allowed: a number above 0 and below 1/],
  [{ epochs: [4] }, /epochs: found 4; allowed: below train\.epochs of job rate-0\.0001, 4/],
])('%j is refused', async (given, message) => {
  await expect(runJobs(jobs(), { halving: given })).rejects.toThrow(message);
});

test('a metric that no evaluation has is named', async () => {
  const outcomes = await runJobs(jobs().slice(0, 2), { halving: { ...halving, metric: 'auc' } });
  expect(outcomes.map(({ status }) => status)).toEqual(['failed', 'failed']);
  expect(outcomes[0]!.error!.message).toMatch(/no evaluation with auc by then; allowed: loss, accuracy/);
});

test('in a batch file too, its path is named', async () => {
  const refused = (given: object) => checkBatch({ base: job(0.1), grid: { 'train.seed': [1, 2] }, ...given }, folder);
  await expect(refused({ halving: { epochs: [4] } })).rejects.toThrow(/batch: halving: epochs: found 4/);
  await expect(refused({ halving: { keep: 2, epochs: [1] } })).rejects.toThrow(/halving\.keep: found 2/);
  const alone = { ...job(0.1), data: { train: { file: 'train.jsonl' } } };
  await expect(refused({ base: alone, halving: { epochs: [1] } })).rejects.toThrow(
    /job seed-1 has no data\.validation/,
  );
});
