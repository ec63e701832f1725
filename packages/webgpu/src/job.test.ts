/** Jobs with tables on the WebGPU device. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkJob, evaluateRun, planJob, runJob, type JobInput, type LoadedJob } from '@finetable/trainer';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { normals, writeTable } from '@finetable/placement/testing';
import { examineWebgpu } from './adapters.ts';
import { onAdapter } from './testing/adapter.ts';

const V = 60;
const D = 8;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'webgpu-job-'));
  await writeTable(join(folder, 'items.safetensors'), normals(V, D), { dtype: 'f16', dim: D, groupDims: 0 });
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

const there = { placement: 'webgpu' };
const software = { software: true };

onAdapter(() => {
  test('a table on the device: planned there, and trained and evaluated to what RAM comes to', async () => {
    const plan = await planJob(job('planned', software, there));
    expect(plan.tables[0]!.shards).toMatchObject([{ device: 'webgpu', rows: V, columns: D }]);
    expect(plan.devices.find(({ name }) => name === 'webgpu')).toMatchObject({ kind: 'gpu', tableBytes: V * D * 2 });
    const device = await runJob(job('there', software, there));
    const ram = await runJob(job('here', {}));
    expect(device.steps).toBe(ram.steps);
    // Sums of f32 in another order, over 18 steps.
    expect(device.validation!.loss).toBeCloseTo(ram.validation!.loss!, 5);
    expect(device.validation!.accuracy).toBe(ram.validation!.accuracy);
    const evaluated = await evaluateRun(join(folder, 'runs', 'there'), join(folder, 'train.jsonl'));
    expect(evaluated.loss).toBeCloseTo(device.validation!.loss!, 5);
  });

  test('the same bytes every time', async () => {
    const runs = [];
    for (const name of ['first', 'second']) runs.push((await runJob(job(name, software, there))).checksums);
    expect(runs[1]).toEqual(runs[0]);
  });

  test('rows in RAM and on the device are fetched: the same bytes as from RAM', async () => {
    const shards = [{ home: 'webgpu', rows: 20 }, { home: 'ram' }];
    const cut = await runJob(job('cut', software, { placement: shards }));
    const whole = await runJob(job('whole', {}));
    expect(cut.checksums).toEqual(whole.checksums);
  });

  test('what the device may hold', async () => {
    await expect(planJob(job('full', { ...software, deviceMemory: '500B' }, there))).rejects.toMatchObject({
      code: 'DOES_NOT_FIT',
      message: expect.stringMatching(/webgpu needs 960 B \(table "items" 960 B\), its budget is 500 B .* short/),
    });
  });

  test('without a GPU: software only where it is asked for', async (context) => {
    const { adapters } = await examineWebgpu();
    if (adapters.some((adapter) => !adapter.software)) context.skip('there is a GPU');
    const only =
      /WebGPU has no GPU here, only .*, which computes on the processor and is used only when asked for \(software: true\)/;
    await expect(planJob(job('asked', {}, there))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(only),
    });
    const notes: string[] = [];
    await runJob(job('auto', { device: 'auto' }), { onNote: (note) => notes.push(note) });
    expect(notes).toEqual([
      expect.stringMatching(new RegExp(`^placement\\.device: there is no GPU: ${only.source}.*RAM and files$`)),
    ]);
  });
});
