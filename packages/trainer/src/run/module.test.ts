import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parse } from 'yaml';
import { checkJob, type LoadedJob } from '../job/read.ts';
import { evaluateRun, runJob } from './run.ts';

const V = 30;
const D = 4;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'module-'));
  const values = new Float32Array(V * D);
  new RandomStream(1, 'table').fillNormal(values);
  const rows = { name: 'rows', dtype: 'F32' as const, shape: [V, D], data: values };
  await writeSafetensors(join(folder, 'items.safetensors'), [rows]);
  const line = (i: number): string =>
    JSON.stringify({ ids: [(i * 7) % V, (i * 11) % V], class: i % 2 ? 'odd' : 'even' });
  await writeFile(join(folder, 'train.jsonl'), Array.from({ length: 50 }, (_, i) => `${line(i)}\n`).join(''));
  await mkdir(join(folder, 'code'));
});
afterEach(() => rm(folder, { recursive: true }));

let written = 0;

/** Each under a name of its own: Node loads a module once. */
async function job(code: string, objective: object = {}): Promise<LoadedJob> {
  const module = `code/model-${written++}.mjs`;
  await writeFile(join(folder, module), code);
  const input = {
    name: 'small',
    tables: { items: { file: 'items.safetensors' } },
    data: { train: { file: 'train.jsonl' }, batchSize: 8, workers: 0 },
    features: { history: { table: 'items', column: 'ids' } },
    objective: { type: 'tfjs', module, labels: ['class'], options: { scale: 0.5 }, ...objective },
    adapters: { items: { rank: 2 } },
    optimizer: { type: 'adamw', learningRate: 0.05 },
    train: { epochs: 2, seed: 5, checkpointEverySteps: 5 },
  };
  return { job: checkJob(input), folder };
}

/** (x · w - class)² · scale with its gradients, and an optimiser of its own that counts its steps. */
const squares = `
export default ({ options: { scale }, featureDims, classes, seed }) => {
  if (JSON.stringify([featureDims, classes, seed]) !== '[{"history":4},{"class":["even","odd"]},5]') throw new Error('other context');
  const value = new Float32Array(featureDims.history).fill(0.1);
  const gradient = new Float32Array(value.length);
  let steps = new Float32Array(1);
  const pass = (x, y, g) => {
    let loss = 0;
    gradient.fill(0);
    for (let i = 0; i < y.length; i++) {
      let error = -y[i];
      for (let j = 0; j < value.length; j++) error += x.data[i * value.length + j] * value[j];
      loss += scale * error * error;
      for (let j = 0; j < value.length; j++) {
        gradient[j] += (2 * scale * error * x.data[i * value.length + j]) / y.length;
        if (g) g.data[i * value.length + j] = (2 * scale * error * value[j]) / y.length;
      }
    }
    return { loss };
  };
  return {
    inputs: ['history'],
    labels: ['class'],
    initialize: () => [{ name: 'w', shape: [value.length], value, gradient }],
    train: async ({ history }, { labels }, gradients) => pass(history, labels.class, gradients.history),
    evaluate: ({ history }, { labels }) => ({ sums: pass(history, labels.class) }),
    metrics: ({ loss }, examples) => ({ loss: loss / examples }),
    update() {
      steps[0]++;
      for (let j = 0; j < value.length; j++) value[j] -= (0.1 / steps[0]) * gradient[j];
    },
    snapshot: async () => ({ values: [], state: [{ name: 'steps', shape: [1], data: steps }] }),
    restore: (tensors) => { if (tensors.has('steps')) steps = tensors.get('steps').data; },
  };
};
`;

test('a module of the job makes the objective; a run of it is evaluated, and resumed with the same bytes', async () => {
  const loaded = await job(squares);
  const whole = await runJob(loaded, { folder: join(folder, 'whole') });
  expect(whole.train.loss).toBeGreaterThan(0);
  const saved = parse(await readFile(join(folder, 'whole/job.yaml'), 'utf8')) as { objective: { module: string } };
  expect(saved.objective.module).toMatch(/^\.\.\/code\/model-\d+\.mjs$/);
  const metrics = await evaluateRun(join(folder, 'whole'), join(folder, 'train.jsonl'));
  expect(Object.keys(metrics)).toEqual(['loss']);

  const abort = new AbortController();
  const part = runJob(loaded, {
    folder: join(folder, 'part'),
    signal: abort.signal,
    onEvent: (event) => {
      if (event.type === 'tick' && event.step === 6) abort.abort();
    },
  });
  await expect(part).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const resumed = await runJob(loaded, { folder: join(folder, 'part'), existing: 'resume' });
  expect(resumed.checksums).toEqual(whole.checksums);
});

test('a run is not resumed with another module', async () => {
  const loaded = await job(squares);
  const abort = new AbortController();
  const part = runJob(loaded, {
    folder: join(folder, 'run'),
    signal: abort.signal,
    onEvent: ({ type }) => {
      if (type === 'tick') abort.abort();
    },
  });
  await expect(part).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const objective = loaded.job.objective as { module: string };
  await writeFile(join(folder, objective.module), `${squares}\n// changed`);
  await expect(runJob(loaded, { folder: join(folder, 'run'), existing: 'resume' })).rejects.toThrow(
    /it was made with objective\.module of SHA-256 \w{64}, now it is \w{64}; start again, or put back what it was/,
  );
});

test.each<[string, string, string, RegExp]>([
  ['does not parse', 'export default (', 'INVALID_JOB', /model-\d+\.mjs does not load: /],
  [
    'exports nothing',
    'export const a = 1;',
    'INVALID_JOB',
    /has no default export; allowed: export default \(\{ options/,
  ],
  ['exports a list', 'export default [];', 'INVALID_JOB', /makes no objective but a list; allowed: /],
  ['makes nothing', 'export default () => {};', 'INVALID_JOB', /makes no objective but undefined; allowed: /],
  ['throws', 'export default () => { throw new Error("no luck"); };', 'INVALID_JOB', /model-\d+\.mjs throws: no luck$/],
  [
    'reads another feature',
    squares.replace("inputs: ['history']", "inputs: ['histori']"),
    'INVALID_ARGUMENT',
    /feature "history" is not used; the objective reads histori/,
  ],
  [
    'reads a label that the job does not name',
    squares.replace("labels: ['class']", "labels: ['class', 'other']"),
    'INVALID_ARGUMENT',
    /the objective reads label "other"; there is "class"/,
  ],
])('a module that %s is refused', async (_, code, errorCode, message) => {
  const failure = runJob(await job(code));
  await expect(failure).rejects.toMatchObject({ code: errorCode });
  await expect(failure).rejects.toThrow(message);
});

test('a module that is missing is named', async () => {
  const loaded = await job('', { module: './nothing.mjs' });
  await expect(runJob(loaded)).rejects.toMatchObject({ code: 'NOT_FOUND', details: { path: 'objective.module' } });
});
