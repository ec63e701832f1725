/** Which examples a job trains, chooses and is evaluated on: histories, negatives, splits. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJob } from '../job/read.ts';
import { planJob } from '../job/plan.ts';
import type { JobInput } from '../job/schema.ts';
import type { TrainingEvent } from '../fit.ts';
import { evaluateRun, runJob, type RunResult } from './run.ts';

const V = 40;
const D = 4;
const users = 20;
const perUser = 6;
let folder: string;

/** Of user u the k-th item, at time k: each follows its predecessor by the same step. */
const itemOf = (u: number, k: number): number => (u * 3 + k * 2) % V;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'run-data-'));
  const data = new Float32Array(V * D);
  new RandomStream(1, 'items').fillNormal(data);
  await writeSafetensors(join(folder, 'items.safetensors'), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  const lines = ['who;what;when'];
  for (let k = 0; k < perUser; k++)
    for (let u = 0; u < users; u++) lines.push(`u${u};${itemOf(u, k)};2024-01-0${k + 1}`);
  await writeFile(join(folder, 'clicks.csv'), `${lines.join('\n')}\n`);
});
afterEach(() => rm(folder, { recursive: true }));

function job(changes: Partial<JobInput> = {}, data: object = {}): JobInput {
  const source = { file: 'clicks.csv', delimiter: ';' };
  return {
    name: 'next',
    tables: { items: { file: 'items.safetensors' } },
    data: {
      train: { ...source, split: { leaveOut: 'train' } },
      validation: { ...source, split: { leaveOut: 'validation' } },
      test: { ...source, split: { leaveOut: 'test' } },
      histories: { user: 'who', item: 'what', time: 'when', window: 3 },
      batchSize: 16,
      ...data,
    } as JobInput['data'],
    features: {
      past: { table: 'items', column: 'history', last: 2 },
      next: { table: 'items', column: 'target' },
    },
    negatives: { others: { of: 'next', count: 5, exclude: ['seen'] } },
    objective: { type: 'ranking', query: 'past', target: 'next', negatives: 'others', seen: 'past' },
    adapters: { items: { kind: 'dense' } },
    optimizer: { type: 'adamw', learningRate: 0.1 },
    train: { epochs: 10, metrics: ['recall@5'] },
    ...changes,
  };
}

async function run(input: JobInput): Promise<{ result: RunResult; events: TrainingEvent[] }> {
  const events: TrainingEvent[] = [];
  const result = await runJob(
    { job: checkJob(input), folder },
    { existing: 'overwrite', onEvent: (event) => events.push(event) },
  );
  return { result, events };
}

const runs = (): string => join(folder, 'runs/next');

test('histories: the last item of each user is the test, the one before it the validation', async () => {
  const { result, events } = await run(job());
  // Of six items the first has no history, and the last two are left out.
  expect(events[0]).toMatchObject({ type: 'start', examples: users * (perUser - 3), stepsPerEpoch: 4 });
  const losses = events.flatMap((event) => (event.type === 'evaluation' ? [event.metrics['loss']!] : []));
  expect(losses.at(-1)).toBeLessThan(losses[0]!);
  const metrics = await evaluateRun(runs());
  expect(Object.keys(metrics)).toEqual(Object.keys(result.validation!));
  expect(metrics).not.toEqual(result.validation);
  // With all targets the file is another thing again; its format is that of the training's.
  const all = await evaluateRun(runs(), join(folder, 'clicks.csv'));
  expect(all['recall@5']).toBeGreaterThan(0);
  expect(all).not.toEqual(metrics);
});

test('negatives are drawn by what the run found, and are the same for any number of workers', async () => {
  const adapterOf = async (input: JobInput): Promise<string> => {
    await run(input);
    return (await readFile(join(runs(), 'adapter/adapter_model.safetensors'))).toString('base64');
  };
  const uniform = await adapterOf(job({}, { workers: 0 }));
  expect(await adapterOf(job({}, { workers: 3 }))).toBe(uniform);
  const measured = job({ negatives: { others: { of: 'next', count: 5, distribution: { exponent: 1 } } } });
  expect(await adapterOf(measured)).not.toBe(uniform);
  expect(JSON.parse(await readFile(join(runs(), 'data/found.json'), 'utf8'))).toMatchObject({
    negatives: { others: { rows: V } },
  });
});

