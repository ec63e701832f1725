/** Jobs with tables on the tfjs device, on the best backend there is here. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkJob, evaluateRun, planJob, runJob, type JobInput, type LoadedJob } from '@finetable/trainer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { useBestBackend } from '../backend.ts';
import { tf } from '../load.ts';
import { normals, writeTable } from '@finetable/placement/testing';

const V = 60;
const D = 8;

let folder: string;
let backend: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tfjs-job-'));
  ({ backend } = await useBestBackend());
  await writeTable(join(folder, 'items.safetensors'), normals(V, D), { dtype: 'f32', dim: D, groupDims: 0 });
  const lines = Array.from({ length: 90 }, (_, i) =>
    JSON.stringify({ ids: [i % V, (7 * i) % V, (i * i) % V].slice(0, i % 4), class: `c${i % 2}` }),
  );
  await writeFile(join(folder, 'train.jsonl'), `${lines.join('\n')}\n`);
});
afterAll(() => rm(folder, { recursive: true }));

function job(name: string, placement: JobInput['placement'], table = {}): LoadedJob {
  const input = {
    name,
    tables: { items: { file: 'items.safetensors', ...table } },
    placement,
    data: { train: { file: 'train.jsonl' }, validation: { file: 'train.jsonl' }, batchSize: 16, workers: 0 },
    features: { x: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'x', label: 'class' },
    adapters: { items: { rank: 2 } },
    optimizer: { type: 'adamw', learningRate: 0.05 },
    train: { epochs: 3 },
  };
  return { job: checkJob(input), folder };
}

test('a table on the device: planned there, and trained and evaluated to what RAM comes to', async () => {
  const plan = await planJob(job('planned', {}, { placement: 'tfjs' }));
  expect(plan.tables[0]!.shards).toMatchObject([{ device: 'tfjs', rows: V, columns: D }]);
  expect(plan.devices.find(({ name }) => name === 'tfjs')).toMatchObject({ kind: 'gpu', tableBytes: V * D * 4 });
  const { numTensors } = tf.memory();
  const there = await runJob(job('there', {}, { placement: 'tfjs' }));
  const here = await runJob(job('here', {}));
  expect(tf.memory().numTensors).toBe(numTensors);
  expect(there.steps).toBe(here.steps);
  expect(there.validation!.loss).toBeCloseTo(here.validation!.loss!, 5);
  expect(there.validation!.accuracy).toBe(here.validation!.accuracy);
  const evaluated = await evaluateRun(join(folder, 'runs', 'there'), join(folder, 'train.jsonl'));
  expect(evaluated.loss).toBeCloseTo(there.validation!.loss!, 5);
});

test('rows in RAM and on the device are fetched: the same bytes as from RAM', async () => {
  const shards = [{ home: 'tfjs', rows: 20 }, { home: 'ram' }];
  const there = await runJob(job('cut', {}, { placement: shards }));
  const here = await runJob(job('whole', {}));
  expect(there.checksums).toEqual(here.checksums);
});

test('what the device may hold', async () => {
  await expect(planJob(job('full', { deviceMemory: '1KB' }, { placement: 'tfjs' }))).rejects.toMatchObject({
    code: 'DOES_NOT_FIT',
    message: expect.stringMatching(/tfjs needs 1\.88 KiB \(table "items" 1\.88 KiB\), its budget is \d.* short/),
  });
});

test('without a GPU: auto does without and says so once, gpu is refused', async (context) => {
  if ((tf.backend() as { isUsingGpuDevice?: boolean }).isUsingGpuDevice) context.skip('there is a GPU');
  const notes: string[] = [];
  await runJob(job('auto', { device: 'auto' }), { onNote: (note) => notes.push(note) });
  expect(notes).toEqual([
    expect.stringMatching(
      new RegExp(
        `^placement\\.device: there is no GPU: .*TensorFlow\\.js computes on its ${backend} backend.*RAM and files$`,
      ),
    ),
  ]);
  const plan = await planJob(job('auto', { device: 'auto' }));
  expect(plan.notes).toEqual(notes);
  expect(plan.tables[0]!.shards[0]!.device).toBe('ram');
  await expect(runJob(job('gpu', { device: 'gpu' }))).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(/^placement\.device: there is no GPU: .*TensorFlow\.js computes on its \w+ backend/),
  });
});
