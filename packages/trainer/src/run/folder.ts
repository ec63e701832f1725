/** A run's folder: held by one process, prepared for a new or a resumed run, and left empty by one that never got anywhere. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { FinetableError, isFinetableError } from '@finetable/core';
import { ioError, removeLeftovers, writeFileAtomic } from '@finetable/formats';
import { parse, stringify } from 'yaml';
import { kindOf } from '../job/objectives/index.ts';
import { featurePaths, mapPaths, negativesPaths } from '../job/paths.ts';
import type { LoadedJob } from '../job/read.ts';
import type { Job } from '../job/schema.ts';
import { lockFolder } from './lock.ts';
import { RunLogs } from './logs.ts';

/** What to do where a folder holds a run: refuse, go on from its last checkpoint, or start again. */
export type ExistingRun = 'refuse' | 'resume' | 'overwrite';

/** Prepares the folder, holds its lock, keeps its metrics log, and removes what a run that never got anywhere made. */
export async function inFolder<T>(
  folder: string,
  loaded: LoadedJob,
  existing: ExistingRun,
  body: (folder: string, logs: RunLogs) => Promise<T>,
): Promise<T> {
  if (!['refuse', 'resume', 'overwrite'].includes(existing)) {
    // Anything unknown must not come to mean `overwrite`.
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `existing: found ${JSON.stringify(existing)}; allowed: refuse, resume, overwrite`,
    );
  }
  const firstMade = await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw ioError(error, 'writing', folder);
  });
  const unlock = await lockFolder(join(folder, 'lock')).catch(async (error: unknown) => {
    if (firstMade !== undefined) await removeEmpty(folder, firstMade);
    throw error;
  });
  const logs = new RunLogs(folder, loaded.job.train.tensorboard);
  let fresh = false;
  try {
    fresh = await prepare(folder, loaded, existing);
    const result = await body(folder, logs);
    await unlock();
    return result;
  } catch (error) {
    const failedEarly =
      fresh && isFinetableError(error) && error.code !== 'INTERRUPTED' && !(await hasCheckpoint(folder));
    if (failedEarly) await clear(folder);
    await unlock();
    if (failedEarly && firstMade !== undefined) await removeEmpty(folder, firstMade);
    throw error;
  } finally {
    await logs.close();
  }
}

/**
 * What a folder holds of this job.
 * @throws MISMATCH where it holds a run of another job
 */
export async function runState(folder: string, loaded: LoadedJob): Promise<'none' | 'unfinished' | 'finished'> {
  const written = await readFile(join(folder, 'job.yaml'), 'utf8').catch(() => null);
  if (written === null) return 'none';
  checkSame(folder, written, loaded);
  return existsSync(join(folder, 'result.json')) ? 'finished' : 'unfinished';
}

/** @throws MISMATCH naming the first field that differs */
function checkSame(folder: string, written: string, loaded: LoadedJob): void {
  const path = join(folder, 'job.yaml');
  const changed = firstDifference(parse(written), parse(stringify(absolutePaths(loaded, folder))));
  if (changed) {
    throw new FinetableError(
      'MISMATCH',
      `${path}: the run was started with ${changed}; a resumed run keeps its job. Overwrite it (--overwrite), or choose another folder (--run)`,
      { file: path },
    );
  }
}

