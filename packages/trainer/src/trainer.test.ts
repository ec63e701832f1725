import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DataSpec, Loader, LoaderOptions } from '@finetable/data';
import { adamw, adapterTensors, createAdapter, sgd, type Adapter } from '@finetable/lora';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { classification } from './objectives/classification.ts';
import type { FitOptions, TrainingEvent } from './fit.ts';
import { D, openExamples, smallTable, V, writeExamples } from './testing/small-world.ts';
import { Trainer } from './trainer.ts';

const examples = 70;
let folder: string;
let loaders: Loader[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'trainer-'));
  loaders = [];
  await writeExamples(join(folder, 'train.jsonl'), examples, 0);
  await writeExamples(join(folder, 'valid.jsonl'), 20, 1000);
});
afterEach(async () => {
  await Promise.all(loaders.map((loader) => loader.close()));
  await rm(folder, { recursive: true });
});

async function loader(
  name = 'train.jsonl',
  options: Partial<LoaderOptions> = {},
  spec: Partial<DataSpec> = {},
): Promise<Loader> {
  const made = await openExamples(join(folder, name), { shuffle: name === 'train.jsonl', ...options }, spec);
  loaders.push(made);
  return made;
}

function trainer(adapter: Adapter, learningRate = 0.05): Trainer {
  return new Trainer({
    adapters: { items: adapter },
    objective: classification({ input: 'history', label: 'class' }),
    optimizer: adamw({ learningRate }),
  });
}

test('training lowers the loss, moves the touched rows and leaves the base alone', async () => {
  const base = smallTable();
  const before = base.gather(Int32Array.from({ length: V }, (_, i) => i)).data;
  const adapter = createAdapter(base, { rank: 2, alpha: 4 });
  const subject = trainer(adapter);
  const data = await loader();
  const untrained = await subject.evaluate(await loader('valid.jsonl'));
  const result = await subject.fit(data, { epochs: 8 });
  const trained = await subject.evaluate(await loader('valid.jsonl'));
  expect(untrained.loss).toBeCloseTo(Math.log(3), 5); // weights start at 0
  expect(result).toMatchObject({ steps: 8 * 9, epochs: 8, examples: 8 * examples, best: null, stoppedEarly: false });
  expect(result.train.loss).toBeLessThan(0.3);
  expect(trained.accuracy).toBeGreaterThan(0.9);
  expect(adapter.touchedRows).toBeGreaterThan(40);
  expect(base.gather(Int32Array.from({ length: V }, (_, i) => i)).data).toEqual(before);
});

async function fitBytes(options: FitOptions & { workers?: number }): Promise<unknown> {
  const adapter = createAdapter(smallTable(), { rank: 2, alpha: 4 });
  const subject = trainer(adapter);
  const { workers = 0, ...fit } = options;
  await subject.fit(await loader('train.jsonl', { workers }), { epochs: 3, ...fit });
  await subject.saveObjective(join(folder, 'objective.safetensors'));
  return [adapterTensors(adapter), await readFile(join(folder, 'objective.safetensors'))];
}

test('the same bytes for any number of workers', async () => {
  const alone = await fitBytes({ workers: 0 });
  expect(await fitBytes({ workers: 2 })).toEqual(alone);
});

/** Aborts after `step` steps. */
function abortAfter(step: number): { signal: AbortSignal; onEvent: (event: TrainingEvent) => void } {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    onEvent: (event) => {
      if (event.type === 'tick' && event.step === step) controller.abort();
    },
  };
}

test.each([1, 8, 9, 10, 17, 26, 27])(
  'interrupted after step %i and resumed: the same bytes as never stopped',
  async (step) => {
    const validation = await loader('valid.jsonl');
    const whole = await fitBytes({ validation });
    const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 4 };
    const stopped = fitBytes({ validation, checkpoints, ...abortAfter(step) });
    if (step < 27) await expect(stopped).rejects.toMatchObject({ code: 'INTERRUPTED', details: { step } });
    else await stopped.catch((error: unknown) => expect(error).toMatchObject({ code: 'INTERRUPTED' }));
    const steps: number[] = [];
    const resumed = await fitBytes({
      validation,
      checkpoints,
      resume: true,
      onEvent: (event) => {
        if (event.type === 'start') steps.push(event.step);
      },
    });
    expect(steps).toEqual([step]);
    expect(resumed).toEqual(whole);
  },
);

