/**
 * The loop: batches from a loader, forward and backward through the model, optimiser steps, evaluation, early stopping
 * and checkpoints. It only composes; what it composes does not know it.
 */
import { FinetableError } from '@finetable/core';
import type { Batch, Loader } from '@finetable/data';
import type { OptimizerSpec } from '@finetable/lora';
import { Checkpoints, type TrainingProgress } from './checkpoint.ts';
import { addSums, isBetter, type MetricName } from './metrics.ts';
import { Model, type ModelOptions } from './model.ts';
import type { MetricSums } from './objective.ts';
import { ParameterGroup } from './parameters.ts';

export interface TrainerOptions extends ModelOptions {
  readonly optimizer: OptimizerSpec;
}

export interface FitOptions {
  /** Default 1. */
  readonly epochs?: number | undefined;
  /** Evaluated at the end of every epoch. */
  readonly validation?: Loader | undefined;
  /** The validation metric that chooses the best state; default `loss`. */
  readonly metric?: MetricName | undefined;
  /** Evaluations without a better metric after which training stops; default: never. Needs `validation`. */
  readonly patience?: number | undefined;
  /** Steps between `step` events; default 50. */
  readonly logEverySteps?: number | undefined;
  /** A folder for checkpoints; default: none are written. */
  readonly checkpoints?: {
    readonly folder: string;
    /** Steps between two; one is written at the end of every epoch too. */
    readonly everySteps: number;
    /** How many of the last ones stay; default 2. */
    readonly keep?: number | undefined;
    /** Anything that a resumed run must find unchanged, such as the data's size. JSON. */
    readonly identity?: Readonly<Record<string, string | number>> | undefined;
  };
  /** Go on from the newest good checkpoint in the folder, where there is one. Default false. */
  readonly resume?: boolean | undefined;
  readonly onEvent?: (event: TrainingEvent) => unknown | undefined;
  /** When aborted: a checkpoint is written and INTERRUPTED thrown. */
  readonly signal?: AbortSignal | undefined;
}

export type TrainingEvent =
  | {
      readonly type: 'start';
      readonly epochs: number;
      readonly stepsPerEpoch: number;
      readonly examples: number;
      /** 0, or where a resumed run goes on. */
      readonly step: number;
    }
  | {
      readonly type: 'step';
      readonly step: number;
      readonly epoch: number;
      /** Means over the examples since the last such event. */
      readonly metrics: Readonly<Record<string, number>>;
      readonly examplesPerSecond: number;
      readonly touchedRows: number;
    }
  /** After every step, for progress bars: cheap. */
  | { readonly type: 'tick'; readonly step: number; readonly epoch: number; readonly loss: number }
  | {
      readonly type: 'evaluation';
      readonly step: number;
      readonly epoch: number;
      readonly metrics: Readonly<Record<string, number>>;
      readonly best: boolean;
    }
  | { readonly type: 'checkpoint'; readonly step: number; readonly folder: string };

export interface FitResult {
  readonly steps: number;
  /** Epochs finished. */
  readonly epochs: number;
  readonly examples: number;
  /** Means over the last epoch's training examples. */
  readonly train: Readonly<Record<string, number>>;
  /** The best evaluation, whose state the model is left in; null without validation. */
  readonly best: { readonly step: number; readonly epoch: number; readonly metrics: Readonly<Record<string, number>> } | null;
  readonly stoppedEarly: boolean;
  /** Time in the loop, earlier parts of a resumed run included. */
  readonly seconds: number;
  /** Of these, waiting for the loader. */
  readonly waitSeconds: number;
}

export class Trainer {
  readonly #options: TrainerOptions;
  #built: { model: Model; group: ParameterGroup; loader: Loader } | null = null;

  constructor(options: TrainerOptions) {
    this.#options = options;
  }

  /**
   * Trains on a loader's epochs. With `validation`, the state of the best evaluation is put back at the end.
   * @throws NON_FINITE, INVALID_DATA, INTERRUPTED, MISMATCH (a checkpoint of something else), IO
   */
  async fit(loader: Loader, options: FitOptions = {}): Promise<FitResult> {
    checkOptions(options);
    const { model, group } = this.#build(loader);
    const checkpoints = new Checkpoints(model, group, options.checkpoints ?? null);
    let progress: TrainingProgress = (options.resume && (await checkpoints.restore())) || startProgress;
    const loop = new Loop(loader, model, group, options, checkpoints, progress);
    progress = await loop.run();
    if (progress.best) await checkpoints.restoreBest();
    return {
      steps: progress.step,
      epochs: progress.epoch,
      examples: progress.examples,
      train: progress.train,
      best: progress.best,
      stoppedEarly: progress.done && progress.epoch < (options.epochs ?? 1),
      seconds: progress.seconds,
      waitSeconds: progress.waitSeconds,
    };
  }

