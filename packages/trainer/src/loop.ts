/** The steps of one `fit`: batches, updates, and between them evaluations, checkpoints and stopping. */
import { FinetableError } from '@finetable/core';
import type { Batch, Loader } from '@finetable/data';
import { Ahead, type PreparedBatch } from './ahead.ts';
import type { Checkpoints } from './checkpoint.ts';
import type { EarlyEnd, FitOptions, TrainingEvent } from './fit.ts';
import { evaluate } from './evaluate.ts';
import { addSums, isBetter } from './metrics/index.ts';
import { orAbort } from './abort.ts';
import type { Model } from './model.ts';
import type { ParameterGroup } from './parameters.ts';
import type { TrainingProgress } from './progress.ts';
import { Update } from './update.ts';

/** One `fit`: its progress, and the steps that change it. */
export class Loop {
  readonly #loader: Loader;
  readonly #model: Model;
  readonly #group: ParameterGroup;
  readonly #options: FitOptions;
  readonly #checkpoints: Checkpoints;
  /** As the last step left it: of a step that has begun nothing is in it. */
  #progress: TrainingProgress;
  #update: Update;
  /** Its batches, which go back to the loader after it. */
  readonly #used: Batch[] = [];
  #savedStep: number;
  /** The step that this process began with, when it did, and the time that was spent before. */
  readonly #begun: { readonly step: number; readonly time: number; readonly seconds: number };
  #evaluatedTime = performance.now();
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
    this.#update = this.#nextUpdate();
    this.#savedStep = progress.step;
    this.#begun = { step: progress.step, time: performance.now(), seconds: progress.elapsedSeconds };
  }

  async run(): Promise<TrainingProgress> {
    const { epochs = 1, prefetch = true } = this.#options;
    await this.#emit(this.#startEvent(epochs));
    this.#rate.begun = performance.now();
    const { epoch, batch } = this.#progress;
    if (this.#over) return this.#progress;
    // One iteration over all epochs: the next one's batches are made while this one is evaluated.
    const batches = new Ahead(this.#model, this.#loader.batches(epoch, batch, epochs - epoch), prefetch);
    try {
      while (!this.#over) {
        await this.#epoch(batches);
        await this.#endEpoch();
      }
      await this.#checkpoints.settle();
      await this.#tellWritten();
    } finally {
      await batches.close();
    }
    return this.#progress;
  }

  get #over(): boolean {
    return this.#progress.ended !== null || this.#progress.epoch >= (this.#options.epochs ?? 1);
  }

  #startEvent(epochs: number): TrainingEvent {
    const { examples, batchesPerEpoch } = this.#loader;
    const { budget = {}, accumulateBatches = 1 } = this.#options;
    const known = Number.isFinite(examples);
    const stepsPerEpoch = known ? Math.ceil(batchesPerEpoch / accumulateBatches) : null;
    const all = stepsPerEpoch === null ? Infinity : epochs * stepsPerEpoch;
    const steps = Math.min(all, budget.steps ?? Infinity);
    return {
      type: 'start',
      epochs,
      stepsPerEpoch,
      steps: Number.isFinite(steps) ? steps : null,
      secondsLeft: budget.seconds === undefined ? null : Math.max(0, budget.seconds - this.#progress.elapsedSeconds),
      examples: known ? examples : null,
      step: this.#progress.step,
    };
  }

  /** The steps that are left of the current epoch, or until the training ends. */
  async #epoch(batches: Ahead): Promise<void> {
    const { accumulateBatches = 1, signal } = this.#options;
    const { batchesPerEpoch } = this.#loader;
    while (this.#progress.batch + this.#update.batches < batchesPerEpoch) {
      await this.#stopIfAborted();
      if (this.#update.batches === 0) {
        await this.#between();
        if (this.#progress.ended) return;
      }
      const asked = performance.now();
      const next = await orAbort(batches.next(), signal);
      // Batches may be ready every time, and a promise that is never turns the event loop: neither would signals arrive,
      // nor the batch after this one, whose rows are pooled during the step.
      await new Promise(setImmediate);
      const waited = (performance.now() - asked) / 1000;
      if (next === 'aborted') continue;
      // Of what is iterated nobody knows the end before.
      if (next === null && batchesPerEpoch === Infinity) break;
      if (next === null) {
        const found = this.#progress.batch + this.#update.batches;
        throw new FinetableError('INVALID_ARGUMENT', `the loader ended before batch ${found} of ${batchesPerEpoch}`);
      }
      await this.#train(next, waited);
      if (this.#update.batches === accumulateBatches) await this.#step();
    }
    // What is left of an epoch is a smaller step.
    if (this.#update.batches > 0) await this.#step();
    await this.#stopIfAborted();
  }

  async #train({ batch, pooled }: PreparedBatch, waited: number): Promise<void> {
    const begun = performance.now();
    this.#update.add(batch, await this.#model.train(batch, pooled));
    this.#used.push(batch);
    this.#update.waitSeconds += waited;
    this.#update.seconds += waited + (performance.now() - begun) / 1000;
  }

  async #step(): Promise<void> {
    const begun = performance.now();
    const update = this.#update;
    update.apply(this.#options.clipNorm);
    for (const batch of this.#used.splice(0)) this.#loader.recycle(batch);
    this.#update = this.#nextUpdate();
    const { batches, examples, sums, waitSeconds, tokens } = update;
    const now = performance.now();
    const p = this.#progress;
    const step = p.step + 1;
    this.#progress = {
      ...p,
      step,
      batch: p.batch + batches,
      examples: p.examples + examples,
      tokens: p.tokens + tokens,
      epochSums: addSums(p.epochSums, sums),
      epochExamples: p.epochExamples + examples,
      loggedSums: addSums(p.loggedSums, sums),
      loggedExamples: p.loggedExamples + examples,
      waitSeconds: p.waitSeconds + waitSeconds,
      seconds: p.seconds + update.seconds + (now - begun) / 1000,
      elapsedSeconds: this.#begun.seconds + (now - this.#begun.time) / 1000,
    };
    this.#rate.examples += examples;
    this.#rate.waitSeconds += waitSeconds;
    await this.#emit({ type: 'tick', step, epoch: p.epoch, loss: sums.loss! / examples });
    if (step % (this.#options.logEverySteps ?? 50) === 0) await this.#log();
    await this.#tellWritten();
  }

  #nextUpdate(): Update {
    return new Update(this.#model, this.#group, (this.#options.accumulateBatches ?? 1) > 1);
  }

  async #log(): Promise<void> {
    const { step, epoch, loggedSums, loggedExamples } = this.#progress;
    if (loggedExamples === 0) return;
    const now = performance.now();
    const { waitSeconds } = this.#rate;
    const examplesPerSecond = this.#rate.examples / ((now - this.#rate.begun) / 1000);
    const touchedRows = [...this.#model.adapters.values()].reduce((sum, adapter) => sum + adapter.touchedRows, 0);
    const metrics = this.#model.objective.metrics(loggedSums, loggedExamples);
    const memoryBytes = process.memoryUsage.rss();
    this.#progress = { ...this.#progress, loggedSums: {}, loggedExamples: 0 };
    this.#rate = { begun: now, examples: 0, waitSeconds: 0 };
    await this.#emit({ type: 'step', step, epoch, metrics, examplesPerSecond, waitSeconds, touchedRows, memoryBytes });
  }

  /** What is due after a step, or where a resumed run goes on: within an epoch. */
  async #between(): Promise<void> {
    const { step } = this.#progress;
    if (step === 0) return;
    if (this.#evaluationDue(false)) {
      this.#progress = await this.#evaluated(this.#progress);
      if (this.#progress.best?.step === step) await this.#save();
      this.#rate.begun = performance.now();
    }
    const every = this.#options.checkpoints?.everySteps;
    // The epoch's end writes its own.
    if (every && step % every === 0 && this.#progress.batch > 0) await this.#save();
    this.#progress = { ...this.#progress, ended: this.#progress.ended ?? this.#spent() };
  }

  /** The budget that is used up. */
  #spent(): EarlyEnd | null {
    const { steps = Infinity, tokens = Infinity, seconds = Infinity } = this.#options.budget ?? {};
    if (this.#progress.step >= steps) return 'steps';
    if (this.#progress.tokens >= tokens) return 'tokens';
    return this.#progress.elapsedSeconds >= seconds ? 'seconds' : null;
  }

  /** @param epochEnds rather than within one */
  #evaluationDue(epochEnds: boolean): boolean {
    const { validation, evaluateEvery: every = { epochs: 1 }, epochs = 1 } = this.#options;
    const { step, evaluatedStep, epoch, ended } = this.#progress;
    if (!validation || step === evaluatedStep) return false;
    // The last state is evaluated in any case.
    if (epochEnds && (ended !== null || epoch + 1 >= epochs)) return true;
    if (every.epochs !== undefined) return epochEnds && (epoch + 1) % every.epochs === 0;
    if (every.steps !== undefined) return step % every.steps === 0;
    return performance.now() - this.#evaluatedTime >= 1000 * every.seconds!;
  }

  /** An evaluation. @param next what the progress comes to be where it succeeds @returns that with its outcome */
  async #evaluated(next: TrainingProgress): Promise<TrainingProgress> {
    const { validation, metric = 'loss', metrics: wanted, sliceBy, patience, signal, prefetch } = this.#options;
    const p = this.#progress;
    let metrics;
    try {
      metrics = await evaluate(this.#model, validation!, { metrics: wanted, sliceBy, signal, prefetch });
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
    this.#evaluatedTime = performance.now();
    const best = !p.best || isBetter(metric, metrics[metric], p.best.metrics[metric]);
    const evaluationsSinceBest = best ? 0 : p.evaluationsSinceBest + 1;
    await this.#emit({ type: 'evaluation', step: p.step, epoch: p.epoch, metrics, best });
    return {
      ...next,
      best: best ? { step: p.step, epoch: p.epoch, metrics } : p.best,
      evaluationsSinceBest,
      evaluatedStep: p.step,
      ended: next.ended ?? (evaluationsSinceBest >= (patience ?? Infinity) ? 'patience' : null),
    };
  }

  /** The end of an epoch, or of the training within one. */
  async #endEpoch(): Promise<void> {
    await this.#log();
    const p = this.#progress;
    const complete = p.ended === null;
    if (complete && this.#begun.step === 0 && p.epoch === 0) this.#model.checkRead();
    // Complete only when it is evaluated: an abort meanwhile leaves the epoch's end to be done again.
    let next: TrainingProgress = {
      ...p,
      train: p.epochExamples > 0 ? this.#model.objective.metrics(p.epochSums, p.epochExamples) : p.train,
    };
    if (complete) next = { ...next, epoch: p.epoch + 1, batch: 0, epochSums: {}, epochExamples: 0 };
    if (this.#evaluationDue(true)) next = await this.#evaluated(next);
    this.#progress = next;
    this.#savedStep = -1; // the same step as a checkpoint within the epoch, but a later position
    await this.#save();
    this.#rate.begun = performance.now();
  }

  /** Begins a checkpoint, which is written while training goes on. */
  async #save(): Promise<void> {
    const { step } = this.#progress;
    if (this.#savedStep === step) return;
    await this.#checkpoints.settle();
    await this.#tellWritten();
    // What was learnt since a table's file changed is worth nothing, and would replace what is.
    await this.#model.checkUnchanged();
    await this.#checkpoints.save(this.#progress);
    this.#savedStep = step;
  }

  /** @throws what ended the writing of a checkpoint */
  async #tellWritten(): Promise<void> {
    for (const { step, folder } of this.#checkpoints.takeWritten())
      await this.#emit({ type: 'checkpoint', step, folder });
  }

  async #stopIfAborted(): Promise<void> {
    if (!this.#options.signal?.aborted) return;
    // A step that has begun is begun again; but what an objective keeps of its own may have seen its first batches.
    const { step } = this.#progress;
    if (this.#update.batches === 0 || !this.#model.objective.snapshot) await this.#save();
    await this.#checkpoints.settle();
    await this.#tellWritten();
    const where = this.#options.checkpoints ? `; go on from ${this.#options.checkpoints.folder}` : '';
    throw new FinetableError('INTERRUPTED', `interrupted after step ${step}${where}`, { step });
  }

  async #emit(event: TrainingEvent): Promise<void> {
    await this.#options.onEvent?.(event);
  }
}
