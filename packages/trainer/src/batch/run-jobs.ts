/**
 * Many jobs in one process, each in a thread of its own. The rows of base files are mapped once, whatever number of jobs reads
 * them; what a job adds is its adapters, their optimiser state and its batches.
 */
import { checkOptionNames, type FinetableError, type OptionNames } from '@finetable/core';
import type { TrainingEvent } from '../fit.ts';
import type { LoadedJob } from '../job/read.ts';
import type { RunResult } from '../run/run.ts';
import type { HalvingOptions, Rung, Stopped } from './halving.ts';
import { Ladder } from './ladder.ts';
import { RunningBatch } from './running-batch.ts';

/** How many jobs run at a time, in how much memory, and what becomes of those that are there already. */
export interface RunJobsOptions {
  /** Jobs that run at a time; default one per kernel thread. */
  readonly concurrency?: number | undefined;
  /** Kernel threads of all jobs together; default those of `loadKernels`. A job's own `train.threads` wins. */
  readonly threads?: number | undefined;
  /** The most memory that running jobs may take together by their plans: bytes, `"8GiB"`, or a share; default `"75%"`. */
  readonly memory?: number | string | undefined;
  /**
   * Where a folder holds a run of the job: `resume` (default) leaves a finished one alone and goes on with one that was interrupted;
   * `overwrite` starts again.
   */
  readonly existing?: 'resume' | 'overwrite' | undefined;
  /** The first failure ends the others as a signal would. Default false. */
  readonly stopOnFailure?: boolean | undefined;
  /** Drops jobs on the way, so that the best of many cost little more than themselves. */
  readonly halving?: HalvingOptions | undefined;
  /** Told in order, job by job; not awaited. What it throws ends the batch. */
  readonly onEvent?: ((event: BatchEvent) => void) | undefined;
  /** When aborted: running jobs write checkpoints and end, others do not start. */
  readonly signal?: AbortSignal | undefined;
}

/** `job` counts from 0 in the order given. */
export type BatchEvent =
  | { readonly type: 'begin'; readonly job: number; readonly name: string; readonly folder: string }
  /** Not every tick. */
  | { readonly type: 'training'; readonly job: number; readonly name: string; readonly event: TrainingEvent }
  /** With halving: it waits at a rung, and begins again if it goes on. */
  | { readonly type: 'rung'; readonly job: number; readonly name: string; readonly rung: Rung }
  | { readonly type: 'note'; readonly job: number; readonly name: string; readonly note: string }
  | ({ readonly type: 'end'; readonly job: number } & JobOutcome);

/** How a job of {@link runJobs} ended. */
export interface JobOutcome {
  readonly name: string;
  readonly folder: string;
  /** `kept`: it was finished before. `stopped`: others were better at a rung of halving. `waiting`: it never began. */
  readonly status: 'finished' | 'kept' | 'stopped' | 'failed' | 'interrupted' | 'waiting';
  /** Of a job that is finished. */
  readonly result: RunResult | null;
  /** Of one that failed. */
  readonly error: FinetableError | null;
  /** Of one that was stopped at a rung. */
  readonly stopped?: Stopped | undefined;
}

const optionNames: OptionNames<RunJobsOptions> = {
  concurrency: true,
  threads: true,
  memory: true,
  existing: true,
  stopOnFailure: true,
  halving: true,
  onEvent: true,
  signal: true,
};

// Node 20 cannot run a worker written in TypeScript.
const defaultWorker = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/batch/worker-entry.cjs' : './worker-entry.cjs',
  import.meta.url,
).href;

/**
 * Runs jobs in threads, each in its folder (see `runFolder`). A job that fails, its thread included, does not touch the others.
 * Tables of placement `auto` stay in their files here, so that all jobs share them; `ram` is a copy for each job.
 * @returns how each job ended, in the order given
 * @throws INVALID_ARGUMENT for bad options, and for two jobs with one folder; what `onEvent` throws
 */
export async function runJobs(jobs: readonly LoadedJob[], options: RunJobsOptions = {}): Promise<JobOutcome[]> {
  return runJobsIn(defaultWorker, jobs, options);
}

/** @internal As `runJobs`; for tests, which start other threads. */
export async function runJobsIn(
  workerUrl: string,
  jobs: readonly LoadedJob[],
  options: RunJobsOptions,
): Promise<JobOutcome[]> {
  checkOptionNames('runJobs', options, optionNames);
  if (!options.halving) return new RunningBatch(workerUrl, jobs, options).run();
  return new Ladder(workerUrl, jobs, options, options.halving).run();
}
