/** When the loop steps, evaluates, saves and stops. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Matrix } from '@finetable/core';
import type { Loader } from '@finetable/data';
import { verifyManifest } from '@finetable/formats';
import { adamw, adapterTensors, createAdapter, sgd, type Adapter, type OptimizerSpec } from '@finetable/lora';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { FitOptions, FitResult, TrainingEvent } from './fit.ts';
import { classification } from './objectives/classification.ts';
import { custom } from './objectives/custom.ts';
import { D, openExamples, smallTable, V, writeExamples } from './testing/small-world.ts';
import { Trainer } from './trainer.ts';

let folder: string;
let loaders: Loader[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'loop-'));
  loaders = [];
  await writeExamples(join(folder, 'train.jsonl'), 72, 0);
  await writeExamples(join(folder, 'valid.jsonl'), 20, 1000);
});
afterEach(async () => {
  await Promise.all(loaders.map((loader) => loader.close()));
  await rm(folder, { recursive: true });
});

async function loader(name: string, batchSize: number, shuffle: boolean, workers = 0, id = false): Promise<Loader> {
  const spec = id ? { id: { column: 'name' } } : {};
  const made = await openExamples(join(folder, name), { batchSize, workers, shuffle }, spec);
  loaders.push(made);
  return made;
}

function adapterOf(): Adapter {
  return createAdapter(smallTable(), { rank: 2, alpha: 4 });
}

interface Setting {
  readonly batchSize?: number;
  readonly shuffle?: boolean;
  readonly workers?: number;
  readonly optimizer?: OptimizerSpec;
}

interface Trained {
  readonly result: FitResult;
  readonly events: readonly TrainingEvent[];
  readonly adapter: Adapter;
  readonly bytes: unknown;
}

async function fit(options: FitOptions, setting: Setting = {}): Promise<Trained> {
  const { batchSize = 8, shuffle = true, workers = 0, optimizer = adamw({ learningRate: 0.05 }) } = setting;
  const adapter = adapterOf();
  const objective = classification({ input: 'history', label: 'class' });
  const trainer = new Trainer({ adapters: { items: adapter }, objective, optimizer });
  const events: TrainingEvent[] = [];
  const result = await trainer.fit(await loader('train.jsonl', batchSize, shuffle, workers), {
    epochs: 3,
    ...options,
    onEvent: async (event) => {
      events.push(event);
      await options.onEvent?.(event);
    },
  });
  await trainer.saveObjective(join(folder, 'objective.safetensors'));
  const bytes = [adapterTensors(adapter), await readFile(join(folder, 'objective.safetensors'))];
  return { result, events, adapter, bytes };
}

const stepsOf = (events: readonly TrainingEvent[], type: 'evaluation' | 'checkpoint' | 'tick'): number[] =>
  events.filter((event) => event.type === type).map((event) => event.step);

const validation = (): Promise<Loader> => loader('valid.jsonl', 8, false);

test('accumulated batches make the step of one batch of their size, an unfinished last one too', async () => {
  const optimizer = sgd({ learningRate: 0.5 });
  // 72 examples: 4 steps of 16 and one of 8.
  const parts = await fit({ accumulateBatches: 4, clipNorm: 0.2 }, { batchSize: 4, shuffle: false, optimizer });
  const whole = await fit({ clipNorm: 0.2 }, { batchSize: 16, shuffle: false, optimizer });
  expect(parts.result).toMatchObject({ steps: 15, epochs: 3, examples: 216, tokens: 648 });
  expect(parts.events[0]).toMatchObject({ stepsPerEpoch: 5, steps: 15 });
  expect(whole.result.steps).toBe(15);
  const all = Int32Array.from({ length: V }, (_, i) => i);
  const [found, expected] = [parts.adapter.vectors(all).data, whole.adapter.vectors(all).data];
  // The order of sums in f32 differs.
  found.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(2e-5));
  const losses = ({ events }: Trained): number[] => events.flatMap((e) => (e.type === 'tick' ? [e.loss] : []));
  losses(parts).forEach((loss, i) => expect(loss).toBeCloseTo(losses(whole)[i]!, 4));
  expect(losses(whole).at(-1)).toBeLessThan(losses(whole)[0]! - 0.01);
});

test('accumulation: the same bytes for any number of workers', async () => {
  const alone = await fit({ accumulateBatches: 3 }, { batchSize: 4 });
  expect((await fit({ accumulateBatches: 3 }, { batchSize: 4, workers: 2 })).bytes).toEqual(alone.bytes);
});

test('stopped within the batches of a step and resumed: they are taken again, the same bytes', async () => {
  const whole = await fit({ accumulateBatches: 4 }, { batchSize: 4 });
  const controller = new AbortController();
  const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 100 };
  const real = await loader('train.jsonl', 4, true);
  const adapter = adapterOf();
  const objective = classification({ input: 'history', label: 'class' });
  const trainer = new Trainer({ adapters: { items: adapter }, objective, optimizer: adamw({ learningRate: 0.05 }) });
  const { data, examples, batchesPerEpoch, sizeBytes, classes, statistics, position } = real;
  const stopping: Loader = {
    ...{ data, examples, batchesPerEpoch, sizeBytes, classes, statistics, position },
    batchesFrom: (from) => real.batchesFrom(from),
    recycle: (batch) => real.recycle(batch),
    async *batches(epoch, from, epochs) {
      for await (const batch of real.batches(epoch, from, epochs)) {
        if (batch.index === 10) {
          setImmediate(() => controller.abort());
          await new Promise((resolve) => controller.signal.addEventListener('abort', () => setImmediate(resolve)));
        }
        yield batch;
      }
    },
    close: () => Promise.resolve(),
  };
  // Two of the third step's batches have been trained on.
  const stopped = trainer.fit(stopping, { epochs: 3, accumulateBatches: 4, checkpoints, signal: controller.signal });
  await expect(stopped).rejects.toMatchObject({ code: 'INTERRUPTED', details: { step: 2 } });
  const resumed = await fit({ accumulateBatches: 4, checkpoints, resume: true }, { batchSize: 4 });
  expect(stepsOf(resumed.events, 'tick')[0]).toBe(3);
  expect(resumed.bytes).toEqual(whole.bytes);
});

test.each([
  [{ steps: 4 }, [4, 8, 12, 16, 20, 24, 27]],
  [{ steps: 9 }, [9, 18, 27]],
  [{ epochs: 2 }, [18, 27]],
  [{ epochs: 1 }, [9, 18, 27]],
  [{ seconds: 1e-9 }, Array.from({ length: 27 }, (_, i) => i + 1)],
  [{ seconds: 1000 }, [27]],
])('evaluates every %j, and at the end', async (evaluateEvery, expected) => {
  const { events } = await fit({ validation: await validation(), evaluateEvery });
  expect(stepsOf(events, 'evaluation')).toEqual(expected);
});

test('the best state within an epoch is kept and put back, and interrupting anywhere changes nothing', async () => {
  const options = async (): Promise<FitOptions> => ({
    epochs: 6,
    validation: await validation(),
    evaluateEvery: { steps: 2 },
    patience: 3,
    metric: 'loss',
  });
  const optimizer = adamw({ learningRate: 0.5 });
  const whole = await fit(await options(), { optimizer });
  const evaluations = whole.events.filter((event) => event.type === 'evaluation');
  const best = evaluations.reduce((a, b) => (b.metrics.loss! < a.metrics.loss! ? b : a));
  expect(whole.result.best).toEqual({ step: best.step, epoch: best.epoch, metrics: best.metrics });
  expect(whole.result).toMatchObject({ stoppedEarly: true, endedBy: 'patience', steps: best.step + 6 });

  for (const at of [best.step, best.step + 1, best.step + 4]) {
    const controller = new AbortController();
    const checkpoints = { folder: join(folder, `stopped-${at}`), everySteps: 3, keep: 1 };
    const onEvent = (event: TrainingEvent): void =>
      void (event.type === 'tick' && event.step === at && controller.abort());
    const stopped = fit({ ...(await options()), checkpoints, onEvent, signal: controller.signal }, { optimizer });
    await expect(stopped).rejects.toMatchObject({ code: 'INTERRUPTED' });
    const resumed = await fit({ ...(await options()), checkpoints, resume: true }, { optimizer });
    expect(resumed.result.best).toEqual(whole.result.best);
    expect(resumed.bytes).toEqual(whole.bytes);
    const kept = await readdir(checkpoints.folder);
    expect(kept).toContain(`step-${String(best.step).padStart(8, '0')}`);
    expect(kept.length).toBe(2);
  }
});

test.each([
  [{ steps: 5 }, 'steps', 5],
  [{ tokens: 24 * 12 }, 'tokens', 12],
  [{ seconds: 1e-9 }, 'seconds', 1],
  [{ steps: 18, tokens: 1e9 }, 'steps', 18],
  [{ steps: 27 }, null, 27],
] as const)(
  'a budget of %j ends the training with an evaluation, a checkpoint and a result',
  async (budget, endedBy, steps) => {
    const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 100 };
    const { result, events } = await fit({ budget, validation: await validation(), checkpoints });
    expect(result).toMatchObject({ steps, endedBy, stoppedEarly: endedBy !== null, epochs: Math.floor(steps / 9) });
    expect(result.train.loss).toBeGreaterThan(0);
    expect(stepsOf(events, 'evaluation').at(-1)).toBe(steps);
    expect(stepsOf(events, 'checkpoint').at(-1)).toBe(steps);
    const again = await fit({ budget, validation: await validation(), checkpoints, resume: true });
    expect(stepsOf(again.events, 'tick'), 'it has ended').toEqual([]);
    expect(again.result.endedBy).toBe(endedBy);
  },
);

test('a checkpoint that cannot be written ends the training with its cause', async () => {
  const checkpoints = { folder: join(folder, 'train.jsonl', 'x'), everySteps: 2 };
  await expect(fit({ checkpoints })).rejects.toMatchObject({ code: 'IO' });
  const good = { folder: join(folder, 'checkpoints'), everySteps: 2 };
  const onEvent = async (event: TrainingEvent): Promise<void> => {
    if (event.type === 'tick' && event.step === 5) {
      // In the way of the next one.
      await writeFile(join(good.folder, 'step-00000006'), 'no folder');
    }
  };
  await expect(fit({ checkpoints: good, onEvent })).rejects.toMatchObject({
    code: 'EXISTS',
    details: { file: join(good.folder, 'step-00000006') },
  });
  await verifyManifest(join(good.folder, 'step-00000004'));
  await rm(join(good.folder, 'step-00000006'));
  expect(await fit({ checkpoints: good, resume: true }).then(({ bytes }) => bytes)).toEqual((await fit({})).bytes);
});

test.each(['the loss', 'of the input', 'of a parameter', 'of A'])(
  '%s not a number: the examples are named, and the last good checkpoint stays',
  async (what) => {
    let batches = 0;
    const objective = custom({
      inputs: ['history'],
      parameters: { w: [D] },
      loss({ inputs, shares, gradients }) {
        if (gradients) {
          const bad = ++batches === 7;
          const { history, w } = gradients as Record<'history' | 'w', Matrix>;
          history.data.forEach((_, i) => (history.data[i] = inputs.history!.data[i]! / 4));
          w.data.fill(0.01);
          if (bad && what === 'of the input') history.data[3] = NaN;
          if (bad && what === 'of A') history.data.fill(3e38);
          if (bad && what === 'of a parameter') w.data[1] = Infinity;
          if (bad && what === 'the loss') return shares.map(() => NaN);
        }
        return shares.map(() => 1);
      },
    });
    const adapter = adapterOf();
    const trainer = new Trainer({ adapters: { items: adapter }, objective, optimizer: sgd({ learningRate: 0.1 }) });
    const checkpoints = { folder: join(folder, 'checkpoints'), everySteps: 3 };
    const failure = trainer.fit(await loader('train.jsonl', 4, false, 0, true), {
      epochs: 3,
      checkpoints,
      accumulateBatches: 2,
    });
    const which =
      { 'the loss': 'the loss', 'of a parameter': 'the gradient of w' }[what] ?? 'the gradient of table "items"';
    await expect(failure).rejects.toMatchObject({
      code: 'NON_FINITE',
      message: `${which} is not finite in epoch 0, batch 6 (lines 25, 26, 27, 28: "example-24", "example-25", "example-26", "example-27"); a lower learning rate usually helps`,
    });
    expect(await readdir(checkpoints.folder)).toEqual(['step-00000003']);
    await verifyManifest(join(checkpoints.folder, 'step-00000003'));
  },
);
