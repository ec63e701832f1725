/** What a job says of features, from the job to an evaluation of its run. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { readFound } from '@finetable/data';
import { writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJob, type LoadedJob } from '../job/read.ts';
import type { JobInput } from '../job/schema.ts';
import { evaluateRun, runJob } from './run.ts';

const V = 30;
const D = 4;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'features-'));
  const data = new Float32Array(V * D);
  new RandomStream(1, 'table').fillNormal(data);
  await writeSafetensors(join(folder, 'words.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  const lines = Array.from({ length: 48 }, (_, i) =>
    JSON.stringify({
      text: `the ${i % 2 ? 'red' : 'blue'} w${i % 5}`,
      class: i % 2 ? 'odd' : 'even',
      w: i % 2 ? 0 : 1,
    }),
  );
  lines[7] = '{"text": null, "class": "odd", "w": 1}';
  await writeFile(join(folder, 'train.jsonl'), lines.join('\n'));
  // Words and counts that would make another vocabulary.
  const others = ['the red w1', 'blue blue new', 'other w4'].map((text) =>
    JSON.stringify({ text, class: 'odd', w: 1 }),
  );
  await writeFile(join(folder, 'test.jsonl'), others.join('\n'));
});
afterEach(() => rm(folder, { recursive: true }));

function job(changes: Partial<JobInput> = {}): LoadedJob {
  const input: JobInput = {
    name: 'texts',
    tables: { words: { file: 'words.safetensors' } },
    data: {
      train: { file: 'train.jsonl' },
      validation: { file: 'test.jsonl' },
      batchSize: 8,
      workers: 0,
      badRows: { skip: 1 },
    },
    features: {
      text: {
        table: 'words',
        column: 'text',
        tokens: { vocabulary: { minCount: 2 }, outOfVocabulary: { rows: 1 } },
        weighting: { type: 'sif', a: 1e-2 },
      },
    },
    objective: { type: 'classification', input: 'text', label: 'class' },
    adapters: { words: { kind: 'dense' } },
    optimizer: { type: 'adamw', learningRate: 0.05 },
    train: { epochs: 2, checkpointEverySteps: 5 },
    ...changes,
  };
  return { job: checkJob(input), folder };
}

test('a run keeps its vocabulary and counts, and is evaluated with them', async () => {
  const result = await runJob(job());
  const run = join(folder, 'runs/texts');
  expect((await readdir(join(run, 'data'))).sort()).toEqual(['found.json', 'text.counts.npy', 'text.vocabulary.json']);
  const found = await readFound(join(run, 'data'));
  // 47 texts: that without text was left out.
  expect(found.labels).toEqual({ class: ['even', 'odd'] });
  const { vocabulary, counts } = found.features['text']!;
  expect(vocabulary).toEqual({
    words: ['the', 'blue', 'red', 'w1', 'w0', 'w4', 'w3', 'w2'],
    counts: [47, 24, 23, 10, 10, 9, 9, 9],
  });
  expect([...counts!]).toEqual([0, 47, 24, 23, 10, 10, 9, 9, 9, ...new Array<number>(V - 9).fill(0)]);
  const metrics = await evaluateRun(run, join(folder, 'test.jsonl'));
  expect(metrics).toEqual(result.validation);
});

test('a run is not resumed where another vocabulary would be found', async () => {
  const abort = new AbortController();
  const options = {
    signal: abort.signal,
    onEvent: ({ type }: { type: string }) => {
      if (type === 'checkpoint') abort.abort();
    },
  };
  await expect(runJob(job(), options)).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const text = await readFile(join(folder, 'train.jsonl'), 'utf8');
  await writeFile(join(folder, 'train.jsonl'), text.replaceAll('w4', 'w9'));
  await expect(runJob(job(), { existing: 'resume' })).rejects.toMatchObject({
    code: 'MISMATCH',
    message: expect.stringContaining(
      'the training data has changed: its classes, vocabularies, counts or means',
    ) as string,
  });
  await writeFile(join(folder, 'train.jsonl'), text);
  const resumed = await runJob(job(), { existing: 'resume' });
  const whole = await runJob(job(), { folder: join(folder, 'whole') });
  expect(resumed.checksums).toEqual(whole.checksums);
});

test('examples that count nothing teach nothing', async () => {
  const { objective } = job().job;
  expect(objective.type).toBe('classification');
  const run = async (weight: JobInput['weight'], name: string) =>
    (await runJob(job({ weight }), { folder: join(folder, name) })).train['loss']!;
  // Of odd rows, half of all, the loss does not count; the row that is left out would have.
  const [all, half] = [await run(undefined, 'all'), await run({ column: 'w' }, 'half')];
  expect(half).toBeGreaterThan(0);
  expect(half).toBeLessThan(0.6 * all);
});
