/** The steps of one `fit`: batches, updates, evaluation at the end of an epoch, checkpoints, and stopping. */
import { FinetableError } from '@finetable/core';
import type { Loader } from '@finetable/data';
import { gradientArrays, type AdapterGradients } from '@finetable/lora';
import { Ahead, type PreparedBatch } from './ahead.ts';
import type { Checkpoints, TrainingProgress } from './checkpoint.ts';
import type { FitOptions, TrainingEvent } from './fit.ts';
import { evaluate } from './evaluate.ts';
import { addSums, isBetter } from './metrics/index.ts';
import { orAbort } from './abort.ts';
import type { Model } from './model.ts';
import type { ParameterGroup } from './parameters.ts';

export const startProgress: TrainingProgress = {
  step: 0,
  epoch: 0,
  batch: 0,
  examples: 0,
  epochSums: {},
  epochExamples: 0,
  loggedSums: {},
  loggedExamples: 0,
  train: {},
  best: null,
  evaluationsSinceBest: 0,
  done: false,
  seconds: 0,
  waitSeconds: 0,
};

/** One `fit`: its progress, and the steps that change it. */
export class Loop {
  readonly #loader: Loader;
  readonly #model: Model;
  readonly #group: ParameterGroup;
  readonly #options: FitOptions;
  readonly #checkpoints: Checkpoints;
  #progress: TrainingProgress;
  #savedStep: number;
  /** The step that this process began with. */
  readonly #begun: number;
  /** When the last `step` event was, or what came after it that was no training; and the examples since. */
  #rate = { begun: performance.now(), examples: 0, waitSeconds: 0 };

  constructor(
    loader: Loader,
    model: Model,
    group: ParameterGroup,
    options: FitOptions,
    checkpoints: Checkpoints,
    progress: TrainingProgress,
  ) {
    this.#loader = loader;
    this.#model = model;
    this.#group = group;
    this.#options = options;
    this.#checkpoints = checkpoints;
    this.#progress = progress;
    this.#savedStep = progress.step;
    this.#begun = progress.step;
  }

