/** What a training may be told, and what it tells: options, events and result of `Trainer.fit`. */
import { checkOptionNames, FinetableError, type OptionNames } from '@finetable/core';
import type { Loader } from '@finetable/data';
import { findMetrics } from './evaluate.ts';

/** One of them. */
export interface EvaluateEvery {
  /** Steps of the optimiser. */
  readonly steps?: number | undefined;
  readonly epochs?: number | undefined;
  /** Since the last evaluation. */
  readonly seconds?: number | undefined;
}

/** The training ends with the first step that reaches one of these. */
export interface Budget {
  /** Steps of the optimiser. */
  readonly steps?: number | undefined;
  /** Since the beginning, evaluations and checkpoints included, without the time between an interruption and going on. */
  readonly seconds?: number | undefined;
  /** Ids that are looked up in training, of all tables: tokens, where they are of text. */
  readonly tokens?: number | undefined;
}

/** What ended a training before its epochs were over: no better evaluation, or a budget. */
export type EarlyEnd = 'patience' | keyof Budget;

/** How long, how often, and what is kept of a training. */
export interface FitOptions {
  /** Default 1. */
  readonly epochs?: number | undefined;
  /** Evaluated at the end of every epoch, or as `evaluateEvery` says. */
  readonly validation?: Loader | undefined;
  /** When to evaluate; the last state is in any case. With seconds, which state is chosen differs from run to run. Needs `validation`. */
  readonly evaluateEvery?: EvaluateEvery | undefined;
  /** Ends the training before its epochs are over. */
  readonly budget?: Budget | undefined;
  /**
   * Batches that make one optimiser step, by the mean over all their examples: for a loss that is a mean over examples the same
   * step as of one batch so large. What is left at the end of an epoch is a smaller step. Default 1.
   */
  readonly accumulateBatches?: number | undefined;
  /** Of evaluations, beside the objective's own; see `EvaluateOptions`. */
  readonly metrics?: readonly string[] | undefined;
  readonly sliceBy?: readonly string[] | undefined;
  /** The validation metric that chooses the best state, also of a slice; default `loss`. */
  readonly metric?: string | undefined;
  /** Evaluations without a better metric after which training stops; default: never. Needs `validation`. */
  readonly patience?: number | undefined;
  /** The most that the norm of all gradients of a step together, factors, magnitudes and objective, may be; larger ones are scaled to it. */
  readonly clipNorm?: number | undefined;
  /** Steps between `step` events; default 50. */
  readonly logEverySteps?: number | undefined;
  /**
   * A folder for checkpoints of this training alone; default: none are written. They are written while training goes on, and one
   * waits for the one before.
   */
  readonly checkpoints?: {
    readonly folder: string;
    /** Steps between two; one is written at the end of every epoch too, and of each evaluation that is the best so far. */
    readonly everySteps: number;
    /** How many of the last ones stay; default 2. */
    readonly keep?: number | undefined;
    /** Anything that a resumed run must find unchanged, beside what the loader's batches depend on (`position.data`). */
    readonly identity?: Readonly<Record<string, string | number>> | undefined;
  };
  /** Go on from the newest good checkpoint in the folder, where there is one. Default false. */
  readonly resume?: boolean | undefined;
  /**
   * Take the next batch while the current one trains, and pool its base rows where they are not all in RAM; the results are
   * the same without. Default true. It takes memory for one batch more.
   */
  readonly prefetch?: boolean | undefined;
  /** Told what happens, in order; what it throws ends the training. */
  readonly onEvent?: (event: TrainingEvent) => unknown | undefined;
  /** When aborted: a checkpoint is written and INTERRUPTED thrown. */
  readonly signal?: AbortSignal | undefined;
}