test('aborted in an evaluation, or killed between two checkpoints, and resumed: the same bytes', async () => {
  const validation = await loader('valid.jsonl');
  const whole = await fitBytes({ validation });

  const controller = new AbortController();
  const { data, examples: count, batchesPerEpoch, sizeBytes, classes, statistics, position } = validation;
  const aborting: Loader = {
    ...{ data, examples: count, batchesPerEpoch, sizeBytes, classes, statistics, position },
    batchesFrom: (from) => validation.batchesFrom(from),
    recycle: (batch) => validation.recycle(batch),
    batches: (epoch, from) => {
      controller.abort();
      return validation.batches(epoch, from);
    },
    close: () => Promise.resolve(),
  };
  const first = { folder: join(folder, 'first'), everySteps: 4 };
  await expect(fitBytes({ validation: aborting, checkpoints: first, signal: controller.signal })).rejects.toMatchObject(
    { code: 'INTERRUPTED', details: { step: 9 } },
  );
  const saved: number[] = [];
  const onSaved = (event: TrainingEvent): void => void (event.type === 'checkpoint' && saved.push(event.step));
  expect(await fitBytes({ validation, checkpoints: first, resume: true, onEvent: onSaved })).toEqual(whole);
  // Step 9 again, now with its evaluation; the end of an epoch once.
  expect(saved).toEqual([9, 12, 16, 18, 20, 24, 27]);

  for (const [type, step, last] of [
    ['tick', 15, 13],
    ['evaluation', 18, 17],
    ['checkpoint', 18, 18],
  ] as const) {
    const checkpoints = { folder: join(folder, `${type}-${step}`), everySteps: type === 'tick' ? 13 : 17 };
    const onEvent = (event: TrainingEvent): void => {
      if (event.type === type && event.step === step) throw new Error('killed');
    };
    await expect(fitBytes({ validation, checkpoints, onEvent })).rejects.toThrow('killed');
    const steps: number[] = [];
    const resumed = await fitBytes({
      validation,
      checkpoints,
      resume: true,
      onEvent: (event) => void (event.type === 'start' && steps.push(event.step)),
    });
    expect(steps).toEqual([last]);
    expect(resumed).toEqual(whole);
  }
});

test('aborted while waiting for a batch, and resumed: the same bytes', async () => {
  const whole = await fitBytes({});
  const controller = new AbortController();
  const real = await loader();
  const { data, examples: count, batchesPerEpoch, sizeBytes, classes, statistics, position } = real;
  const slow: Loader = {
    ...{ data, examples: count, batchesPerEpoch, sizeBytes, classes, statistics, position },
    batchesFrom: (from) => real.batchesFrom(from),
    recycle: (batch) => real.recycle(batch),
    async *batches(epoch, from) {
      for await (const batch of real.batches(epoch, from)) {
        if (batch.index === 3) {
          setImmediate(() => controller.abort());
          await new Promise((resolve) => controller.signal.addEventListener('abort', () => setImmediate(resolve)));
        }
        yield batch;
      }
    },
    close: () => Promise.resolve(),
  };
  const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 100 };
  const subject = trainer(createAdapter(smallTable(), { rank: 2, alpha: 4 }));
  await expect(subject.fit(slow, { epochs: 3, checkpoints, signal: controller.signal })).rejects.toMatchObject({
    code: 'INTERRUPTED',
    details: { step: 3 },
  });
  expect(await fitBytes({ checkpoints, resume: true })).toEqual(whole);
});

test('a checkpoint that a kill left moved aside is found', async () => {
  const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 100 };
  const whole = await fitBytes({ checkpoints });
  await rename(join(checkpoints.folder, 'step-00000027'), join(checkpoints.folder, '.finetable-old-step-00000027'));
  await mkdir(join(checkpoints.folder, '.finetable-tmp-0123456789abcdef'));
  expect(await fitBytes({ checkpoints, resume: true })).toEqual(whole);
  expect((await readdir(checkpoints.folder)).sort()).toEqual(['step-00000018', 'step-00000027']);
});

test('old checkpoints go, and a damaged one is named', async () => {
  const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 2, keep: 3 };
  const saved: number[] = [];
  await fitBytes({
    checkpoints: { ...checkpoints, everySteps: 3 },
    onEvent: (event) => void (event.type === 'checkpoint' && saved.push(event.step)),
  });
  expect(saved).toEqual([3, 6, 9, 12, 15, 18, 21, 24, 27]);
  await rm(checkpoints.folder, { recursive: true });
  await fitBytes({ checkpoints });
  expect((await readdir(checkpoints.folder)).sort()).toEqual(['step-00000024', 'step-00000026', 'step-00000027']);
  const file = join(checkpoints.folder, 'step-00000027', 'adapter-items.safetensors');
  const bytes = await readFile(file);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(file, bytes);
  await expect(fitBytes({ checkpoints, resume: true })).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: expect.stringContaining('adapter-items.safetensors'),
  });
});

