/** The same job with its table frozen, trained in full and mapped, from the job to an evaluation of its run. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { readSafetensorsHeader, writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJob, type LoadedJob } from '../job/read.ts';
import type { JobInput } from '../job/schema.ts';
import { evaluateRun, runJob } from './run.ts';

const [V, D] = [40, 6];
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'baseline-'));
  const data = new Float32Array(V * D);
  new RandomStream(1, 'items').fillNormal(data);
  await writeSafetensors(join(folder, 'items.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  const lines = Array.from({ length: 80 }, (_, i) => JSON.stringify({ history: [i % V, (i * 7) % V], next: (i + 1) % V })); // prettier-ignore
  await writeFile(join(folder, 'train.jsonl'), lines.join('\n'));
});
afterEach(() => rm(folder, { recursive: true }));

function job(baseline: JobInput['baseline'], changes: Partial<JobInput> = {}): LoadedJob {
  const input: JobInput = {
    name: `run-${baseline}`,
    tables: { items: { file: 'items.safetensors' } },
    data: { train: { file: 'train.jsonl' }, validation: { file: 'train.jsonl' }, batchSize: 16, workers: 0 },
    features: { history: { table: 'items', column: 'history' }, next: { table: 'items', column: 'next' } },
    objective: { type: 'ranking', query: 'history', target: 'next', similarity: 'cosine', scale: 5 },
    adapters: { items: { rank: 2, dropout: 0.1, learningRate: 0.03 } },
    optimizer: { type: 'adamw', learningRate: 0.001 },
    train: { epochs: 6, metrics: ['recall@5'], threads: 1 },
    ...changes,
    baseline,
  };
  return { job: checkJob(input), folder };
}

test('frozen is measured once, full has a delta of every row that was touched, map learns one matrix', async () => {
  const results = Object.fromEntries(
    await Promise.all(
      (['none', 'frozen', 'full', 'map'] as const).map(async (name) => [name, await runJob(job(name))] as const),
    ),
  );
  const { none, frozen, full, map } = results;
  expect(none!.adapters.items!.groups).toEqual([{ name: 'rest', kind: 'lora', rank: 2, touchedRows: V }]);
  expect(frozen).toMatchObject({ epochs: 1, steps: 5, adapters: {} });
  expect(full!.adapters.items!.groups).toEqual([{ name: 'rest', kind: 'dense', rank: D, touchedRows: V }]);
  expect(map).toMatchObject({ epochs: 6, adapters: {} });
  for (const { validation } of [full!, map!]) expect(validation!.loss).toBeLessThan(frozen!.validation!.loss!);
  for (const [name, { validation }] of Object.entries(results)) {
    const run = join(folder, 'runs', `run-${name}`);
    expect(await evaluateRun(run, join(folder, 'train.jsonl'))).toEqual(validation);
    expect(await readFile(join(run, 'job.yaml'), 'utf8')).toContain(`baseline: ${name}\n`);
    expect(existsSync(join(run, 'adapter'))).toBe(name === 'none' || name === 'full');
  }
  const { tensors } = await readSafetensorsHeader(join(folder, 'runs/run-map/objective.safetensors'));
  expect([...tensors].map(([name, { shape }]) => [name, shape])).toEqual([['map/items', [D, D]]]);
});

test('the map goes by the rates of the adapter whose place it takes', async () => {
  const still = { adapters: { items: { rank: 2, learningRate: 0 } } };
  const [moved, kept] = [await runJob(job('map')), await runJob(job('map', { name: 'still', ...still }))];
  expect(kept.validation).toEqual((await runJob(job('frozen'))).validation);
  expect(moved.validation!.loss).toBeLessThan(kept.validation!.loss!);
});

test('a resumed map ends with the same bytes', async () => {
  const whole = await runJob(job('map'));
  const stop = new AbortController();
  const run = join(folder, 'stopped');
  const stopped = runJob(job('map'), {
    folder: run,
    signal: stop.signal,
    onEvent: ({ type, ...event }) => type === 'tick' && 'step' in event && event.step === 13 && stop.abort(),
  });
  await expect(stopped).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const resumed = await runJob(job('map'), { folder: run, existing: 'resume' });
  expect(resumed.checksums).toEqual(whole.checksums);
});

test('a job without adapters has nothing to train in full or to replace by a map', () => {
  expect(() => job('map', { adapters: {} })).toThrow(
    'baseline: found "map", but the job adapts no table; allowed: "none", "frozen"',
  );
  expect(() => job('linear' as never)).toThrow('baseline: found "linear"; allowed: "none", "frozen", "full", "map"');
});
