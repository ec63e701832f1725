/** Objectives of jobs, from the job to an evaluation of its run. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJob } from '../job/read.ts';
import type { JobInput } from '../job/schema.ts';
import { evaluateRun, runJob } from './run.ts';

const V = 30;
const D = 4;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'objectives-'));
  for (const name of ['items', 'relations']) {
    const data = new Float32Array(V * D);
    new RandomStream(1, name).fillNormal(data);
    await writeSafetensors(join(folder, `${name}.safetensors`), [{ name: 'rows', dtype: 'F32', shape: [V, D], data }]);
  }
  const lines = Array.from({ length: 60 }, (_, i) =>
    JSON.stringify({
      history: [i % V, (i * 7) % V],
      next: (i + 1) % V,
      relation: i % 2,
      amount: i / 60,
      click: Number(i % V < 10),
    }),
  );
  await writeFile(join(folder, 'train.jsonl'), lines.join('\n'));
  await writeFile(
    join(folder, 'near.mjs'),
    `import { custom } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
export default ({ options }) => custom({
  inputs: ['history', 'next'],
  loss: ({ inputs: { history, next }, shares, gradients }) => shares.map((share, i) => {
    let loss = 0;
    for (let at = i * history.cols; at < (i + 1) * history.cols; at++) {
      const d = history.data[at] - next.data[at];
      loss += options.scale * d ** 2;
      if (gradients) gradients.history.data[at] = 2 * options.scale * share * d;
      if (gradients) gradients.next.data[at] = -2 * options.scale * share * d;
    }
    return loss;
  }),
});
`,
  );
});
afterEach(() => rm(folder, { recursive: true }));

const history = { table: 'items', column: 'history' };
const next = { table: 'items', column: 'next' };
const relation = { table: 'relations', column: 'relation' };

const jobs: Record<string, Partial<JobInput>> = {
  ranking: {
    features: { history, next },
    objective: { type: 'ranking', query: 'history', target: 'next', seen: 'history' },
    train: { epochs: 8, metrics: ['recall@5', 'coverage@5'] },
  },
  ctr: {
    features: { history, next },
    numbers: { amount: { column: 'amount' } },
    objective: { type: 'ctr', inputs: ['history', 'next'], numbers: ['amount'], label: 'click', bottom: [8], top: [8] },
    train: { epochs: 8, metrics: ['auc', 'log-loss', 'normalized-entropy', 'calibration'] },
  },
  graph: {
    features: { history: next, relation, next: { table: 'items', column: 'next' } },
    objective: { type: 'graph', head: 'history', relation: 'relation', tail: 'next', model: 'distmult' },
    train: { epochs: 8, metrics: ['mrr@5'] },
  },
  custom: {
    features: { history, next },
    objective: { type: 'custom', module: 'near.mjs', options: { scale: 0.5 } },
    train: { epochs: 8 },
  },
};

function job(name: string, changes: object = {}): JobInput {
  const features = Object.values(jobs[name]!.features!);
  return {
    name,
    tables: Object.fromEntries(features.map(({ table }) => [table, { file: `${table}.safetensors` }])),
    data: { train: { file: 'train.jsonl' }, validation: { file: 'train.jsonl' }, batchSize: 12, workers: 0 },
    features: {},
    objective: { type: 'custom', module: 'near.mjs' },
    adapters: { items: { kind: 'dense' } },
    optimizer: { type: 'adamw', learningRate: 0.02 },
    ...jobs[name],
    ...changes,
  };
}

test.each(Object.keys(jobs))('a job of type %s learns, and its run is evaluated', async (name) => {
  const input = job(name);
  const losses: number[] = [];
  const result = await runJob(
    { job: checkJob(input), folder },
    {
      onEvent: (event) => {
        if (event.type === 'evaluation') losses.push(event.metrics['loss']!);
      },
    },
  );
  expect(losses.at(-1)).toBeLessThan(losses[0]!);
  for (const metric of input.train?.metrics ?? []) expect(result.validation![metric]).toBeGreaterThan(0);
  expect(await evaluateRun(join(folder, 'runs', name), join(folder, 'train.jsonl'))).toEqual(result.validation);
});

test('what is wrong in an objective is named', () => {
  const refused = (name: string, objective: object, message: RegExp): void => {
    const from = job(name);
    expect(() => checkJob({ ...from, objective: { ...from.objective, ...objective } })).toThrow(message);
  };
  refused('ranking', { target: 'nxt' }, /objective\.target: no feature "nxt"; there are "history", "next"/);
  refused('ranking', { loss: 'hinge' }, /objective\.loss: found "hinge"; allowed: "softmax", "bpr"/);
  refused('ctr', { inputs: ['history'] }, /features\.next: the objective does not read this feature/);
  refused('ctr', { numbers: [] }, /numbers\.amount: the objective does not read these numbers/);
  refused('ctr', { top: [0] }, /objective\.top\.0: found 0; allowed: 1 or more/);
  refused('graph', { model: 'rotate' }, /objective\.model: found "rotate"; allowed: "transe", "distmult"/);
});
