/** From a batch file to its jobs, each checked. */
import { basename, dirname, resolve } from 'node:path';
import { FinetableError } from '@finetable/core';
import { checkJob, checkSchema, readYaml, setField, type LoadedJob } from '../job/read.ts';
import { rungsOf, type HalvingOptions } from './halving.ts';
import { batchSchema, type JobOfBatch } from './schema.ts';
import { variantsOf } from './variants.ts';

/** A batch file, read and checked. */
export interface LoadedBatch {
  readonly name: string;
  /** Of its tables and of the runs, each of which has a folder in it. Absolute. */
  readonly folder: string;
  readonly jobs: readonly BatchJob[];
  readonly metric: string;
  readonly concurrency: number | undefined;
  readonly memory: number | string | undefined;
  readonly stopOnFailure: boolean;
  /** By the batch's metric. */
  readonly halving: HalvingOptions | undefined;
}

/** A job of a batch. */
export interface BatchJob {
  readonly loaded: LoadedJob;
  /** What makes it differ from the others: fields by path. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/**
 * Reads a batch file and makes its jobs, every one of which is checked.
 * @throws NOT_FOUND, INVALID_JOB naming the batch's field or the job's
 */
export async function readBatch(path: string): Promise<LoadedBatch> {
  const input = await readYaml(path, 'a batch is a mapping (jobs, or base with grid, baselines or random)');
  return checkBatch(input, dirname(resolve(path)), basename(path).replace(/\.[^.]*$/, ''), path);
}

/**
 * As {@link readBatch}, of a batch given as an object.
 * @param folder that its paths are relative to @param fallback its name where it does not say one @param where what it is called in errors
 */
export async function checkBatch(
  input: unknown,
  folder: string,
  fallback = 'batch',
  where = 'batch',
): Promise<LoadedBatch> {
  const batch = checkSchema(batchSchema, input, where);
  const batchName = batch.name ?? fallback.replaceAll(/[^A-Za-z0-9._-]/g, '-');
  const output = resolve(folder, batch.output ?? `runs/${batchName}`);
  const bases = new Map<unknown, Base>();
  const jobs: BatchJob[] = [];
  for (const { base, name, settings } of variantsOf(batch, where)) {
    const from = base ?? batch.base!;
    if (!bases.has(from)) bases.set(from, await readBase(from, folder));
    const { input, folder: jobFolder, where: jobWhere } = bases.get(from)!;
    const own = structuredClone(input);
    for (const [field, value] of Object.entries({ ...batch.set, ...settings }))
      setField(own, pathOf(field, where), value, where);
    const jobName = name ?? (own.name as string);
    // In its run's folder the job says nothing of where that is.
    const job = checkJob({ ...own, name: jobName }, name === null ? jobWhere : `${jobWhere} as ${jobName}`);
    jobs.push({ loaded: { job: { ...job, output: resolve(output, jobName) }, folder: jobFolder }, settings });
  }
  refuseDoubles(jobs, where);
  const { metric = jobs[0]!.loaded.job.train.metric, concurrency, memory, stopOnFailure } = batch;
  const halving = batch.halving && { ...batch.halving, metric };
  if (halving) checkHalving(halving, jobs, where);
  return { name: batchName, folder: output, jobs, metric, concurrency, memory, stopOnFailure, halving };
}

function checkHalving(halving: HalvingOptions, jobs: readonly BatchJob[], where: string): void {
  try {
    rungsOf(halving, jobs.map(({ loaded }) => loaded)); // prettier-ignore
  } catch (error) {
    throw new FinetableError('INVALID_JOB', `${where}: ${(error as Error).message}`, { path: 'halving' });
  }
}

interface Base {
  readonly input: Record<string, unknown>;
  readonly folder: string;
  readonly where: string;
}

async function readBase(base: JobOfBatch, folder: string): Promise<Base> {
  if (typeof base !== 'string') return { input: base, folder, where: 'job' };
  const path = resolve(folder, base);
  const input = await readYaml(path, 'a job is a mapping (name, tables, data, …)');
  return { input, folder: dirname(path), where: path };
}

function pathOf(field: string, where: string): string[] {
  const path = field.split('.');
  if (path.every((key) => key !== '' && key !== '__proto__') && path[0] !== 'output') return path;
  throw new FinetableError(
    'INVALID_JOB',
    `${where}: ${field}: allowed: a field of the job by its path, such as train.epochs, but output`,
    { path: field },
  );
}

function refuseDoubles(jobs: readonly BatchJob[], where: string): void {
  const seen = new Set<string>();
  for (const { loaded } of jobs) {
    const { name } = loaded.job;
    if (seen.has(name))
      throw new FinetableError(
        'INVALID_JOB',
        `${where}: two jobs are named ${name}; give one another name (jobs: name)`,
        { path: 'jobs' },
      );
    seen.add(name);
  }
}
