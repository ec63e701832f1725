/**
 * Training: objectives, the loop, checkpoints and job files.
 *
 * @example
 * ```ts
 * const trainer = new Trainer({
 *   adapters: { words: createAdapter(words, { rank: 8, alpha: 16 }) },
 *   objective: classification({ input: 'text', label: 'intent' }),
 *   optimizer: adamw({ learningRate: 0.01 }),
 * });
 * const { best } = await trainer.fit(loader, { epochs: 5, validation });
 * ```
 * @module
 */
export { Trainer, type TrainerOptions } from './trainer.ts';
export type { BestEvaluation, Budget, EarlyEnd, EvaluateEvery, FitOptions, FitResult, TrainingEvent } from './fit.ts';
export type { ModelOptions } from './model.ts';
export type {
  DenseParameter,
  DeviceObjective,
  Evaluated,
  MetricSums,
  Objective,
  ObjectiveContext,
  ObjectiveSnapshot,
  ObjectiveTensor,
} from './objective.ts';
export { classification, type ClassificationOptions } from './objectives/classification.ts';
export { contrastive, type ContrastiveOptions, type MatryoshkaOptions } from './objectives/contrastive.ts';
export { ctr, type CtrOptions } from './objectives/ctr.ts';
export { custom, type CustomLoss, type CustomOptions } from './objectives/custom.ts';
export { graph, type GraphOptions } from './objectives/graph.ts';
export { mapped, type MapOptions } from './objectives/mapped.ts';
export { commonDirections, withoutCommon } from './objectives/without-common.ts';
export { ranking, type RankingOptions } from './objectives/ranking.ts';
export { cbow, skipgram, type WordVectorOptions } from './objectives/skipgram.ts';
export { similarity, type SimilarityOptions } from './objectives/similarity.ts';
export { exampleBatch, checkGradients, type CheckedGradient, type CheckGradientsOptions } from './check-gradients.ts';
export type { EvaluateOptions } from './evaluate.ts';
export { metricNames } from './metrics/index.ts';
export type {
  ClassOutputs,
  LabelSetOutputs,
  Outputs,
  PairOutputs,
  QueryOutputs,
  RetrievalOutputs,
  ScoreOutputs,
} from './metrics/outputs.ts';
export type { ObjectiveModule, ObjectiveModuleContext } from './job/objectives/module.ts';
export { batchJsonSchema, jobJsonSchema } from './job/json-schema.ts';
export { planJob, type JobPlan } from './job/plan.ts';
export { checkJob, readJob, type LoadedJob } from './job/read.ts';
export type { Job, JobInput } from './job/schema.ts';
export { evaluateRun, readResult, readRunJob, runFolder, runJob, type RunOptions, type RunResult } from './run/run.ts';
export { batchRows, bestOfBaselines, rungName, writeBatchCsv, writeBatchHtml, type BatchRow } from './batch/results.ts';
export { checkBatch, readBatch, type BatchJob, type LoadedBatch } from './batch/read.ts';
export type { HalvingOptions, Rung, Stopped } from './batch/halving.ts';
export { runJobs, type BatchEvent, type JobOutcome, type RunJobsOptions } from './batch/run-jobs.ts';
export { openEmbedder, type EmbeddedPart, type Embedder, type EmbedInput, type EmbedOptions } from './embed/embed.ts';
export { writeReport } from './report/write.ts';
export { compareRuns, comparisonRows, type ComparedRun } from './report/compare.ts';
export type { Neighbour, Probe, TableChanges } from './report/changes.ts';
export type { ExistingRun } from './run/folder.ts';
export type { FoundDevice, JobDevice } from './job/device.ts';
export { lockHolder } from './run/lock.ts';