/** What happens in a training, in order. */
export type TrainingEvent =
  | {
      readonly type: 'start';
      readonly epochs: number;
      /** Null where examples are iterated, and nobody knows. */
      readonly stepsPerEpoch: number | null;
      /** Of the whole training, at most. */
      readonly steps: number | null;
      /** Of the time budget; null without one. */
      readonly secondsLeft: number | null;
      readonly examples: number | null;
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
      /** Time in which the loader was waited for, since the last such event. */
      readonly waitSeconds: number;
      readonly touchedRows: number;
      /** Of the process, as the system counts it (RSS). */
      readonly memoryBytes: number;
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
  /** Complete on the disk; later steps may have been told of before. */
  | { readonly type: 'checkpoint'; readonly step: number; readonly folder: string };

/** The evaluation with the best metric so far. */
export interface BestEvaluation {
  readonly step: number;
  readonly epoch: number;
  readonly metrics: Readonly<Record<string, number>>;
}

/** How a training ended. */
export interface FitResult {
  readonly steps: number;
  /** Epochs finished. */
  readonly epochs: number;
  readonly examples: number;
  /** Ids that were looked up. */
  readonly tokens: number;
  /** Means over the last epoch's training examples. */
  readonly train: Readonly<Record<string, number>>;
  /** The best evaluation, whose state the model is left in; null without validation. */
  readonly best: BestEvaluation | null;
  readonly stoppedEarly: boolean;
  /** What ended it before its epochs were over; null where nothing did. */
  readonly endedBy: EarlyEnd | null;
  /** Time in training steps and waiting for the loader, earlier parts of a resumed run included; evaluations and checkpoints are not. */
  readonly seconds: number;
  /** Of these, waiting for the loader. */
  readonly waitSeconds: number;
}

const fitNames: OptionNames<FitOptions> = {
  epochs: true,
  validation: true,
  metric: true,
  metrics: true,
  sliceBy: true,
  evaluateEvery: true,
  budget: true,
  accumulateBatches: true,
  patience: true,
  clipNorm: true,
  logEverySteps: true,
  checkpoints: true,
  resume: true,
  prefetch: true,
  onEvent: true,
  signal: true,
};
const checkpointNames: OptionNames<NonNullable<FitOptions['checkpoints']>> = {
  folder: true,
  everySteps: true,
  keep: true,
  identity: true,
};

const budgetNames: OptionNames<Budget> = { steps: true, seconds: true, tokens: true };
const everyNames: OptionNames<EvaluateEvery> = { steps: true, epochs: true, seconds: true };

/** @throws INVALID_ARGUMENT naming the option */
export function checkFitOptions(options: FitOptions): void {
  checkOptionNames('fit', options, fitNames);
  const {
    epochs = 1,
    patience,
    validation,
    logEverySteps = 50,
    checkpoints,
    clipNorm,
    accumulateBatches = 1,
  } = options;
  const { evaluateEvery, budget = {} } = options;
  findMetrics(options.metrics ?? []);
  if (checkpoints) checkOptionNames('fit: checkpoints', checkpoints, checkpointNames);
  checkOptionNames('fit: budget', budget, budgetNames);
  const often: EvaluateEvery = evaluateEvery ?? { epochs: 1 };
  checkOptionNames('fit: evaluateEvery', often, everyNames);
  if (Object.values(often).filter((value) => value !== undefined).length !== 1)
    throw new FinetableError('INVALID_ARGUMENT', 'fit: evaluateEvery; allowed: one of steps, epochs and seconds');
  const counts = {
    epochs,
    logEverySteps,
    accumulateBatches,
    'evaluateEvery.steps': often.steps ?? 1,
    'evaluateEvery.epochs': often.epochs ?? 1,
    'budget.steps': budget.steps ?? 1,
    'budget.tokens': budget.tokens ?? 1,
    patience: patience ?? 1,
    'checkpoints.everySteps': checkpoints?.everySteps ?? 1,
    'checkpoints.keep': checkpoints?.keep ?? 1,
  };
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isInteger(value) || value < 1)
      throw new FinetableError('INVALID_ARGUMENT', `fit: ${name} ${value}; allowed: an integer of 1 or more`);
  }
  const numbers = { clipNorm, 'evaluateEvery.seconds': often.seconds, 'budget.seconds': budget.seconds };
  for (const [name, value] of Object.entries(numbers)) {
    if (value !== undefined && !(value > 0 && Number.isFinite(value)))
      throw new FinetableError('INVALID_ARGUMENT', `fit: ${name} ${value}; allowed: a number above 0`);
  }
  for (const [name, value] of Object.entries({ patience, evaluateEvery })) {
    if (value !== undefined && !validation)
      throw new FinetableError('INVALID_ARGUMENT', `fit: ${name} needs validation data`);
  }
}
