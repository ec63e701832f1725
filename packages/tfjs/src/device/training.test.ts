/** Trainings of a table on a tfjs device, against those of the same table in RAM. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream, range } from '@finetable/core';
import { openLoader, type Loader } from '@finetable/data';
import {
  adagrad,
  adamw,
  createAdapter,
  rowwiseAdagrad,
  sgd,
  type Adapter,
  type AdapterOptions,
  type OptimizerSpec,
} from '@finetable/lora';
import { openTable, type Device } from '@finetable/placement';
import { classification, Trainer, type FitOptions, type FitResult, type Objective } from '@finetable/trainer';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { tf } from '../load.ts';
import { tfjsObjective } from '../objective/objective.ts';
import { onEachBackend } from '../testing/backends.ts';
import { tfjsDevice } from './device.ts';
import { normals, writeTable } from '@finetable/placement/testing';

const V = 80;
const D = 16;
const examples = 120;
const batchSize = 16;
const rank = 4;
const tolerance = 1e-5;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tfjs-training-'));
  await writeTable(join(folder, 'items.safetensors'), normals(V, D), { dtype: 'f32', dim: D, groupDims: 0 });
  const random = new RandomStream(1, 'examples');
  const lines = Array.from({ length: examples }, (_, i) => {
    const ids = (at: number, count: number): number[] =>
      Array.from({ length: count }, (__, j) => random.below(i * 100 + at + j, V));
    return JSON.stringify({ recent: ids(0, i % 5), liked: ids(10, 3), class: `c${i % 3}` });
  });
  await writeFile(join(folder, 'train.jsonl'), `${lines.join('\n')}\n`);
});
afterAll(() => rm(folder, { recursive: true }));

let closing: (() => unknown)[] = [];
const closeAll = async (): Promise<void> => {
  for (const close of closing.reverse()) await close();
  closing = [];
};
afterEach(closeAll);

async function loader(features: readonly string[]): Promise<Loader> {
  const made = await openLoader(
    {
      source: { file: join(folder, 'train.jsonl') },
      features: Object.fromEntries(
        features.map((column) => [column, { table: 'items', column, pooling: column === 'liked' ? 'sum' : 'mean' }]),
      ),
      labels: { class: { column: 'class', classes: ['c0', 'c1', 'c2'] } },
      tables: { items: { rows: V } },
    },
    { batchSize, workers: 0, shuffle: true, seed: 3 },
  );
  closing.push(() => made.close());
  return made;
}

interface Setup extends FitOptions {
  readonly device?: Device | undefined;
  readonly objective?: () => Objective;
  readonly optimizer?: OptimizerSpec;
  readonly adapter?: AdapterOptions;
}

async function train(setup: Setup): Promise<{ result: FitResult; adapter: Adapter; evaluated: unknown }> {
  const {
    device,
    objective = () => classification({ input: 'recent', label: 'class' }),
    optimizer = adamw({ learningRate: 0.05 }),
    adapter: options = { rank, alpha: 8 },
    ...fit
  } = setup;
  const table = await openTable(join(folder, 'items.safetensors'), { name: 'items', placement: device ?? 'ram' });
  closing.push(() => table.close());
  const adapter = createAdapter(table, options);
  closing.push(() => adapter.close());
  const learnt = objective();
  const trainer = new Trainer({ adapters: { items: adapter }, objective: learnt, optimizer });
  const data = await loader(learnt.inputs);
  const result = await trainer.fit(data, { epochs: 2, ...fit });
  return { result, adapter, evaluated: await trainer.evaluate(data) };
}

const learntOf = (adapter: Adapter): Float32Array[] => {
  adapter.settle();
  return adapter.groups.flatMap((group) => [group.rowsOfA(range(V)).data, ...(group.b ? [group.b.data] : [])]);
};

function expectClose(ours: readonly Float32Array[], theirs: readonly Float32Array[]): void {
  const apart = ours.flatMap((x, i) => [...x].map((value, j) => Math.abs(value - theirs[i]![j]!)));
  expect(Math.max(...apart)).toBeLessThan(tolerance);
}

/** Pulls both features' vectors to their class. */
const pull = (): Objective =>
  tfjsObjective({
    features: ['recent', 'liked'],
    labels: ['class'],
    loss: ({ recent, liked }, { labels }) => {
      const target = tf.expandDims(tf.cast(labels.class!, 'float32'), 1);
      return tf.add(tf.mean(tf.square(tf.sub(recent!, target))), tf.mean(tf.square(tf.add(liked!, target))));
    },
  });

