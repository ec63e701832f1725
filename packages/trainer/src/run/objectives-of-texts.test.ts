/** Objectives of job files, from the job to an evaluation of its run. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { readSafetensorsHeader, readTensor, writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJob, type LoadedJob } from '../job/read.ts';
import type { JobInput } from '../job/schema.ts';
import { evaluateRun, runJob, type RunResult } from './run.ts';

const [V, D, topics] = [80, 8, 20];
let folder: string;

/** Rows 4 t to 4 t + 3 are of topic t, each a vector of its own: what belongs together has to be learnt. */
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'objectives-'));
  const data = new Float32Array(V * D);
  new RandomStream(1, 'table').fillNormal(data);
  await writeSafetensors(join(folder, 'words.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  const random = new RandomStream(2, 'lines');
  const lines = Array.from({ length: 160 }, (_, i) => {
    const [topic, other] = [i % topics, (i + 1 + random.below(3 * i, topics - 1)) % topics];
    const match = random.below(3 * i + 1, 2);
    return JSON.stringify({
      question: [4 * topic + random.below(3 * i + 2, 2)],
      answer: [4 * topic + 2, 4 * topic + 3],
      wrong: [4 * other + 2],
      wrongs: Array.from({ length: i % 3 }, (_, j) => 4 * ((topic + 1 + j) % topics) + 2),
      compared: [4 * (match ? topic : other) + 2],
      score: match ? 5 : 0,
      kind: match ? 'same' : 'other',
      tags: topic % 4 === 0 ? [] : [`t${topic % 2}`, `u${topic % 3}`],
    });
  });
  await writeFile(join(folder, 'pairs.jsonl'), lines.join('\n'));
});
afterEach(() => rm(folder, { recursive: true }));

const feature = (column: string) => ({ table: 'words', column });

function job(
  objective: JobInput['objective'],
  features: readonly string[],
  changes: Partial<JobInput> = {},
): LoadedJob {
  const input: JobInput = {
    name: 'pairs',
    tables: { words: { file: 'words.safetensors' } },
    data: { train: { file: 'pairs.jsonl' }, validation: { file: 'pairs.jsonl' }, batchSize: 20, workers: 0 },
    features: Object.fromEntries(features.map((column) => [column, feature(column)])),
    objective,
    adapters: { words: { kind: 'dense' } },
    optimizer: { type: 'adamw', learningRate: 0.05 },
    ...changes,
    train: { epochs: 8, threads: 1, ...changes.train },
  };
  return { job: checkJob(input), folder };
}

test('contrastive: positives are found among all of the evaluation', async () => {
  const loaded = job(
    { type: 'contrastive', anchor: 'question', positive: 'answer', negatives: 'wrong', maskDuplicates: true, symmetric: true },
    ['question', 'answer', 'wrong'],
    { train: { metrics: ['recall@1', 'mrr@10'], metric: 'recall@1', sliceBy: ['kind'] } },
  ); // prettier-ignore
  const frozen = await runJob({ ...loaded, job: { ...loaded.job, adapters: {} } }, { folder: join(folder, 'frozen') });
  const run = join(folder, 'run');
  const { validation } = await runJob(loaded, { folder: run });
  expect(frozen.validation!['recall@1']).toBeLessThan(0.4);
  expect(validation!['recall@1']).toBe(1);
  expect(validation).toMatchObject({ 'mrr@10': 1, 'recall@1/kind=same': 1, 'recall@1/kind=other': 1 });
  expect(validation!.accuracy).toBeGreaterThan(0.95);
  expect(validation!['loss/kind=same']).toBeGreaterThan(0);
  // As 20 distinct answers are looked for, whatever the batches are.
  expect(await evaluateRun(run, join(folder, 'pairs.jsonl'))).toEqual(validation);
});

test('contrastive: a list of hard negatives, each by itself, in any number', async () => {
  const run = async (negatives: string, pooling: 'mean' | 'none'): Promise<RunResult> => {
    const loaded = job({ type: 'contrastive', anchor: 'question', positive: 'answer', negatives }, [], {
      features: {
        question: feature('question'),
        answer: feature('answer'),
        [negatives]: { ...feature(negatives), pooling },
      },
      train: { epochs: 4, metrics: ['recall@1'], metric: 'recall@1' },
    });
    return runJob(loaded, { folder: join(folder, `${negatives}-${pooling}`) });
  };
  // One of each example: the same batches, whether it is pooled or not.
  const [pooled, single] = [await run('wrong', 'mean'), await run('wrong', 'none')];
  expect(single.checksums).toEqual(pooled.checksums);
  const several = await run('wrongs', 'none');
  expect(several.checksums).not.toEqual(pooled.checksums);
  expect(several.validation!['recall@1']).toBeGreaterThan(0.9);
});

test("similarity: the type of the label is the objective's to know", async () => {
  for (const loss of ['mse', 'cosent'] as const) {
    const { validation } = await runJob(
      job({ type: 'similarity', first: 'question', second: 'compared', label: 'score', range: [0, 5], loss }, ['question', 'compared'], {
        train: { metrics: ['spearman', 'pearson', 'rmse'] },
      }),
      { folder: join(folder, loss) },
    ); // prettier-ignore
    expect(validation!.pearson).toBeGreaterThan(0.8);
    expect(validation!.spearman).toBeGreaterThan(0.8);
    if (loss === 'mse') expect(validation!.rmse).toBeCloseTo(Math.sqrt(validation!.loss!), 6);
  }
});

