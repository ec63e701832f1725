import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeNpy, writeSafetensors } from '@finetable/formats';
import { RandomStream } from '@finetable/core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parse } from 'yaml';
import { checkJob, type LoadedJob } from '../job/read.ts';
import type { JobInput } from '../job/schema.ts';
import { evaluateRun, readResult, runJob, type RunOptions } from './run.ts';

const V = 30;
const D = 4;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'run-'));
  const values = new Float32Array(V * D);
  new RandomStream(1, 'table').fillNormal(values);
  await writeSafetensors(join(folder, 'items.safetensors'), [
    { name: 'rows', dtype: 'F32', shape: [V, D], data: values },
  ]);
  const line = (i: number): string =>
    JSON.stringify({ ids: [(i * 7) % V, (i * 11) % V], class: i % 2 ? 'odd' : 'even' });
  await writeFile(join(folder, 'train.jsonl'), Array.from({ length: 50 }, (_, i) => `${line(i)}\n`).join(''));
  await writeFile(join(folder, 'test.jsonl'), Array.from({ length: 12 }, (_, i) => `${line(i + 50)}\n`).join(''));
});
afterEach(() => rm(folder, { recursive: true }));

type Changes = Partial<JobInput>;

function job(changes: Changes = {}): LoadedJob {
  const input: JobInput = {
    name: 'small',
    tables: { items: { file: 'items.safetensors' } },
    data: { train: { file: 'train.jsonl' }, validation: { file: 'test.jsonl' }, batchSize: 8, workers: 0 },
    features: { history: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'history', label: 'class' },
    adapters: { items: { rank: 2, alpha: 4 } },
    optimizer: { type: 'adamw', learningRate: 0.05 },
    train: { epochs: 3, checkpointEverySteps: 5 },
    ...changes,
  };
  return { job: checkJob(input), folder };
}

const read = (...path: string[]): Promise<string> => readFile(join(folder, 'runs/small', ...path), 'utf8');

test('a run leaves its job, metrics, adapter, objective, result and checkpoints, and nothing else', async () => {
  const result = await runJob(job());
  expect((await readdir(join(folder, 'runs/small'))).sort()).toEqual([
    'adapter',
    'checkpoints',
    'data',
    'job.yaml',
    'metrics.jsonl',
    'objective.safetensors',
    'report.html',
    'result.json',
  ]);
  expect(await readResult(join(folder, 'runs/small'))).toEqual(result);
  expect(result).toMatchObject({
    name: 'small',
    steps: 21,
    epochs: 3,
    tables: { items: { rows: V, dim: D, dtype: 'f32', bytes: V * D * 4 } },
    adapters: { items: { groups: [{ name: 'rest', kind: 'lora', rank: 2 }] } },
    classes: { class: ['even', 'odd'] },
  });
  expect(Object.keys(result.checksums).sort()).toEqual([
    'adapter/adapter_config.json',
    'adapter/adapter_model.safetensors',
    'objective.safetensors',
  ]);
  const copy = parse(await read('job.yaml')) as JobInput;
  expect(copy.tables.items!.file).toBe('../../items.safetensors');
  expect(copy.optimizer).toMatchObject({ beta1: 0.9, mode: 'exact' });
  const lines = (await read('metrics.jsonl'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; step: number });
  expect(lines.map(({ type, step }) => `${type} ${step}`)).toEqual([
    'step 7',
    'evaluation 7',
    'step 14',
    'evaluation 14',
    'step 21',
    'evaluation 21',
  ]);
});

test('a finished run evaluates to the metrics that chose it, from its files alone', async () => {
  const result = await runJob(job());
  expect(await evaluateRun(join(folder, 'runs/small'), join(folder, 'test.jsonl'))).toEqual(result.validation);
});