test('by time, and by shares', async () => {
  const file = { file: 'clicks.csv', delimiter: ';' };
  const byTime = job({}, {
    train: { ...file, split: { time: { column: 'when', to: '2024-01-04' } } },
    validation: { ...file, split: { time: { column: 'when', from: '2024-01-04', to: '2024-01-06' } } },
    test: undefined,
  }); // prettier-ignore
  expect((await run(byTime)).events[0]).toMatchObject({ examples: 2 * users });
  await expect(evaluateRun(runs())).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('its job has no data.test') as string,
  });
  const folds = [0, 1, 2].map((part) => ({ ...file, split: { part, parts: [1, 1, 1], key: 'who' } }));
  const counts = await Promise.all(
    folds.map(async (train) => {
      const input = {
        ...job({}, { train, validation: undefined, test: undefined }),
        output: `runs/${train.split.part}`,
      };
      const { events } = await run(input);
      return (events[0] as { examples: number }).examples;
    }),
  );
  expect(counts.reduce((a, b) => a + b)).toBe(users * (perUser - 1));
  for (const count of counts) expect(count % (perUser - 1)).toBe(0);
});

test('no batch has the same ids twice where that is asked', async () => {
  const pairs = Array.from({ length: 32 }, (_, i) => JSON.stringify({ a: [i % 8], b: [(i % 8) + 8] }));
  await writeFile(join(folder, 'pairs.jsonl'), `${pairs.join('\n')}\n`);
  const input = (data: object): JobInput => ({
    ...job(),
    negatives: {},
    data: { train: { file: 'pairs.jsonl' }, batchSize: 8, ...data } as JobInput['data'],
    features: { a: { table: 'items', column: 'a' }, b: { table: 'items', column: 'b' } },
    objective: { type: 'contrastive', anchor: 'a', positive: 'b' },
    train: { epochs: 1 },
  });
  const [plain, distinct] = [await run(input({})), await run(input({ distinct: 'b' }))];
  // A positive that is there twice is a negative of its own example.
  expect(distinct.result.train['loss']).toBeLessThan(plain.result.train['loss']!);
  await expect(run(input({ distinct: 'b', batchSize: 16 }))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

test('what does not go together is refused, by its path', () => {
  const refused = (input: JobInput, message: string): void => {
    expect(() => checkJob(input)).toThrow(message);
  };
  refused(job({ negatives: { past: { of: 'next', count: 1 } } }), 'negatives.past: is the name of a feature too');
  refused(job({ negatives: { others: { of: 'nxt', count: 1 } } }), 'negatives.others.of: no feature "nxt"');
  refused(
    job({ negatives: { others: { of: 'next', count: 0 } } }),
    'negatives.others.count: found 0; allowed: 1 or more',
  );
  refused(
    job({ objective: { type: 'ranking', query: 'past', target: 'next' } }),
    'negatives.others: the objective does not read this feature',
  );
  refused(job({}, { histories: undefined }), 'data.train.split.leaveOut: goes with data.histories');
  refused(job({}, { distinct: 'nxt' }), 'data.distinct: no feature "nxt"; there are "past", "next"');
  refused(job({}, { prefetchBytes: 'lots' }), 'data.prefetchBytes: "lots" is not a size');
  refused(job({}, { taskSeconds: 0 }), 'data.taskSeconds: found 0; allowed: more than 0');
  refused(job({}, { train: { file: 'x.csv', split: { part: 2, parts: [1, 1] } } }), 'is no index of parts');
  refused(job({}, { train: { file: 'x.csv', split: { time: { column: 'when' } } } }), 'allowed: from, to, or both');
});

test('the plan counts the ids of histories, and a vector for each negative', async () => {
  const planned = await planJob({ job: checkJob(job()), folder });
  const other = await planJob({
    job: checkJob(job({ negatives: { others: { of: 'next', count: 500 } } })),
    folder,
  });
  expect(planned.notes).toEqual([]);
  const reserved = (plan: typeof planned): number => Object.values(plan.reserved).reduce((a, b) => a + b);
  expect(reserved(other)).toBeGreaterThan(reserved(planned));
});