test('classification: several classes of several features, by hidden layers', async () => {
  const loaded = job(
    {
      type: 'classification',
      input: ['question', 'answer'],
      label: 'tags',
      activation: 'sigmoid',
      hidden: [16],
      classWeights: { t1: 2 },
    },
    ['question', 'answer'],
    { train: { epochs: 30, metrics: ['f1-micro'] } },
  );
  const { validation, classes } = await runJob(loaded, { folder: join(folder, 'run') });
  expect(classes.tags).toEqual(['t0', 't1', 'u0', 'u1', 'u2']);
  expect(validation!['f1-micro']).toBeGreaterThan(0.95);
  expect(validation!.accuracy).toBeGreaterThan(0.9);
  expect(await evaluateRun(join(folder, 'run'), join(folder, 'pairs.jsonl'))).toEqual(validation);
});

test.each<[JobInput['objective'], Partial<JobInput>, string]>([
  [{ type: 'contrastive', anchor: 'question', positive: 'reply' }, {}, 'objective.positive: no feature "reply"; there are "question", "answer"'],
  [{ type: 'contrastive', anchor: 'question', positive: 'answer', negatives: ['answer'] }, {}, 'objective.negatives.0: found "answer" again; allowed: each feature once'],
  [{ type: 'contrastive', anchor: 'question', positive: 'answer', matryoshka: { dims: [2, 4], weights: [1] } }, {}, 'objective.matryoshka.weights: found 1 weights; allowed: 2, one for each of dims'],
  [{ type: 'contrastive', anchor: 'question', positive: 'answer', scale: 0 }, {}, 'objective.scale: found 0; allowed: more than 0'],
  [{ type: 'contrastive', anchor: 'question', positive: 'answer' }, { features: { question: feature('q'), answer: feature('a'), other: feature('o') } }, 'features.other: the objective does not read this feature'],
  [{ type: 'similarity', first: 'question', second: 'answer', label: 'score' }, { labels: { score: { type: 'class' } } }, 'labels.score.type: found "class"; allowed for similarity: "number"'],
  [{ type: 'similarity', first: 'question', second: 'question', label: 'score' }, {}, 'objective.second: found "question" again; allowed: another feature'],
  [{ type: 'similarity', first: 'question', second: 'answer', label: 'score', range: [5, 0] }, {}, 'objective.range: allowed: the lowest and the highest score'],
  [{ type: 'classification', input: ['question', 'answer', 'third'], label: 'kind' }, {}, 'objective.input.2: no feature "third"; there are "question", "answer"'],
  [{ type: 'classification', input: ['question', 'answer'], label: 'kind', activation: 'sigmoid' }, { labels: { kind: { type: 'class' } } }, 'labels.kind.type: found "class"; allowed for classification: "classes"'],
  [{ type: 'classification', input: ['question', 'answer'], label: 'kind', hidden: [0] }, {}, 'objective.hidden.0: found 0; allowed: 1 or more'],
])('%j is refused', (objective, changes, message) => {
  expect(() => job(objective, ['question', 'answer'], changes)).toThrow(`job: ${message}`);
}); // prettier-ignore

test('without what all vectors have in common: found once, kept with the run', async () => {
  // Every row has the same large part, which hides what tells topics apart.
  const data = new Float32Array(V * D);
  new RandomStream(1, 'table').fillNormal(data);
  for (let i = 0; i < data.length; i += D) data[i]! += 20;
  await writeSafetensors(join(folder, 'words.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  const without = { removeCommon: 1 };
  const objective = { type: 'similarity', first: 'question', second: 'compared', label: 'score' } as const;
  const train = { epochs: 3, metrics: ['spearman'], metric: 'spearman' };
  const both = (more: object) => ({
    features: { question: { ...feature('question'), ...more }, compared: { ...feature('compared'), ...more } },
    train,
  });
  const [plain, loaded] = [job(objective, [], both({})), job(objective, [], both(without))];
  const { validation } = await runJob(plain, { folder: join(folder, 'plain') });
  const run = join(folder, 'run');
  const result = await runJob(loaded, { folder: run });
  expect(result.validation!.spearman).toBeGreaterThan(validation!.spearman!);
  const header = await readSafetensorsHeader(join(run, 'objective.safetensors'));
  expect([...header.tensors.keys()]).toEqual(['common/compared', 'common/question']);
  const [direction] = (await readTensor(join(run, 'objective.safetensors'), header, 'common/question')).data as Float32Array; // prettier-ignore
  expect(direction).toBeGreaterThan(0.99);
  expect(await evaluateRun(run, join(folder, 'pairs.jsonl'))).toEqual(result.validation);

  const stop = new AbortController();
  const stopped = runJob(loaded, {
    folder: join(folder, 'stopped'),
    signal: stop.signal,
    onEvent: (event) => event.type === 'tick' && event.step === 11 && stop.abort(),
  });
  await expect(stopped).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const resumed = await runJob(loaded, { folder: join(folder, 'stopped'), existing: 'resume' });
  expect(resumed.checksums).toEqual(result.checksums);
});