test('a job of batches that accumulate, evaluated by steps, with a budget, for TensorBoard too', async () => {
  const { train } = job().job;
  const more = { accumulateBatches: 2, evaluateEvery: { steps: 3 }, budget: { steps: 8 }, tensorboard: true };
  const loaded = job({ train: { ...train, ...more } });
  const result = await runJob(loaded);
  // 7 batches make 4 steps.
  expect(result).toMatchObject({ steps: 8, epochs: 2, stoppedEarly: true, endedBy: 'steps' });
  expect(result.tokens).toBeGreaterThan(0);
  expect(result.validation!.loss).toBeGreaterThan(0);
  const evaluated = (await read('metrics.jsonl')).split('\n').filter((line) => line.includes('"evaluation"'));
  expect(evaluated.map((line) => (JSON.parse(line) as { step: number }).step)).toEqual([3, 6, 8]);
  expect(await readdir(join(folder, 'runs/small/tensorboard'))).toHaveLength(1);
  expect((parse(await read('job.yaml')) as JobInput).train).toMatchObject(more);
  const found = await bytes();
  await expect(runJob(loaded, { existing: 'overwrite', ...abortAt(5) })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  await runJob(loaded, { existing: 'resume' });
  expect(await bytes()).toEqual(found);
  await runJob(job(), { existing: 'overwrite' });
  expect(await readdir(join(folder, 'runs/small')), 'cleared with the run').not.toContain('tensorboard');
});

async function bytes(): Promise<Buffer[]> {
  const names = ['adapter/adapter_model.safetensors', 'adapter/adapter_config.json', 'objective.safetensors'];
  return Promise.all(names.map((name) => readFile(join(folder, 'runs/small', name))));
}

const abortAt = (step: number): RunOptions => {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    onEvent: (event) => void (event.type === 'tick' && event.step === step && controller.abort()),
  };
};

test('interrupted, refused, resumed: the same bytes as a run that was never stopped', async () => {
  await runJob(job());
  const whole = await bytes();
  const metrics = await read('metrics.jsonl');
  await expect(runJob(job(), { existing: 'overwrite', ...abortAt(12) })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  expect(await readdir(join(folder, 'runs/small'))).not.toContain('result.json');
  await expect(runJob(job())).rejects.toMatchObject({
    code: 'EXISTS',
    message: expect.stringContaining('unfinished run; resume it'),
  });
  await expect(runJob(job({ optimizer: { type: 'sgd', learningRate: 1 } }), { existing: 'resume' })).rejects.toThrow(
    /started with optimizer\.type = "adamw", now it is "sgd"/,
  );
  const tables = {
    items: {
      ...job().job.tables.items!,
      placement: 'mapped' as const,
      frequencies: { zipf: 1 },
      sortedByFrequency: true,
    },
  };
  // Where rows lie and how many workers read is free to change.
  await runJob(job({ tables, data: { ...job().job.data, workers: 2 }, placement: { memory: '50%' } }), {
    existing: 'resume',
  });
  expect(await bytes()).toEqual(whole);
  const strip = (text: string): string[] =>
    text
      .trim()
      .split('\n')
      .map((line) => line.replace(/"(examplesPerSecond|waitSeconds|memoryBytes)":[^,}]*/g, ''));
  expect(strip(await read('metrics.jsonl'))).toEqual(strip(metrics));
  await expect(runJob(job())).rejects.toMatchObject({
    code: 'EXISTS',
    message: expect.stringContaining('finished run; overwrite it'),
  });
});

test('bad input leaves no files', async () => {
  const before = await readdir(folder);
  const bad = async (name: string, text: string, changes: Changes = {}): Promise<unknown> => {
    await writeFile(join(folder, name), text);
    // Without the validation file, whose classes are others.
    const data = { train: { file: name }, batchSize: 8, workers: 0 };
    const error: unknown = await runJob(job({ data, ...changes })).catch((e: unknown) => e);
    await rm(join(folder, name));
    expect(await readdir(folder)).toEqual(before);
    return error;
  };
  const good = '{"ids": [1], "class": "a"}\n{"ids": [2], "class": "b"}\n';
  expect(await bad('ids.jsonl', `${good}{"ids": [30], "class": "a"}\n`)).toMatchObject({
    code: 'ID_OUT_OF_RANGE',
    message: expect.stringMatching(/ids\.jsonl.*line 3.*30/),
  });
  expect(await bad('ids.jsonl', `${good}{"ids": [-1], "class": "a"}\n`)).toMatchObject({
    message: expect.stringMatching(/line 3.*-1/),
  });
  expect(await bad('ids.jsonl', `${good}{"ids": [1.5], "class": "a"}\n`)).toMatchObject({
    code: 'INVALID_DATA',
    message: expect.stringMatching(/line 3.*1\.5/),
  });
  expect(await bad('column.jsonl', `${good}{"idz": [1], "class": "a"}\n`)).toMatchObject({
    code: 'INVALID_DATA',
    message: expect.stringMatching(/line 3.*ids/),
  });
  expect(await bad('rank.jsonl', good, { adapters: { items: { rank: 5 } } })).toMatchObject({
    message: expect.stringMatching(/rank 5; allowed: an integer from 1 to 4/),
  });
});

