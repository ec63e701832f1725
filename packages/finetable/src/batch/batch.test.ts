import { existsSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BatchEvent } from '@finetable/trainer';
import { expect, test } from 'vitest';
import { Captured, runHere } from '../testing/capture.ts';
import { writeTinyJob } from '../testing/tiny-job.ts';
import { batchBars } from './progress.ts';

const objects = (text: string): Record<string, unknown>[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

async function writeBatch(grid: object, more: object = {}): Promise<{ folder: string; file: string }> {
  const { folder } = await writeTinyJob();
  const file = join(folder, 'ranks.yaml');
  await writeFile(file, JSON.stringify({ base: 'job.yaml', metric: 'accuracy', grid, ...more }));
  return { folder, file };
}

test('a grid is run, told in a table and a CSV file, and not run again', async () => {
  const { folder, file } = await writeBatch({ 'adapters.items.rank': [1, 4] });
  const first = await runHere(['batch', file, '--concurrency', '2']);
  expect(first.status).toBe(0);
  expect(first.stderr.trim().split('\n').sort()).toEqual([
    expect.stringMatching(/^1\/2 rank-[14]: loss .*accuracy/),
    expect.stringMatching(/^2\/2 rank-[14]: loss .*accuracy/),
  ]);
  expect(first.stdout.split('\n')[0]).toMatch(/^job +status +accuracy +time +examples\/s +adapter$/);
  expect(first.stdout).toMatch(/^rank-1 +finished +0?\.?\d+ .*B$/m);
  const csv = await readFile(join(folder, 'runs/ranks/results.csv'), 'utf8');
  expect(csv.split('\n')[0]).toMatch(/^name,status,adapters\.items\.rank,loss,accuracy.*,seconds/);
  expect(csv.trim().split('\n')).toHaveLength(3);
  expect(await readFile(join(folder, 'runs/ranks/results.html'), 'utf8')).toContain('2 runs compared');
  const result = join(folder, 'runs/ranks/rank-4/result.json');
  const { mtimeMs } = await stat(result);

  const second = await runHere(['batch', file, '--json']);
  expect(second.status).toBe(0);
  const events = objects(second.stdout);
  expect(events.map(({ type }) => type)).toEqual(['end', 'end', 'results']);
  expect(events[0]).toMatchObject({ status: 'kept', name: 'rank-1', error: null });
  expect(events[2]).toMatchObject({ metric: 'accuracy', rows: [{ status: 'kept' }, { status: 'kept' }] });
  expect((await stat(result)).mtimeMs).toBe(mtimeMs);
});

test('baselines: the best of each, at its own learning rate, side by side', async () => {
  const rates = { 'optimizer.learningRate': [0.1, 0.0001] };
  const { folder, file } = await writeBatch(rates, {
    baselines: { none: {}, frozen: {}, full: {}, map: { 'optimizer.learningRate': [0.05] } },
  });
  const { status, stdout } = await runHere(['batch', file, '--concurrency', '2']);
  expect(status).toBe(0);
  const [all, best] = stdout.split('\nthe best of each:\n');
  expect(all!.match(/^baseline-/gm)).toHaveLength(7);
  const names = best!.match(/^baseline-\S+/gm)!;
  expect(names.map((name) => name.split('_')[0]).sort()).toEqual(['full', 'frozen', 'map', 'none'].map((name) => `baseline-${name}`).sort()); // prettier-ignore
  for (const name of names) expect(name).toMatch(/learningRate-0\.(1|05)$/);
  const page = await readFile(join(folder, 'runs/ranks/results.html'), 'utf8');
  expect(page).toContain('4 runs compared');
  expect(page).toContain('baseline');
  const compared = await runHere([
    'compare',
    ...names.map((name) => join(folder, 'runs/ranks', name)),
    '--output',
    join(folder, 'compare.html'),
  ]);
  expect(compared.stdout).toMatch(/^ *baseline +(none|frozen|full|map)/m);
});

test('a job that fails: the others are done, the error is told at the end, and the status is its own', async () => {
  const { folder, file } = await writeBatch({ 'tables.items.file': ['table.safetensors', 'nothing.safetensors'] });
  const ended = await runHere(['batch', file]);
  expect(ended.status).toBe(2);
  expect(ended.stderr).toMatch(/batch: 1 of 2 jobs failed:\n {2}file-nothing\.safetensors: .*nothing\.safetensors/);
  expect(ended.stdout).toMatch(/^file-table\.safetensors +finished/m);
  expect(ended.stdout).toMatch(/^file-nothing\.safetensors +failed +-/m);
  expect(existsSync(join(folder, 'runs/ranks/file-nothing.safetensors'))).toBe(false);
});

test('interrupted before it begins: status 130, and nothing has run', async () => {
  const { folder, file } = await writeBatch({ 'adapters.items.rank': [1, 4] });
  const ended = await runHere(['batch', file], { signal: AbortSignal.abort() });
  expect(ended.status).toBe(130);
  expect(ended.stderr).toContain('2 of 2 jobs are not finished; the same command goes on');
  expect(existsSync(join(folder, 'runs/ranks/rank-1'))).toBe(false);
});

test('a batch that is wrong is refused before anything runs', async () => {
  const { folder, file } = await writeBatch({ 'adapters.items.rank': [1, 0] });
  const ended = await runHere(['batch', file]);
  expect(ended.status).toBe(2);
  expect(ended.stderr).toContain('rank-0: adapters.items.rank: found 0; allowed: 1 or more');
  expect(existsSync(join(folder, 'runs'))).toBe(false);
  expect((await runHere(['batch', file, '--concurrency', '0'])).status).toBe(2);
});

test('on a terminal: a line for each running job, what ended above it, and nothing left at the end', async () => {
  const terminal = new Captured(60);
  const reporter = batchBars(terminal, 3);
  const job = (i: number) => ({ job: i, name: `a-job-with-a-name-of-its-own-rank-${i}`, folder: `runs/${i}` });
  const start = {
    type: 'start',
    epochs: 2,
    stepsPerEpoch: 10,
    steps: 20,
    secondsLeft: null,
    examples: 80,
    step: 0,
  } as const;
  const events: BatchEvent[] = [
    { type: 'begin', ...job(0) },
    { type: 'begin', ...job(1) },
    { type: 'training', ...job(0), event: start },
    { type: 'training', ...job(0), event: { type: 'tick', step: 10, epoch: 0, loss: 1 } },
  ];
  for (const event of events) reporter.event(event);
  await expect.poll(() => terminal.text).toMatch(/…\S*rank-0 epoch 1\/2 .*50%/);
  expect(terminal.text).toMatch(/…\S*rank-1 opens its tables/);
  reporter.event({ type: 'end', ...job(0), status: 'interrupted', result: null, error: null });
  reporter.close();
  reporter.close();
  expect(terminal.text).toContain('1/3 a-job-with-a-name-of-its-own-rank-0: interrupted');
  for (const line of terminal.text.split(/\u001b\[[0-9;?]*[A-Za-z]|\n|\r/)) {
    if (!/^\d\//.test(line)) expect(line.length).toBeLessThan(60);
  }
  const { text } = terminal;
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(terminal.text).toBe(text);
});
