/** Wherever the rows of its tables live, and whether they are pooled ahead or not, a training comes to the same bytes. */
import { createHash } from 'node:crypto';
import { appendFile, cp, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { matrix, RandomStream, type Matrix } from '@finetable/core';
import { openLoader, type Loader } from '@finetable/data';
import { writeSafetensors } from '@finetable/formats';
import { kernelsStatus, loadKernels } from '@finetable/kernels';
import { adagrad, adamw, createAdapter, rowwiseAdagrad, sgd, type OptimizerSpec } from '@finetable/lora';
import { openTable, type OpenTableOptions, type ShardedTable } from '@finetable/placement';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, type TestContext } from 'vitest';
import type { FitOptions } from './fit.ts';
import type { Objective } from './objective.ts';
import { memoryDevice, type MemoryDevice } from './testing/memory-device.ts';
import { Trainer } from './trainer.ts';

const rows = { items: 50, users: 20 };
const D = 6;
const examples = 60;
const batchSize = 8;
const values = Object.fromEntries(Object.entries(rows).map(([name, count]) => [name, normals(count, name)]));

let files: string;
let folder: string;
let device: MemoryDevice;
let closing: (() => unknown)[];

beforeAll(async () => {
  files = await mkdtemp(join(tmpdir(), 'placements-'));
  for (const [name, { data, rows: count }] of Object.entries(values))
    await writeSafetensors(tableFile(name), [{ name, dtype: 'F32', shape: [count, D], data }]);
  const random = new RandomStream(1, 'examples');
  const lines = Array.from({ length: examples }, (_, i) => {
    const ids = (at: number, count: number, below: number): number[] =>
      Array.from({ length: count }, (__, j) => random.below(i * 100 + at + j, below));
    return JSON.stringify({
      recent: ids(0, i % 5, rows.items),
      liked: ids(10, 3, rows.items),
      user: ids(20, 1, rows.users),
      class: `c${i % 2}`,
    });
  });
  await writeFile(join(files, 'train.jsonl'), `${lines.join('\n')}\n`);
});
afterAll(() => rm(files, { recursive: true }));
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'placements-'));
  device = memoryDevice(values.items!);
  closing = [];
});
afterEach(async () => {
  for (const close of closing) await close();
  await rm(folder, { recursive: true });
});

const tableFile = (name: string): string => join(files, `${name}.safetensors`);

function normals(count: number, name: string): Matrix {
  const out = matrix(count, D);
  new RandomStream(5, name).fillNormal(out.data);
  return out;
}

/** Pulls every vector to 0 or 1 in all dims, as the example's class says. */
function pull(): Objective {
  const loss = (inputs: Readonly<Record<string, Matrix>>, labels: Int32Array, gradients: Record<string, Matrix>) => {
    let sum = 0;
    for (const [name, { data, rows: count, cols }] of Object.entries(inputs)) {
      for (let i = 0; i < count * cols; i++) {
        const difference = data[i]! - labels[Math.floor(i / cols)]!;
        sum += (difference * difference) / 2;
        if (gradients[name]) gradients[name].data[i] = difference / count;
      }
    }
    return { loss: sum };
  };
  return {
    inputs: ['recent', 'liked', 'user'],
    labels: ['class'],
    initialize: () => [],
    train: (inputs, { labels }, gradients) => loss(inputs, labels.class!, gradients),
    evaluate: (inputs, { labels }) => ({ sums: loss(inputs, labels.class!, {}) }),
    metrics: (sums, count) => ({ loss: sums.loss! / count }),
  };
}

async function loader(workers = 0): Promise<Loader> {
  const made = await openLoader(
    {
      source: { file: join(files, 'train.jsonl') },
      features: {
        recent: { table: 'items', column: 'recent', pooling: 'mean' },
        user: { table: 'users', column: 'user' },
        liked: { table: 'items', column: 'liked', pooling: 'sum' },
      },
      labels: { class: { column: 'class', classes: ['c0', 'c1'] } },
      tables: { items: { rows: rows.items }, users: { rows: rows.users } },
    },
    { batchSize, workers, shuffle: true, seed: 3 },
  );
  closing.push(() => made.close());
  return made;
}