test('a checkpoint of other data is refused', async () => {
  const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 100 };
  await fitBytes({ checkpoints: { ...checkpoints, identity: { examples: 70 } } });
  await expect(fitBytes({ checkpoints: { ...checkpoints, identity: { examples: 71 } }, resume: true })).rejects.toThrow(
    /it was made with examples 70, now it is 71/,
  );
});

test('the state of the best evaluation is the result, and patience ends the training', async () => {
  const adapter = createAdapter(smallTable(), { rank: 2, alpha: 4 });
  const subject = trainer(adapter, 0.2);
  // Half of the classes are wrong, so that surer is soon worse.
  const text = await readFile(join(folder, 'valid.jsonl'), 'utf8');
  await writeFile(join(folder, 'noisy.jsonl'), text.replace(/c2/g, 'c0'));
  const validation = await loader('noisy.jsonl');
  const evaluations: { loss: number; best: boolean }[] = [];
  const result = await subject.fit(await loader(), {
    epochs: 30,
    validation,
    metric: 'loss',
    patience: 2,
    onEvent: (event) => {
      if (event.type === 'evaluation') evaluations.push({ loss: event.metrics.loss!, best: event.best });
    },
  });
  const best = Math.min(...evaluations.map(({ loss }) => loss));
  expect(result.stoppedEarly).toBe(true);
  expect(result.epochs).toBe(evaluations.length);
  expect(evaluations.slice(-2).map((e) => e.best)).toEqual([false, false]);
  expect(result.best!.metrics.loss).toBe(best);
  expect(evaluations.at(-1)!.loss).toBeGreaterThan(best);
  expect((await subject.evaluate(validation)).loss).toBe(best);
});

