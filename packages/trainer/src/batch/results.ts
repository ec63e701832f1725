/** What a batch came to: one row for each job, the best first, and the same as CSV. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ioError, writeFileAtomic } from '@finetable/formats';
import { isBetter } from '../metrics/index.ts';
import { compareRuns } from '../report/compare.ts';
import type { Rung } from './halving.ts';
import type { LoadedBatch } from './read.ts';
import type { JobOutcome } from './run-jobs.ts';

/** Sizes in bytes, times in seconds; null where a job has not finished. */
export interface BatchRow {
  readonly name: string;
  readonly status: JobOutcome['status'];
  /** Of one that was stopped at a rung: `3 epochs`. */
  readonly stoppedAfter: string | null;
  /** What makes the job differ from the others: fields by path. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** The batch's metric, of the validation where there was one. */
  readonly metric: number | null;
  /** Of the validation, else of the training; of a job that was stopped, up to then. */
  readonly metrics: Readonly<Record<string, number>> | null;
  readonly seconds: number | null;
  readonly examplesPerSecond: number | null;
  readonly touchedRows: number | null;
  readonly adapterBytes: number | null;
  readonly folder: string;
  readonly error: string | null;
}

/** Rows sorted by the batch's metric; jobs without it, in their order, last. @param outcomes as `runJobs` returns them */
export function batchRows(batch: LoadedBatch, outcomes: readonly JobOutcome[]): BatchRow[] {
  const rows = outcomes.map(({ name, status, folder, result, error, stopped }, i): BatchRow => {
    const metrics = stopped?.metrics ?? (result && (result.validation ?? result.train));
    const adapters = result && Object.values(result.adapters);
    return {
      name,
      status,
      stoppedAfter: stopped ? rungName(stopped.after) : null,
      settings: batch.jobs[i]!.settings,
      metric: metrics?.[batch.metric] ?? null,
      metrics,
      seconds: result && result.seconds,
      examplesPerSecond: result && result.examplesPerSecond,
      touchedRows: adapters && adapters.reduce((sum, adapter) => sum + adapter.touchedRows, 0),
      adapterBytes: adapters && adapters.reduce((sum, adapter) => sum + adapter.adapterBytes, 0),
      folder,
      error: error && error.message,
    };
  });
  const { metric } = batch;
  return rows.sort((a, b) => {
    const [aMissing, bMissing] = [a, b].map((row) => row.metric === null || Number.isNaN(row.metric));
    if (aMissing || bMissing) return Number(aMissing) - Number(bMissing);
    if (a.metric === b.metric) return 0;
    return isBetter(metric, a.metric!, b.metric!) ? -1 : 1;
  });
}

/**
 * The best row of each baseline, the best first: each at the settings that did best by validation.
 * @param rows as `batchRows` sorts them @returns none where the jobs do not differ in their baselines
 */
export function bestOfBaselines(rows: readonly BatchRow[]): BatchRow[] {
  const best = new Map<unknown, BatchRow>();
  for (const row of rows) {
    const { baseline } = row.settings;
    if (baseline !== undefined && row.metric !== null && !best.has(baseline)) best.set(baseline, row);
  }
  return best.size > 1 ? [...best.values()] : [];
}

/** Writes `results.csv` into the batch's folder. @returns its path @throws IO */
export async function writeBatchCsv(batch: LoadedBatch, rows: readonly BatchRow[]): Promise<string> {
  const fields = [...new Set(rows.flatMap(({ settings }) => Object.keys(settings)))];
  const metrics = [...new Set(rows.flatMap((row) => Object.keys(row.metrics ?? {})))];
  const halved = rows.some(({ stoppedAfter }) => stoppedAfter !== null);
  const header = [
    'name',
    'status',
    ...(halved ? ['stoppedAfter'] : []),
    ...fields,
    ...metrics,
    'seconds',
    'examplesPerSecond',
    'touchedRows',
    'adapterBytes',
    'folder',
    'error',
  ];
  const lines = rows.map((row) => [
    row.name,
    row.status,
    ...(halved ? [row.stoppedAfter] : []),
    ...fields.map((field) => row.settings[field]),
    ...metrics.map((metric) => row.metrics?.[metric]),
    row.seconds,
    row.examplesPerSecond,
    row.touchedRows,
    row.adapterBytes,
    row.folder,
    row.error,
  ]);
  await mkdir(batch.folder, { recursive: true }).catch((error: unknown) => {
    throw ioError(error, 'writing', batch.folder);
  });
  const path = join(batch.folder, 'results.csv');
  await writeFileAtomic(path, [header, ...lines].map((line) => `${line.map(cell).join(',')}\n`).join(''));
  return path;
}

/** `3 epochs`. */
export function rungName(rung: Rung): string {
  const [count, unit] = 'epochs' in rung ? [rung.epochs, 'epoch'] : [rung.steps, 'step'];
  return `${count} ${unit}${count === 1 ? '' : 's'}`;
}

/** More curves in one chart cannot be told apart. */
const mostCompared = 24;

/** Writes `results.html`: the best runs side by side, of baselines the best of each. @returns its path; null where fewer than two are finished @throws IO */
export async function writeBatchHtml(batch: LoadedBatch, rows: readonly BatchRow[]): Promise<string | null> {
  const best = bestOfBaselines(rows);
  // Runs that were stopped have no result to be compared.
  const finished = (best.length > 0 ? best : rows).filter(({ seconds }) => seconds !== null).slice(0, mostCompared);
  if (finished.length < 2) return null;
  const path = join(batch.folder, 'results.html');
  await compareRuns(
    finished.map(({ folder }) => folder),
    path,
  );
  return path;
}

/** RFC 4180. */
function cell(value: unknown): string {
  if (value === null || value === undefined) return '';
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value as string | number | boolean);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
