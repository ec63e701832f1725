/** What a report is made of: the files of a finished run. */
import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Job } from '../job/schema.ts';
import { readResult, readRunJob, type RunResult } from '../run/run.ts';

export interface LoggedPoint {
  readonly step: number;
  readonly metrics: Readonly<Record<string, number>>;
}

export interface LoggedStep extends LoggedPoint {
  readonly examplesPerSecond: number;
  readonly touchedRows: number;
}

export interface LoggedEvaluation extends LoggedPoint {
  readonly epoch: number;
}

export interface FinishedRun {
  /** Its folder's name. */
  readonly label: string;
  readonly folder: string;
  readonly job: Job;
  readonly result: RunResult;
  readonly steps: readonly LoggedStep[];
  readonly evaluations: readonly LoggedEvaluation[];
}

/** @throws NOT_FOUND where the folder holds no finished run */
export async function readFinishedRun(folder: string): Promise<FinishedRun> {
  const result = await readResult(folder);
  return { ...(await readLogged(folder)), result };
}

/** The same of a run whose result is not written yet. */
export async function readLogged(folder: string): Promise<Omit<FinishedRun, 'result'>> {
  const { job } = await readRunJob(folder);
  const text = await readFile(join(folder, 'metrics.jsonl'), 'utf8').catch(() => '');
  const lines = text.split('\n').filter((line) => line !== '');
  const events = lines.map((line) => JSON.parse(line) as LoggedStep & LoggedEvaluation & { readonly type: string });
  return {
    label: basename(resolve(folder)),
    folder,
    job,
    steps: events.filter(({ type }) => type === 'step'),
    evaluations: events.filter(({ type }) => type === 'evaluation'),
  };
}
