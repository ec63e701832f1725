/** How far a training is: everything beside the model that going on needs. JSON, kept in checkpoints. */
import type { BestEvaluation, EarlyEnd } from './fit.ts';
import type { MetricSums } from './objective.ts';

export interface TrainingProgress {
  readonly step: number;
  /** The next batch: its epoch and its index there. */
  readonly epoch: number;
  readonly batch: number;
  readonly examples: number;
  /** Ids that were looked up. */
  readonly tokens: number;
  readonly epochSums: MetricSums;
  readonly epochExamples: number;
  /** Since the last `step` event. */
  readonly loggedSums: MetricSums;
  readonly loggedExamples: number;
  readonly train: Readonly<Record<string, number>>;
  readonly best: BestEvaluation | null;
  readonly evaluationsSinceBest: number;
  /** The step of the last evaluation; 0 before there is one. */
  readonly evaluatedStep: number;
  /** What ended it before its epochs were over. */
  readonly ended: EarlyEnd | null;
  /** In steps, waiting for batches included. */
  readonly seconds: number;
  readonly waitSeconds: number;
  /** Since the beginning, evaluations and checkpoints included, without the time between an interruption and going on. */
  readonly elapsedSeconds: number;
}

export const startProgress: TrainingProgress = {
  step: 0,
  epoch: 0,
  batch: 0,
  examples: 0,
  tokens: 0,
  epochSums: {},
  epochExamples: 0,
  loggedSums: {},
  loggedExamples: 0,
  train: {},
  best: null,
  evaluationsSinceBest: 0,
  evaluatedStep: 0,
  ended: null,
  seconds: 0,
  waitSeconds: 0,
  elapsedSeconds: 0,
};