/** @returns true where the run starts from nothing */
async function prepare(folder: string, loaded: LoadedJob, existing: ExistingRun): Promise<boolean> {
  const jobPath = join(folder, 'job.yaml');
  const written = await readFile(jobPath, 'utf8').catch(() => null);
  const names = (await readdir(folder)).filter((name) => !name.startsWith('lock') && !name.startsWith('.finetable-'));
  if (written === null && names.length > 0) {
    throw new FinetableError(
      'EXISTS',
      `${folder} is not empty and not a run (${names.slice(0, 3).join(', ')}); choose another folder`,
      { file: folder },
    );
  }
  if (written !== null && existing === 'refuse') {
    const finished = names.includes('result.json');
    const remedy = finished
      ? 'overwrite it (--overwrite), or choose another folder (--run)'
      : 'resume it (--resume), overwrite it (--overwrite), or choose another folder (--run)';
    throw new FinetableError('EXISTS', `${folder} holds ${finished ? 'a finished' : 'an unfinished'} run; ${remedy}`, {
      file: folder,
      finished,
    });
  }
  if (written !== null && existing === 'resume') {
    checkSame(folder, written, loaded);
    await removeLeftovers(folder);
    return false;
  }
  await clear(folder);
  await writeFileAtomic(jobPath, stringify(absolutePaths(loaded, folder)));
  return true;
}

/** Fields that may differ when a run is resumed: they change no result. */
const free =
  /^(data\.(workers|prefetchBatches|prefetchBytes|taskSeconds|cache|test)|train\.(threads|keepCheckpoints|prefetch|tensorboard)|placement|tables\.[^]+\.(placement|frequencies|sortedByFrequency|split)|report)$/;

function firstDifference(before: unknown, now: unknown, path = ''): string | null {
  if (free.test(path)) return null;
  if (isObject(before) && isObject(now)) {
    for (const key of new Set([...Object.keys(before), ...Object.keys(now)])) {
      const found = firstDifference(before[key], now[key], path ? `${path}.${key}` : key);
      if (found) return found;
    }
    return null;
  }
  const [a, b] = [JSON.stringify(before), JSON.stringify(now)];
  return a === b ? null : `${path} = ${a ?? 'nothing'}, now it is ${b ?? 'nothing'}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** The job with its paths made relative to the run's folder, where its copy lies. */
function absolutePaths({ job, folder }: LoadedJob, to: string): Job {
  const move = (path: string): string => (isAbsolute(path) ? path : relative(to, resolve(folder, path)));
  const moved = structuredClone(job) as Mutable<Job>;
  delete moved.output;
  for (const table of Object.values(moved.tables)) {
    table.file = move(table.file);
    if (table.grow && 'vectors' in table.grow) table.grow.vectors = move(table.grow.vectors);
    if (table.frequencies && 'counts' in table.frequencies) table.frequencies.counts = move(table.frequencies.counts);
  }
  for (const source of [moved.data.train, moved.data.validation, moved.data.test])
    if (source) source.file = mapPaths(source.file, move);
  for (const [name, feature] of Object.entries(job.features))
    moved.features[name] = featurePaths(feature, move) as Mutable<typeof feature>;
  for (const [name, negatives] of Object.entries(job.negatives))
    moved.negatives[name] = negativesPaths(negatives, move);
  moved.objective = (kindOf(job.objective).movePaths?.(job.objective, move) ?? job.objective) as Mutable<
    Job['objective']
  >;
  return moved;
}

type Mutable<T> = { -readonly [K in keyof T]: Mutable<T[K]> };

const ours = [
  'job.yaml',
  'data',
  'metrics.jsonl',
  'tensorboard',
  'checkpoints',
  'adapter',
  'objective.safetensors',
  'report.html',
  'result.json',
];

/** Removes a run's files; `result.json` first, so that a half-removed run does not look finished. */
async function clear(folder: string): Promise<void> {
  for (const name of [...ours].reverse()) await rm(join(folder, name), { recursive: true, force: true });
  await removeLeftovers(folder);
}

async function hasCheckpoint(folder: string): Promise<boolean> {
  const names = await readdir(join(folder, 'checkpoints')).catch(() => []);
  return names.some((name) => name.startsWith('step-'));
}

/** Removes `folder` and the parents that were made with it, up to `top`, as long as they are empty. */
async function removeEmpty(folder: string, top: string): Promise<void> {
  for (let at = folder; at.startsWith(top); at = dirname(at)) {
    try {
      await rmdir(at);
    } catch {
      return;
    }
  }
}