test('a folder that is not a run is left alone', async () => {
  await mkdir(join(folder, 'runs/small'), { recursive: true });
  await writeFile(join(folder, 'runs/small/diary.txt'), 'dear');
  for (const existing of ['refuse', 'resume', 'overwrite'] as const) {
    await expect(runJob(job(), { existing })).rejects.toMatchObject({
      code: 'EXISTS',
      message: expect.stringContaining('not a run (diary.txt)'),
    });
  }
  expect(await readdir(join(folder, 'runs/small'))).toEqual(['diary.txt']);
});

test('what to do with a run that is there must be one of three words', async () => {
  await runJob(job());
  const before = await bytes();
  await expect(runJob(job(), { existing: 'continue' as 'resume' })).rejects.toThrow(
    /existing: found "continue"; allowed: refuse, resume, overwrite/,
  );
  expect(await bytes()).toEqual(before);
});

test('two runs in one folder: the second is refused and disturbs nothing', async () => {
  let second: unknown;
  const controller = new AbortController();
  await runJob(job(), {
    signal: controller.signal,
    onEvent: async (event) => {
      if (event.type === 'start') second = await runJob(job(), { existing: 'overwrite' }).catch((e: unknown) => e);
    },
  });
  expect(second).toMatchObject({ code: 'LOCKED' });
  expect(await readdir(join(folder, 'runs/small'))).toContain('result.json');
});

test('as planned, mapped, in RAM or in shards of both: the same bytes', async () => {
  await runJob(job());
  const planned = await bytes();
  for (const placement of [
    'mapped' as const,
    'ram' as const,
    [{ home: 'ram' as const, rows: 11 }, { home: 'mapped' as const, rows: 3 }, { home: 'ram' as const }],
  ]) {
    await runJob(job({ tables: { items: { file: 'items.safetensors', placement } } }), { existing: 'overwrite' });
    expect(await bytes()).toEqual(planned);
  }
});

test('a job that adds rows to its table: trained, stopped, resumed and evaluated as any other', async () => {
  // Ids from V on are those that the table does not have.
  const line = (i: number): string =>
    JSON.stringify({ ids: [(i * 7) % V, V + (i % 3)], class: i % 3 ? 'odd' : 'even' });
  await writeFile(join(folder, 'train.jsonl'), Array.from({ length: 50 }, (_, i) => `${line(i)}\n`).join(''));
  await writeFile(join(folder, 'test.jsonl'), Array.from({ length: 12 }, (_, i) => `${line(i + 50)}\n`).join(''));
  await writeNpy(join(folder, 'new.npy'), { dtype: 'F32', shape: [3, D], data: new Float32Array(3 * D).fill(0.5) });
  const grown = (grow: NonNullable<JobInput['tables'][string]['grow']>): LoadedJob =>
    job({ tables: { items: { file: 'items.safetensors', grow } } });
  for (const grow of [{ vectors: 'new.npy' }, { meanOf: [[1], [2, 3], [4]] }, { count: 3, init: 'random' as const }]) {
    const result = await runJob(grown(grow), { existing: 'overwrite' });
    expect(result).toMatchObject({
      tables: { items: { rows: V + 3 } },
      adapters: {
        items: {
          groups: [
            { name: 'rest', kind: 'lora' },
            { name: 'grown', kind: 'dense' },
          ],
        },
      },
    });
    const whole = await bytes();
    const validation = await evaluateRun(join(folder, 'runs/small'), join(folder, 'test.jsonl'));
    expect(validation).toEqual(result.validation);
    await expect(runJob(grown(grow), { existing: 'overwrite', ...abortAt(12) })).rejects.toMatchObject({
      code: 'INTERRUPTED',
    });
    await expect(runJob(grown({ count: 4 }), { existing: 'resume' })).rejects.toThrow(
      /started with tables\.items\.grow/,
    );
    await runJob(grown(grow), { existing: 'resume' });
    expect(await bytes()).toEqual(whole);
  }
  await writeNpy(join(folder, 'new.npy'), { dtype: 'F32', shape: [3], data: new Float32Array(3) });
  await expect(runJob(grown({ vectors: 'new.npy' }), { existing: 'overwrite' })).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: expect.stringMatching(/shape \[3\]; new rows are \[rows, dims\]/),
  });
});