interface Setup extends FitOptions {
  readonly workers?: number;
  readonly kind?: 'native' | 'portable';
  readonly items?: Pick<OpenTableOptions, 'placement' | 'cache'>;
  /** The items' file, where it is another than usual. */
  readonly file?: string;
  readonly batches?: Loader;
  readonly optimizer?: OptimizerSpec;
  /** Called with the open tables before the training. */
  readonly meet?: (tables: { items: ShardedTable; users: ShardedTable }) => unknown;
}

/** Trains, and digests every file of its last checkpoint but times: A, B, optimiser state, metrics. */
async function train(setup: Setup = {}): Promise<Record<string, string>> {
  const { workers, kind, items, file, batches, optimizer = adamw({ learningRate: 0.1 }), meet, ...options } = setup;
  const kernels = loadKernels({ ...(kind && { kind }), threads: 2 });
  const tables = {
    items: await openTable(file ?? tableFile('items'), { name: 'items', kernels, ...items }),
    users: await openTable(tableFile('users'), { kernels, placement: 'ram' }),
  };
  const adapters = {
    items: createAdapter(tables.items, { rank: 2, alpha: 4 }),
    users: createAdapter(tables.users, { kind: 'dense' }),
  };
  closing.push(() => Object.values(adapters).forEach((adapter) => adapter.close()));
  closing.push(() => Object.values(tables).forEach((table) => table.close()));
  await meet?.(tables);
  const trainer = new Trainer({ adapters, objective: pull(), optimizer });
  const checkpoints = { folder: join(folder, `${Math.random()}`), everySteps: 3, keep: 100, ...options.checkpoints };
  const data = batches ?? (await loader(workers));
  const { train: metrics } = await trainer.fit(data, {
    epochs: 2,
    validation: await loader(),
    ...options,
    checkpoints,
  });
  const out: Record<string, string> = { metrics: JSON.stringify(metrics) };
  out.evaluated = JSON.stringify(await trainer.evaluate(await loader()));
  for (const name of (await readdir(checkpoints.folder, { recursive: true })).sort()) {
    if (!name.endsWith('.safetensors')) continue;
    out[name] = createHash('sha256')
      .update(await readFile(join(checkpoints.folder, name)))
      .digest('hex');
  }
  return out;
}

const keptIn = (name: string): NonNullable<FitOptions['checkpoints']> => ({
  folder: join(folder, name),
  everySteps: 3,
  keep: 100,
});

const placements: Record<string, () => Setup['items'] & object> = {
  'in RAM': () => ({ placement: 'ram' }),
  rows: () => ({ placement: [{ home: 'ram', rows: 11 }, { home: 'mapped' }] }),
  columns: () => ({ placement: [{ home: 'mapped', columns: 1 }, { home: 'ram', columns: 3 }, { home: 'mapped' }] }),
  'a grid, cached': () => ({
    placement: [{ home: 'ram', columns: 4, rows: 9 }, { home: 'mapped' }, { home: 'mapped' }],
    cache: { bytes: 600, warmUpBatches: 2 },
  }),
  'a device': () => ({ placement: device }),
  'three homes, cached': () => ({
    placement: [{ home: device, rows: 30 }, { home: 'ram', rows: 10 }, { home: 'mapped' }],
    cache: { bytes: 600, counts: Float64Array.from({ length: rows.items }, (_, i) => i % 7) },
  }),
};

const optimizers: Record<string, OptimizerSpec> = {
  sgd: sgd({ learningRate: 0.1, weightDecay: 0.01 }),
  'lazy sgd': sgd({ learningRate: 0.1, weightDecay: 0.01, mode: 'lazy' }),
  adagrad: adagrad({ learningRate: 0.1 }),
  'rowwise adagrad': rowwiseAdagrad({ learningRate: 0.1 }),
  adamw: adamw({ learningRate: 0.1, weightDecay: 0.01 }),
  'lazy adamw': adamw({ learningRate: 0.1, weightDecay: 0.01, mode: 'lazy' }),
};