test('a NaN in a row that is looked up names table and row', async () => {
  const values = new Float32Array(V * D).fill(0.1);
  values[33 * D + 2] = Number.NaN;
  const adapter = createAdapter(smallTable(values), { rank: 2 });
  await expect(trainer(adapter).fit(await loader(), { epochs: 2 })).rejects.toMatchObject({
    code: 'NON_FINITE',
    message: expect.stringMatching(/table "items": row 33 holds a value that is not finite \(lines \d+/),
  });
});

test('a loss that grows beyond numbers stops with the batch named', async () => {
  const objective = classification({ input: 'history', label: 'class' });
  const subject = new Trainer({ tables: { items: smallTable() }, objective, optimizer: sgd({ learningRate: 1e39 }) });
  await expect(subject.fit(await loader(), { epochs: 3 })).rejects.toMatchObject({
    code: 'NON_FINITE',
    message: expect.stringMatching(
      /^the loss is not finite in epoch 0, batch 1 \(lines \d+, .* and 3 more\); a lower learning rate/,
    ),
  });
});

test.each([
  [{ epochs: 0 }, /fit: epochs 0; allowed: an integer of 1 or more/],
  [{ patience: 2 }, /patience needs validation/],
  [{ clipnorm: 1 }, /^fit: there is no option "clipnorm"; allowed: epochs, .*clipNorm/],
  [
    { checkpoints: { folder: 'x', everySteps: 1, kept: 3 } },
    /^fit: checkpoints: there is no option "kept"; allowed: folder, everySteps, keep, identity/,
  ],
  [{ resume: true }, /resume needs checkpoints/],
  [{ accumulateBatches: 1.5 }, /fit: accumulateBatches 1.5; allowed: an integer of 1 or more/],
  [{ budget: { seconds: 0 } }, /fit: budget.seconds 0; allowed: a number above 0/],
  [{ budget: { hours: 1 } }, /^fit: budget: there is no option "hours"; allowed: steps, seconds, tokens/],
  [{ evaluateEvery: { steps: 1 } }, /fit: evaluateEvery needs validation data/],
  [{ evaluateEvery: { steps: 1, epochs: 1 } }, /fit: evaluateEvery; allowed: one of steps, epochs and seconds/],
])('refuses %j', async (options, message) => {
  await expect(
    trainer(createAdapter(smallTable(), { rank: 2 })).fit(await loader(), options as FitOptions),
  ).rejects.toThrow(message);
});

test('unknown options of a trainer and of an objective are refused', () => {
  const options = { input: 'history', label: 'class', lr: 1 };
  expect(() => classification(options)).toThrow(/^classification: there is no option "lr"; allowed: input, label/);
  const misspelled = {
    objective: classification({ input: 'history', label: 'class' }),
    optimizer: sgd({ learningRate: 1 }),
    adaptors: {},
  };
  expect(() => new Trainer(misspelled)).toThrow(/^Trainer: there is no option "adaptors"; allowed: tables, adapters/);
});

test('tables, features and objective must fit together', async () => {
  const data = await loader();
  const objective = (input: string, label: string) => classification({ input, label });
  const optimizer = adamw({ learningRate: 0.1 });
  await expect(new Trainer({ objective: objective('history', 'class'), optimizer }).fit(data)).rejects.toThrow(
    /feature "history" reads table "items"; there is none/,
  );
  const tables = { items: smallTable() };
  await expect(new Trainer({ tables, objective: objective('other', 'class'), optimizer }).fit(data)).rejects.toThrow(
    /feature "history" is not used; the objective reads other/,
  );
  await expect(new Trainer({ tables, objective: objective('history', 'kind'), optimizer }).fit(data)).rejects.toThrow(
    /reads label "kind"; there is "class"/,
  );
  const adapters = { items: createAdapter(smallTable(), { rank: 1 }) };
  await expect(
    new Trainer({ tables, adapters, objective: objective('history', 'class'), optimizer }).fit(data),
  ).rejects.toThrow(/given both as frozen and with an adapter/);
});

test('a frozen table trains the objective alone', async () => {
  const tables = { items: smallTable() };
  const subject = new Trainer({
    tables,
    objective: classification({ input: 'history', label: 'class' }),
    optimizer: adamw({ learningRate: 0.05 }),
  });
  const { train } = await subject.fit(await loader(), { epochs: 4 });
  expect(train.loss).toBeLessThan(Math.log(3));
});

test('validation and later loaders must have the features and classes that are trained on', async () => {
  const data = await loader();
  const swapped = await loader(
    'valid.jsonl',
    {},
    { labels: { class: { column: 'class', classes: ['c1', 'c0', 'c2'] } } },
  );
  const elsewhere = await loader(
    'valid.jsonl',
    {},
    { features: { history: { table: 'other', column: 'ids' } }, tables: { other: { rows: V } } },
  );
  const adapter = createAdapter(smallTable(), { rank: 2 });
  const subject = trainer(adapter);
  const classes = {
    code: 'MISMATCH',
    message: expect.stringMatching(/label "class" has other classes than the data that was trained on/),
  };
  await expect(subject.fit(data, { validation: swapped })).rejects.toMatchObject(classes);
  await expect(subject.fit(data, { validation: elsewhere })).rejects.toThrow(
    /feature "history" reads table "other"; there is "items"/,
  );
  expect(adapter.step).toBe(0);
  await subject.fit(data);
  await expect(subject.evaluate(swapped)).rejects.toMatchObject(classes);
  await expect(subject.evaluate(elsewhere)).rejects.toThrow(/reads table "other"/);
});

test('a second fit goes on: the same bytes as one of as many epochs', async () => {
  const train = async (parts: readonly number[]): Promise<unknown> => {
    const adapter = createAdapter(smallTable(), { rank: 2, alpha: 4 });
    const subject = trainer(adapter);
    // In file order, so that every epoch is the same.
    for (const epochs of parts) await subject.fit(await loader('train.jsonl', { shuffle: false }), { epochs });
    await subject.saveObjective(join(folder, 'objective.safetensors'));
    return [adapterTensors(adapter), await readFile(join(folder, 'objective.safetensors'))];
  };
  expect(await train([1, 2])).toEqual(await train([3]));
});

test('a new training does not begin among the checkpoints of an earlier one', async () => {
  const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 100 };
  await fitBytes({ checkpoints });
  const before = await readdir(checkpoints.folder);
  await expect(fitBytes({ checkpoints, epochs: 1 })).rejects.toMatchObject({
    code: 'EXISTS',
    message: expect.stringContaining('up to step-00000027'),
  });
  expect(await readdir(checkpoints.folder)).toEqual(before);
});

test('a checkpoint of other batches is refused', async () => {
  const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 100 };
  await fitBytes({ checkpoints });
  const subject = trainer(createAdapter(smallTable(), { rank: 2, alpha: 4 }));
  await expect(
    subject.fit(await loader('train.jsonl', { batchSize: 16 }), { checkpoints, resume: true }),
  ).rejects.toMatchObject({
    code: 'MISMATCH',
    message: expect.stringContaining('batchSize 8, now it is 16'),
  });
});