  /** Metrics over one pass of a loader. */
  async evaluate(loader: Loader, signal?: AbortSignal): Promise<Readonly<Record<string, number>>> {
    return evaluate(this.#build(loader).model, loader, signal);
  }

  /** The objective's parameters, without optimiser state, as a safetensors file. */
  async saveObjective(path: string): Promise<void> {
    if (!this.#built) throw new FinetableError('INVALID_ARGUMENT', 'fit or evaluate comes before saveObjective');
    await this.#built.group.saveValues(path);
  }

  /** Reads what `saveObjective` wrote. @param loader any loader with the features and classes that were trained on */
  async loadObjective(path: string, loader: Loader): Promise<void> {
    await this.#build(loader).group.loadValues(path);
  }

  /** The first loader fixes the classes; a later one must have the same. */
  #build(loader: Loader): { model: Model; group: ParameterGroup } {
    if (this.#built) {
      if (JSON.stringify(this.#built.loader.classes) !== JSON.stringify(loader.classes)) {
        throw new FinetableError('MISMATCH', 'the loader has other classes than the one that was trained on; pass the classes of that one');
      }
      return this.#built;
    }
    const model = new Model(this.#options, loader.data, loader.classes);
    const { optimizer, objective } = this.#options;
    for (const adapter of model.adapters.values()) if (!adapter.training) adapter.startTraining(optimizer);
    const group = new ParameterGroup(model.parameters, optimizer, objective);
    this.#built = { model, group, loader };
    return this.#built;
  }
}

const startProgress: TrainingProgress = {
  step: 0,
  epoch: 0,
  batch: 0,
  examples: 0,
  epochSums: {},
  epochExamples: 0,
  train: {},
  best: null,
  evaluationsSinceBest: 0,
  done: false,
  seconds: 0,
  waitSeconds: 0,
};

/** One `fit`: its progress, and the steps that change it. */
class Loop {
  readonly #loader: Loader;
  readonly #model: Model;
  readonly #group: ParameterGroup;
  readonly #options: FitOptions;
  readonly #checkpoints: Checkpoints;
  #progress: TrainingProgress;
  #savedStep: number;
  #logged: { sums: MetricSums; examples: number; time: number };

  constructor(loader: Loader, model: Model, group: ParameterGroup, options: FitOptions, checkpoints: Checkpoints, progress: TrainingProgress) {
    this.#loader = loader;
    this.#model = model;
    this.#group = group;
    this.#options = options;
    this.#checkpoints = checkpoints;
    this.#progress = progress;
    this.#savedStep = progress.step;
    this.#logged = { sums: {}, examples: 0, time: performance.now() };
  }

  async run(): Promise<TrainingProgress> {
    const { epochs = 1 } = this.#options;
    const { step } = this.#progress;
    const { examples, batchesPerEpoch: stepsPerEpoch } = this.#loader;
    await this.#emit({ type: 'start', epochs, stepsPerEpoch, examples, step });
    this.#logged.time = performance.now();
    while (this.#progress.epoch < epochs && !this.#progress.done) {
      await this.#batches();
      await this.#endEpoch();
    }
    return this.#progress;
  }

  /** What is left of the current epoch. */
  async #batches(): Promise<void> {
    const { epoch, batch: from } = this.#progress;
    const iterator = this.#loader.batches(epoch, from);
    try {
      for (;;) {
        // Batches may be ready every time, and a promise that is never turns the event loop: signals would not arrive.
        await new Promise(setImmediate);
        await this.#stopIfAborted();
        const asked = performance.now();
        const next = await orAbort(iterator.next(), this.#options.signal);
        const waited = (performance.now() - asked) / 1000;
        if (next === 'aborted') continue;
        if (next.done) return;
        await this.#step(next.value, waited);
      }
    } finally {
      await iterator.return?.();
    }
  }

  async #step(batch: Batch, waited: number): Promise<void> {
    const begun = performance.now();
    const { sums, gradients } = this.#model.train(batch);
    const step = this.#progress.step + 1;
    for (const [name, adapter] of this.#model.adapters) adapter.update(batch.plans[name]!, gradients.get(name)!);
    this.#group.update(this.#model.kernels, step);

    const p = this.#progress;
    this.#progress = {
      ...p,
      step,
      batch: batch.index + 1,
      examples: p.examples + batch.size,
      epochSums: addSums(p.epochSums, sums),
      epochExamples: p.epochExamples + batch.size,
      waitSeconds: p.waitSeconds + waited,
      seconds: p.seconds + waited + (performance.now() - begun) / 1000,
    };
    this.#logged.sums = addSums(this.#logged.sums, sums);
    this.#logged.examples += batch.size;
    await this.#emit({ type: 'tick', step, epoch: batch.epoch, loss: sums.loss! / batch.size });
    if (step % (this.#options.logEverySteps ?? 50) === 0) await this.#log();
    const every = this.#options.checkpoints?.everySteps;
    // The epoch's end writes its own, after the evaluation.
    if (every && step % every === 0 && batch.index + 1 < this.#loader.batchesPerEpoch) await this.#save();
  }

  async #log(): Promise<void> {
    const { sums, examples, time } = this.#logged;
    if (examples === 0) return;
    const now = performance.now();
    const { step, epoch } = this.#progress;
    const touchedRows = [...this.#model.adapters.values()].reduce((sum, adapter) => sum + adapter.touchedRows, 0);
    const metrics = this.#model.objective.metrics(sums, examples);
    this.#logged = { sums: {}, examples: 0, time: now };
    await this.#emit({ type: 'step', step, epoch, metrics, examplesPerSecond: examples / ((now - time) / 1000), touchedRows });
  }

  async #endEpoch(): Promise<void> {
    const { validation, metric = 'loss', patience, signal } = this.#options;
    await this.#log();
    const p = this.#progress;
    // Complete only now: an abort during the evaluation leaves the epoch's end to be done again.
    let next: TrainingProgress = {
      ...p,
      epoch: p.epoch + 1,
      batch: 0,
      train: this.#model.objective.metrics(p.epochSums, p.epochExamples),
      epochSums: {},
      epochExamples: 0,
    };
    if (validation) {
      let metrics;
      try {
        metrics = await evaluate(this.#model, validation, signal);
      } catch (error) {
        await this.#stopIfAborted();
        throw error;
      }
      const best = !p.best || isBetter(metric, metrics[metric], p.best.metrics[metric]);
      if (best) {
        await this.#checkpoints.saveBest();
        next = { ...next, best: { step: p.step, epoch: p.epoch, metrics }, evaluationsSinceBest: 0 };
      } else {
        next = { ...next, evaluationsSinceBest: p.evaluationsSinceBest + 1 };
      }
      if (patience !== undefined && next.evaluationsSinceBest >= patience) next = { ...next, done: true };
      await this.#emit({ type: 'evaluation', step: p.step, epoch: p.epoch, metrics, best });
    }
    this.#progress = next;
    this.#savedStep = -1; // the same step as a mid-epoch checkpoint, but a later position
    await this.#save();
    this.#logged.time = performance.now();
  }

  async #save(): Promise<void> {
    const { step } = this.#progress;
    if (!this.#options.checkpoints || this.#savedStep === step) return;
    const folder = await this.#checkpoints.save(this.#progress);
    this.#savedStep = step;
    await this.#emit({ type: 'checkpoint', step, folder });
  }

  async #stopIfAborted(): Promise<void> {
    if (!this.#options.signal?.aborted) return;
    await this.#save();
    const where = this.#options.checkpoints ? `; go on from ${this.#options.checkpoints.folder}` : '';
    throw new FinetableError('INTERRUPTED', `interrupted after step ${this.#progress.step}${where}`, { step: this.#progress.step });
  }

  async #emit(event: TrainingEvent): Promise<void> {
    await this.#options.onEvent?.(event);
  }
}

async function evaluate(model: Model, loader: Loader, signal?: AbortSignal): Promise<Readonly<Record<string, number>>> {
  let sums: MetricSums = {};
  let examples = 0;
  for await (const batch of loader.batches(0)) {
    if (signal?.aborted) throw new FinetableError('INTERRUPTED', 'interrupted while evaluating');
    sums = addSums(sums, model.evaluate(batch));
    examples += batch.size;
    await new Promise(setImmediate);
  }
  return model.objective.metrics(sums, examples);
}

/** The promise's value, or `aborted` as soon as the signal says so. */
async function orAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T | 'aborted'> {
  if (!signal) return promise;
  let listener: (() => void) | undefined;
  const aborted = new Promise<'aborted'>((resolve) => {
    listener = () => resolve('aborted');
    signal.addEventListener('abort', listener, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    if (listener) signal.removeEventListener('abort', listener);
  }
}

function checkOptions({ epochs = 1, patience, validation, logEverySteps = 50, checkpoints }: FitOptions): void {
  const counts = { epochs, logEverySteps, patience: patience ?? 1, 'checkpoints.everySteps': checkpoints?.everySteps ?? 1, 'checkpoints.keep': checkpoints?.keep ?? 1 };
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isInteger(value) || value < 1) throw new FinetableError('INVALID_ARGUMENT', `fit: ${name} ${value}; allowed: an integer of 1 or more`);
  }
  if (patience !== undefined && !validation) throw new FinetableError('INVALID_ARGUMENT', 'fit: patience needs validation data');
}