describe.each(Object.keys(optimizers))('%s', (optimizer) => {
  const spec = optimizers[optimizer]!;
  test.for(['native', 'portable'] as const)('the same bytes for every placement, %s kernels', async (kind, context) => {
    needKernels(kind, context);
    // One checkpoint, at the end: writing them is what takes the time here.
    const whole = {
      optimizer: spec,
      kind,
      epochs: 1,
      validation: undefined,
      checkpoints: { ...keptIn('all'), everySteps: 100 },
    };
    const expected = await train({ ...whole, prefetch: false });
    expect(Object.keys(expected).length).toBe(2 + 3);
    let prefetch = false;
    for (const [name, items] of Object.entries(placements)) {
      prefetch = !prefetch;
      await rm(whole.checkpoints.folder, { recursive: true });
      expect(await train({ ...whole, prefetch, items: items() }), name).toEqual(expected);
    }
  });
});

function needKernels(kind: 'native' | 'portable', context: TestContext): void {
  const { native, reason } = kernelsStatus();
  if (kind === 'native' && !native) context.skip(`no native kernels: ${reason}`);
}

const aborting = (step: number): Pick<FitOptions, 'signal' | 'onEvent'> => {
  const controller = new AbortController();
  const onEvent: FitOptions['onEvent'] = (event) => {
    if (event.type === 'tick' && event.step === step) controller.abort();
  };
  return { signal: controller.signal, onEvent };
};
/** What a resumed run leaves: its last checkpoints. */
const last = (files: Record<string, string>): [string, string][] =>
  Object.entries(files).filter(([name]) => !name.startsWith('step-') || name >= 'step-00000012');

describe.each(['native', 'portable'] as const)('batches ahead, %s kernels', (kind) => {
  test.for([0, 2])('%i workers: stopped and resumed, with and without', async (workers, context) => {
    needKernels(kind, context);
    const expected = await train({ kind, prefetch: false });
    expect(await train({ kind, workers })).toEqual(expected);
    for (const [step, prefetch, items] of [
      [4, true, {}],
      [8, false, {}],
      [11, true, { placement: device }],
    ] as const) {
      const checkpoints = keptIn(`stopped-${step}`);
      const stopped = train({ kind, workers, items, prefetch, checkpoints, ...aborting(step) });
      await expect(stopped).rejects.toMatchObject({ code: 'INTERRUPTED', details: { step } });
      const resumed = await train({ kind, items, prefetch: !prefetch, checkpoints, resume: true });
      expect(last(resumed)).toEqual(last(expected));
    }
  });
});

test('rows of the next batch are asked for before the current one is trained on', async () => {
  for (const prefetch of [true, false]) {
    device.fetches = 0;
    const seen: number[] = [];
    const onEvent: FitOptions['onEvent'] = (event) => {
      if (event.type === 'tick') seen.push(device.fetches);
    };
    await train({ items: { placement: device }, epochs: 1, prefetch, onEvent });
    // One when the table was opened, for its fingerprint.
    expect(seen).toEqual(prefetch ? [3, 4, 5, 6, 7, 8, 9, 9] : [2, 3, 4, 5, 6, 7, 8, 9]);
  }
});

test('a device that fails: the error comes in the turn of its batch, and what was saved goes on', async () => {
  const expected = await train();
  for (const prefetch of [true, false]) {
    const checkpoints = keptIn(`failing-${prefetch}`);
    let left = 6;
    device.before = async () => {
      await new Promise(setImmediate);
      if (left-- === 0) throw new Error('the line is dead');
    };
    const ticks: number[] = [];
    const failing = train({
      items: { placement: device },
      prefetch,
      checkpoints,
      onEvent: (event) => void (event.type === 'tick' && ticks.push(event.step)),
    });
    await expect(failing).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/^items: \d+ rows could not be fetched from device "memory:0": the line is dead$/),
    });
    expect(ticks).toEqual([1, 2, 3, 4, 5]);
    device.before = () => Promise.resolve();
    const resumed = await train({ items: { placement: device }, prefetch, checkpoints, resume: true });
    expect(last(resumed)).toEqual(last(expected));
  }
});