test('the best state kept meanwhile leaves no files, however training ends', async () => {
  const temporary = join(folder, 'temporary');
  await mkdir(temporary);
  vi.stubEnv('TMPDIR', temporary);
  try {
    const validation = await loader('valid.jsonl');
    let during: string[] = [];
    const onEvent = async (event: TrainingEvent): Promise<void> => {
      if (event.type === 'evaluation') during = await readdir(temporary);
    };
    await fitBytes({ validation, onEvent });
    expect(during).toHaveLength(1);
    expect(await readdir(temporary)).toEqual([]);
    await expect(fitBytes({ validation, ...abortAfter(12) })).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(await readdir(temporary)).toEqual([]);
  } finally {
    vi.unstubAllEnvs();
  }
});

test('an adapter in training is not taken over by another optimiser', async () => {
  const adapter = createAdapter(smallTable(), { rank: 2 });
  await trainer(adapter, 0.05).fit(await loader());
  await trainer(adapter, 0.05).fit(await loader());
  expect(adapter.step).toBe(18);
  await expect(trainer(adapter, 0.01).fit(await loader())).rejects.toThrow(
    /items: the adapter is being trained with other settings \(adamw, learning rate 0\.05\)/,
  );
});

test('an objective belongs to one trainer, and a trainer is in one fit', async () => {
  const objective = classification({ input: 'history', label: 'class' });
  const make = (): Trainer =>
    new Trainer({ tables: { items: smallTable() }, objective, optimizer: sgd({ learningRate: 0.1 }) });
  const subject = make();
  const loaders = [await loader(), await loader()] as const;
  const first = subject.fit(loaders[0]);
  await expect(subject.fit(loaders[1])).rejects.toThrow(/the trainer is in another fit/);
  expect((await first).steps).toBe(9);
  expect((await subject.fit(await loader())).steps).toBe(9);
  await expect(make().fit(await loader())).rejects.toThrow(/the objective is in use by another trainer/);
});

test('a metric that the objective does not have is named', async () => {
  const options = { validation: await loader('valid.jsonl'), metric: 'recall' as 'loss' };
  await expect(fitBytes(options)).rejects.toThrow(/fit: metric recall; the objective has loss, accuracy/);
});

test('adapters must be read, each under one name', async () => {
  const objective = classification({ input: 'history', label: 'class' });
  const optimizer = adamw({ learningRate: 0.1 });
  const items = createAdapter(smallTable(), { rank: 1 });
  const data = await loader();
  await expect(new Trainer({ adapters: { items, again: items }, objective, optimizer }).fit(data)).rejects.toThrow(
    /one adapter is given under two names/,
  );
  const unread = createAdapter(smallTable(), { rank: 1 });
  await expect(new Trainer({ adapters: { items, unread }, objective, optimizer }).fit(data)).rejects.toThrow(
    /no feature reads table "unread"/,
  );
});

test('checkpoints: a folder that is a file, and a table whose name is no file name', async () => {
  const file = join(folder, 'train.jsonl');
  for (const resume of [false, true]) {
    await expect(fitBytes({ checkpoints: { folder: file, everySteps: 2 }, resume })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining(file),
    });
  }
  const name = '../../items';
  const data = await loader(
    'train.jsonl',
    {},
    { features: { history: { table: name, column: 'ids' } }, tables: { [name]: { rows: V } } },
  );
  const subject = new Trainer({
    adapters: { [name]: createAdapter(smallTable(), { rank: 2 }) },
    objective: classification({ input: 'history', label: 'class' }),
    optimizer: adamw({ learningRate: 0.1 }),
  });
  const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 100 };
  await subject.fit(data, { checkpoints });
  expect((await readdir(join(checkpoints.folder, 'step-00000009'))).sort()).toEqual([
    'adapter-..%2F..%2Fitems.safetensors',
    'manifest.json',
    'objective.safetensors',
    'progress.json',
  ]);
  expect((await subject.fit(data, { checkpoints, resume: true, epochs: 2 })).steps).toBe(18);
});

test('examples without a single id are an error, not a training on zeros', async () => {
  await writeFile(join(folder, 'none.jsonl'), '{"ids": [], "class": "c0"}\n{"ids": [], "class": "c1"}\n');
  await expect(trainer(createAdapter(smallTable(), { rank: 2 })).fit(await loader('none.jsonl'))).rejects.toMatchObject(
    {
      code: 'INVALID_DATA',
      message: expect.stringContaining('table "items": no training example has an id in it') as string,
    },
  );
});
