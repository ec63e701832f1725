/**
 * The trainer: builds a model from tables, adapters and an objective, and trains it on a loader's batches. It only composes;
 * what it composes does not know it.
 */
import { checkOptionNames, FinetableError, type OptionNames } from '@finetable/core';
import type { Loader } from '@finetable/data';
import type { OptimizerSpec } from '@finetable/lora';
import { Checkpoints } from './checkpoint.ts';
import { checkFitOptions, type FitOptions, type FitResult } from './fit.ts';
import { evaluate, type EvaluateOptions } from './evaluate.ts';
import { Loop } from './loop.ts';
import { Model, type ModelOptions } from './model.ts';
import { ParameterGroup } from './parameters.ts';
import { startProgress } from './progress.ts';

/** What a trainer trains, and by which optimiser. */
export interface TrainerOptions extends ModelOptions {
  readonly optimizer: OptimizerSpec;
}

const trainerNames: OptionNames<TrainerOptions> = { tables: true, adapters: true, objective: true, optimizer: true };

/** Trains adapters and an objective on batches: lookup, loss, gradients, update. Owns the optimiser's state; tables, adapters and loaders stay the caller's. */
export class Trainer {
  readonly #options: TrainerOptions;
  #built: { model: Model; group: ParameterGroup } | null = null;
  #fitting = false;

  /** @throws INVALID_ARGUMENT for an unknown option */
  constructor(options: TrainerOptions) {
    checkOptionNames('Trainer', options, trainerNames);
    this.#options = options;
  }

  /**
   * Trains on a loader's epochs. With `validation`, the state of the best evaluation is put back at the end.
   * A second `fit` goes on training what the first one left. Where there is nothing to train, no adapter and no parameter of the
   * objective, one epoch tells how good that is.
   * @throws NON_FINITE, INVALID_DATA, INTERRUPTED, EXISTS (checkpoints of an earlier training, without `resume`), MISMATCH (a
   *   checkpoint or validation data of something else), INVALID_ARGUMENT, IO
   */
  async fit(loader: Loader, options: FitOptions = {}): Promise<FitResult> {
    checkFitOptions(options);
    if (this.#fitting)
      throw new FinetableError('INVALID_ARGUMENT', 'fit: the trainer is in another fit; await that one first');
    const { model, group } = this.#build(loader);
    if (options.validation) model.check(options.validation.data, options.validation.classes);
    const checkpoints = new Checkpoints(model, group, options.checkpoints ?? null, loader.position.data);
    this.#fitting = true;
    let progress;
    try {
      await model.checkUnchanged();
      const begun = (options.resume ? await checkpoints.restore() : await checkpoints.expectNone()) ?? startProgress;
      // What cannot learn is the same in every epoch.
      const learns = model.adapters.size > 0 || model.parameters.length > 0 || model.objective.update !== undefined;
      const given = learns ? options : { ...options, epochs: 1 };
      progress = await new Loop(loader, model, group, given, checkpoints, begun).run();
      if (progress.best) await checkpoints.restoreBest(progress.best);
    } finally {
      this.#fitting = false;
      await checkpoints.close();
    }
    const endedBy = progress.epoch < (options.epochs ?? 1) ? progress.ended : null;
    return {
      steps: progress.step,
      epochs: progress.epoch,
      examples: progress.examples,
      tokens: progress.tokens,
      train: progress.train,
      best: progress.best,
      stoppedEarly: endedBy !== null,
      endedBy,
      seconds: progress.seconds,
      waitSeconds: progress.waitSeconds,
    };
  }

  /** Metrics over one pass of a loader. */
  async evaluate(loader: Loader, options: EvaluateOptions = {}): Promise<Readonly<Record<string, number>>> {
    return evaluate(this.#build(loader).model, loader, options);
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
      this.#built.model.check(loader.data, loader.classes);
      return this.#built;
    }
    const model = new Model(this.#options, loader.data, loader.classes);
    const { optimizer, objective } = this.#options;
    for (const adapter of model.adapters.values()) adapter.startTraining(optimizer);
    const group = new ParameterGroup(model.parameters, objective, optimizer);
    this.#built = { model, group };
    return this.#built;
  }
}
