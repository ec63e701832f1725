/**
 * Successive halving (Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016): all jobs
 * train up to a rung, a share of them goes on to the next one. Each is the whole job, with its schedule to the end, left at a
 * checkpoint: who goes on ends with the same bytes as if it had never stopped. What a job is ranked by is read from its folder, so that
 * running the batch again only does what is missing.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import type { TrainingProgress } from '../progress.ts';
import type { LoadedJob } from '../job/read.ts';
import { isBetter } from '../metrics/index.ts';
import { readLogged } from '../report/read.ts';
import { runState } from '../run/folder.ts';

/** One of both: epochs, or steps, after which jobs are compared; ascending. */
export interface HalvingOptions {
  readonly epochs?: readonly number[] | undefined;
  readonly steps?: readonly number[] | undefined;
  /** The share of jobs that goes on from each rung, rounded up; default 1/3. */
  readonly keep?: number | undefined;
  /** What they are compared by: the best evaluation up to the rung; default each job's `train.metric`. */
  readonly metric?: string | undefined;
}

/** Where jobs stop to be compared. */
export type Rung = { readonly epochs: number } | { readonly steps: number };

/** How far a job came that did not go on, and its best evaluation. */
export interface Stopped {
  readonly after: Rung;
  readonly metrics: Readonly<Record<string, number>>;
}

/** @throws INVALID_ARGUMENT, also for a job that has no evaluations, or ends before the last rung */
export function rungsOf({ epochs, steps, keep = 1 / 3 }: HalvingOptions, jobs: readonly LoadedJob[]): readonly Rung[] {
  if ((epochs === undefined) === (steps === undefined)) throw refused('epochs: allowed: either epochs or steps');
  const [field, rungs] = epochs ? ['epochs', epochs] : ['steps', steps!];
  if (rungs.length === 0 || rungs.some((n, i) => !Number.isInteger(n) || n < 1 || n <= (rungs[i - 1] ?? 0)))
    throw refused(`${field}: found ${JSON.stringify(rungs)}; allowed: integers from 1, ascending`);
  if (!(keep > 0 && keep < 1)) throw refused(`keep: found ${keep}; allowed: a number above 0 and below 1`);
  for (const { job } of jobs) {
    if (!job.data.validation) throw refused(`job ${job.name} has no data.validation to be compared by`);
    if (epochs && job.train.epochs <= epochs.at(-1)!)
      throw refused(`epochs: found ${epochs.at(-1)!}; allowed: below train.epochs of job ${job.name}, ${job.train.epochs}`); // prettier-ignore
  }
  return rungs.map((n) => (epochs ? { epochs: n } : { steps: n }));
}

/**
 * A job's best evaluation up to a rung, by the metric; null where it is not there yet.
 * @throws MISMATCH where the folder holds a run of another job
 */
export async function evaluatedAt(
  folder: string,
  loaded: LoadedJob,
  rung: Rung,
  metric: string,
): Promise<Readonly<Record<string, number>> | null> {
  const state = await runState(folder, loaded);
  if (state === 'none' || (state === 'unfinished' && !isPast(await lastProgress(folder), rung))) return null;
  const { evaluations } = await readLogged(folder);
  const before = evaluations.filter(({ step, epoch }) => ('epochs' in rung ? epoch < rung.epochs : step <= rung.steps));
  const known = before.map(({ metrics }) => metrics).filter((metrics) => metric in metrics);
  if (known.length === 0) {
    const allowed = [...new Set(before.flatMap(({ metrics }) => Object.keys(metrics)))].join(', ');
    throw refused(`${folder} has no evaluation with ${metric} by then${allowed && `; allowed: ${allowed}`}`);
  }
  return known.reduce((best, metrics) => (isBetter(metric, metrics[metric]!, best[metric]!) ? metrics : best));
}

/** Who goes on, as indices: the best, of equals the first; a metric that is NaN is the worst. */
export function survivors(values: readonly number[], metric: string, keep = 1 / 3): number[] {
  const order = values.map((_, i) => i);
  order.sort((a, b) => {
    const [x, y] = [values[a]!, values[b]!];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
    return x === y ? 0 : isBetter(metric, x, y) ? -1 : 1;
  });
  // A third of three is one, whatever rounding says.
  return order.slice(0, Math.max(1, Math.ceil(values.length * keep - 1e-9))).sort((a, b) => a - b);
}

/** Whether all that belongs to a rung has happened: a step after it has. */
function isPast(progress: Pick<TrainingProgress, 'step' | 'epoch'> | null, rung: Rung): boolean {
  if (!progress) return false;
  return 'epochs' in rung ? progress.epoch >= rung.epochs : progress.step > rung.steps;
}

/** Of the newest checkpoint. */
async function lastProgress(folder: string): Promise<TrainingProgress | null> {
  const checkpoints = join(folder, 'checkpoints');
  const names = (await readdir(checkpoints).catch(() => [])).filter((name) => name.startsWith('step-')).sort();
  const newest = names.at(-1);
  if (newest === undefined) return null;
  const text = await readFile(join(checkpoints, newest, 'progress.json'), 'utf8');
  return (JSON.parse(text) as { progress: TrainingProgress }).progress;
}

function refused(message: string): FinetableError {
  return new FinetableError('INVALID_ARGUMENT', `halving: ${message}`);
}