const optimizers: Readonly<Record<string, OptimizerSpec>> = {
  sgd: sgd({ learningRate: 0.5 }),
  adagrad: adagrad({ learningRate: 0.1 }),
  'rowwise adagrad': rowwiseAdagrad({ learningRate: 0.1 }),
  adamw: adamw({ learningRate: 0.05, weightDecay: 0.01 }),
  'lazy adamw': adamw({ learningRate: 0.05, mode: 'lazy' }),
};

onEachBackend((backend) => {
  test.each(Object.keys(optimizers))('%s: what RAM comes to', async (name) => {
    const optimizer = optimizers[name]!;
    const there = await train({ optimizer, device: await tfjsDevice(), prefetch: name !== 'sgd' });
    const here = await train({ optimizer });
    expect(there.adapter.table.computes).toBe(true);
    expectClose(learntOf(there.adapter), learntOf(here.adapter));
    for (const key of ['loss', 'accuracy'] as const)
      expect(there.result.train[key]).toBeCloseTo(here.result.train[key]!, 5);
    expect(there.evaluated).toMatchObject({ accuracy: (here.evaluated as { accuracy: number }).accuracy });
  });

  test('several groups, dropout, clipping', async () => {
    const adapter: AdapterOptions = {
      rank,
      dropout: 0.2,
      groups: [{ name: 'free', kind: 'dense', rows: Int32Array.of(1, 2, 3, 70) }],
    };
    const there = await train({ adapter, device: await tfjsDevice(), clipNorm: 0.05 });
    const here = await train({ adapter, clipNorm: 0.05 });
    expectClose(learntOf(there.adapter), learntOf(here.adapter));
  });

  describe('a loss in tfjs', () => {
    test('what RAM comes to, with r-wide rows alone between host and device', async () => {
      const device = await tfjsDevice();
      const there = await train({ objective: pull, device });
      const { uploadedBytes, downloadedBytes } = device.traffic;
      const here = await train({ objective: pull });
      expectClose(learntOf(there.adapter), learntOf(here.adapter));
      expect(there.result.train.loss).toBeCloseTo(here.result.train.loss!, 5);
      // The batches once more, as the training had them, and what they may cost.
      const loaded = await loader(['recent', 'liked']);
      let [up, down] = [0, 4 * D * V];
      for (const [epochs, trained] of [
        [2, true],
        [1, false],
      ] as const) {
        for await (const batch of loaded.batches(0, 0, epochs)) {
          const { uniqueRows, placeRows } = batch.plans.items!;
          const wide = 4 * rank * (uniqueRows.length + D);
          // Lists of at most two entries a place, with weights, for each way; their order, and the rows.
          up += wide + (trained ? 2 : 1) * 4 * (4 * placeRows.length + 2 * batchSize + 2 * uniqueRows.length);
          if (trained) down += wide;
        }
      }
      expect(downloadedBytes).toBeGreaterThan(0);
      expect(downloadedBytes).toBeLessThanOrEqual(down);
      expect(uploadedBytes).toBeLessThan(up);
    });
  });

  test('the same bytes every time, ahead or not', async () => {
    const runs: unknown[] = [];
    for (const prefetch of [true, false, true]) {
      const { adapter, result, evaluated } = await train({ device: await tfjsDevice(), prefetch });
      runs.push({ learnt: learntOf(adapter), train: result.train, evaluated });
      await closeAll();
    }
    expect(runs[1]).toEqual(runs[0]);
    expect(runs[2]).toEqual(runs[0]);
  });

  test('no tensor is left by a training, one that is stopped, one that fails', async () => {
    const { numTensors } = tf.memory();
    const controller = new AbortController();
    const endings: Record<string, Setup> = {
      done: {},
      staying: { objective: pull },
      stopped: {
        signal: controller.signal,
        onEvent: (event) => void (event.type === 'tick' && event.step === 3 && controller.abort()),
      },
      failed: { optimizer: sgd({ learningRate: 1e30 }) },
    };
    for (const [name, setup] of Object.entries(endings)) {
      const ending = train({ ...setup, device: await tfjsDevice() });
      if (name === 'stopped') await expect(ending).rejects.toMatchObject({ code: 'INTERRUPTED' });
      else if (name === 'failed') await expect(ending).rejects.toMatchObject({ code: 'NON_FINITE' });
      else await ending;
      await closeAll();
      expect(tf.memory().numTensors, `${backend}, ${name}`).toBe(numTensors);
    }
  });
});