  async run(): Promise<TrainingProgress> {
    const { epochs = 1 } = this.#options;
    const { step } = this.#progress;
    const { examples, batchesPerEpoch } = this.#loader;
    const known = Number.isFinite(examples);
    const [stepsPerEpoch, count] = known ? [batchesPerEpoch, examples] : [null, null];
    await this.#emit({ type: 'start', epochs, stepsPerEpoch, examples: count, step });
    this.#rate.begun = performance.now();
    const { epoch, batch, done } = this.#progress;
    if (done || epoch >= epochs) return this.#progress;
    // One iteration over all epochs: the next one's batches are made while this one is evaluated.
    const { prefetch = true } = this.#options;
    const batches = new Ahead(this.#model, this.#loader.batches(epoch, batch, epochs - epoch), prefetch);
    try {
      while (this.#progress.epoch < epochs && !this.#progress.done) {
        await this.#epoch(batches);
        await this.#endEpoch();
      }
    } finally {
      await batches.close();
    }
    return this.#progress;
  }

  /** The steps that are left of the current epoch. */
  async #epoch(batches: Ahead): Promise<void> {
    while (this.#progress.batch < this.#loader.batchesPerEpoch) {
      await this.#stopIfAborted();
      const asked = performance.now();
      const next = await orAbort(batches.next(), this.#options.signal);
      // Batches may be ready every time, and a promise that is never turns the event loop: neither would signals arrive,
      // nor the batch after this one, whose rows are pooled during the step.
      await new Promise(setImmediate);
      const waited = (performance.now() - asked) / 1000;
      if (next === 'aborted') continue;
      // Of what is iterated nobody knows the end before.
      if (next === null && this.#loader.batchesPerEpoch === Infinity) break;
      if (next === null)
        throw new FinetableError(
          'INVALID_ARGUMENT',
          `the loader ended before batch ${this.#progress.batch} of ${this.#loader.batchesPerEpoch}`,
        );
      await this.#step(next, waited);
    }
    await this.#stopIfAborted();
  }

  async #step({ batch, pooled }: PreparedBatch, waited: number): Promise<void> {
    const begun = performance.now();
    const { sums, gradients } = await this.#model.train(batch, pooled);
    if (this.#options.clipNorm !== undefined) this.#clip(gradients, this.#options.clipNorm);
    const step = this.#progress.step + 1;
    for (const [name, adapter] of this.#model.adapters) adapter.update(batch.plans[name]!, gradients.get(name)!);
    this.#group.update(this.#model.kernels);

    const p = this.#progress;
    this.#progress = {
      ...p,
      step,
      batch: batch.index + 1,
      examples: p.examples + batch.size,
      epochSums: addSums(p.epochSums, sums),
      epochExamples: p.epochExamples + batch.size,
      loggedSums: addSums(p.loggedSums, sums),
      loggedExamples: p.loggedExamples + batch.size,
      waitSeconds: p.waitSeconds + waited,
      seconds: p.seconds + waited + (performance.now() - begun) / 1000,
    };
    this.#rate.examples += batch.size;
    this.#rate.waitSeconds += waited;
    await this.#emit({ type: 'tick', step, epoch: batch.epoch, loss: sums.loss! / batch.size });
    if (step % (this.#options.logEverySteps ?? 50) === 0) await this.#log();
    const every = this.#options.checkpoints?.everySteps;
    // The epoch's end writes its own, after the evaluation.
    if (every && step % every === 0 && batch.index + 1 < this.#loader.batchesPerEpoch) await this.#save();
  }

  /** Scales all gradients of a step so that together they are at most `most` long (Pascanu, Mikolov and Bengio 2013). */
  #clip(gradients: ReadonlyMap<string, AdapterGradients>, most: number): void {
    const { kernels } = this.#model;
    const arrays = [
      ...[...gradients.values()].flatMap(gradientArrays),
      ...this.#group.parameters.map(({ gradient }) => gradient),
    ];
    const norm = Math.sqrt(arrays.reduce((sum, array) => sum + kernels.sumSquares(array), 0));
    if (norm > most) for (const array of arrays) kernels.scaleInPlace(array, most / norm);
  }

  async #log(): Promise<void> {
    const { step, epoch, loggedSums, loggedExamples } = this.#progress;
    if (loggedExamples === 0) return;
    const now = performance.now();
    const { waitSeconds } = this.#rate;
    const examplesPerSecond = this.#rate.examples / ((now - this.#rate.begun) / 1000);
    const touchedRows = [...this.#model.adapters.values()].reduce((sum, adapter) => sum + adapter.touchedRows, 0);
    const metrics = this.#model.objective.metrics(loggedSums, loggedExamples);
    this.#progress = { ...this.#progress, loggedSums: {}, loggedExamples: 0 };
    this.#rate = { begun: now, examples: 0, waitSeconds: 0 };
    await this.#emit({ type: 'step', step, epoch, metrics, examplesPerSecond, waitSeconds, touchedRows });
  }

  async #endEpoch(): Promise<void> {
    const { validation, metric = 'loss', metrics: wanted, sliceBy, patience, signal, prefetch } = this.#options;
    await this.#log();
    const p = this.#progress;
    if (this.#begun === 0 && p.epoch === 0) this.#model.checkRead();
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
        metrics = await evaluate(this.#model, validation, { metrics: wanted, sliceBy, signal, prefetch });
      } catch (error) {
        await this.#stopIfAborted();
        throw error;
      }
      if (!(metric in metrics)) {
        throw new FinetableError(
          'INVALID_ARGUMENT',
          `fit: metric ${metric}; the objective has ${Object.keys(metrics).join(', ')}`,
        );
      }
      const best = !p.best || isBetter(metric, metrics[metric], p.best.metrics[metric]);
      next = best
        ? { ...next, best: { step: p.step, epoch: p.epoch, metrics }, evaluationsSinceBest: 0 }
        : { ...next, evaluationsSinceBest: p.evaluationsSinceBest + 1 };
      if (patience !== undefined && next.evaluationsSinceBest >= patience) next = { ...next, done: true };
      if (best) await this.#checkpoints.saveBest(next);
      await this.#emit({ type: 'evaluation', step: p.step, epoch: p.epoch, metrics, best });
    }
    this.#progress = next;
    this.#savedStep = -1; // the same step as a mid-epoch checkpoint, but a later position
    await this.#save();
    this.#rate.begun = performance.now();
  }

  async #save(): Promise<void> {
    const { step } = this.#progress;
    if (this.#savedStep === step) return;
    // What was learnt since a table's file changed is worth nothing, and would replace what is.
    await this.#model.checkUnchanged();
    const folder = await this.#checkpoints.save(this.#progress);
    if (folder === null) return;
    this.#savedStep = step;
    await this.#emit({ type: 'checkpoint', step, folder });
  }

  async #stopIfAborted(): Promise<void> {
    if (!this.#options.signal?.aborted) return;
    await this.#save();
    const where = this.#options.checkpoints ? `; go on from ${this.#options.checkpoints.folder}` : '';
    throw new FinetableError('INTERRUPTED', `interrupted after step ${this.#progress.step}${where}`, {
      step: this.#progress.step,
    });
  }

  async #emit(event: TrainingEvent): Promise<void> {
    await this.#options.onEvent?.(event);
  }
}