test('a device that never answers does not hold up an abort, in training or evaluation', async () => {
  const expected = await train();
  for (const [answers, step] of [
    [6, 5],
    [12, 8],
  ] as const) {
    const checkpoints = keptIn(`hanging-${answers}`);
    const controller = new AbortController();
    let left: number = answers;
    device.before = () => {
      if (left-- > 0) return Promise.resolve();
      setImmediate(() => controller.abort());
      return new Promise(() => undefined);
    };
    const hanging = train({ items: { placement: device }, checkpoints, signal: controller.signal });
    await expect(hanging).rejects.toMatchObject({ code: 'INTERRUPTED', details: { step } });
    device.before = () => Promise.resolve();
    const resumed = await train({ items: { placement: device }, checkpoints, resume: true });
    expect(last(resumed)).toEqual(last(expected));
  }
});

test.each(['ram', 'mapped', 'device'] as const)('a table in %s that is closed while it is trained on', async (home) => {
  for (const prefetch of [true, false]) {
    let open: ShardedTable;
    const closed = train({
      items: { placement: home === 'device' ? device : home },
      prefetch,
      meet: ({ items }) => (open = items),
      onEvent: (event) => void (event.type === 'tick' && event.step === 4 && open.close()),
    });
    await expect(closed).rejects.toMatchObject({ code: 'CLOSED' });
  }
});

test('errors of the loader come after the batches before, and early ones are not unhandled', async () => {
  const real = await loader();
  const { data, examples: count, batchesPerEpoch, sizeBytes, classes, statistics, position } = real;
  const broken: Loader = {
    ...{ data, examples: count, batchesPerEpoch, sizeBytes, classes, statistics, position },
    batchesFrom: (from) => real.batchesFrom(from),
    recycle: (batch) => real.recycle(batch),
    async *batches(epoch, from, epochs) {
      for await (const batch of real.batches(epoch, from, epochs)) {
        if (batch.index === 3) throw new Error('line 30 is torn');
        yield batch;
      }
    },
    close: () => Promise.resolve(),
  };
  const ticks: number[] = [];
  const onEvent: FitOptions['onEvent'] = (event) => void (event.type === 'tick' && ticks.push(event.step));
  await expect(train({ batches: broken, onEvent })).rejects.toThrow('line 30 is torn');
  expect(ticks).toEqual([1, 2, 3]);
  // Stopped before its turn.
  await expect(train({ batches: broken, ...aborting(3) })).rejects.toMatchObject({ code: 'INTERRUPTED' });
});

test('a file that changes is noticed at the next checkpoint, and when a training begins', async () => {
  const file = join(folder, 'items.safetensors');
  await cp(tableFile('items'), file);
  const checkpoints = keptIn('changing');
  const onEvent: FitOptions['onEvent'] = async (event) => {
    if (event.type === 'tick' && event.step === 4) await appendFile(file, 'more');
  };
  await expect(train({ file, checkpoints, onEvent })).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: expect.stringMatching(/^items: .*items\.safetensors has changed since it was opened: its size was/),
  });
  expect(await readdir(checkpoints.folder)).toEqual(['step-00000003']);

  await cp(tableFile('items'), file);
  const meet = (): Promise<void> => utimes(file, new Date(), new Date(0));
  const begun: unknown[] = [];
  const late = train({ file, meet, onEvent: (event) => begun.push(event) });
  await expect(late).rejects.toThrow(/has changed since it was opened: it was written to/);
  expect(begun).toEqual([]);
  // Rows that were copied are as they were.
  await train({ file, items: { placement: 'ram' }, meet });
});
