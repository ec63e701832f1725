/**
 * One run of a job in a folder of its own:
 *
 *     job.yaml               the job as it ran, every default written out
 *     data/                  what was found in the training data: classes, vocabularies, counts, means
 *     metrics.jsonl          one line per logged step and evaluation
 *     tensorboard/           the same as TensorBoard reads it, where the job asks for it
 *     checkpoints/           see checkpoint.ts
 *     adapter/               the result, in the sparse format; absent where nothing is adapted
 *     objective.safetensors  the objective's weights at the same moment
 *     result.json            how it ended; written last, so a run with it is complete
 *     report.html            curves and tables, for people
 *     lock                   while a process works here
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { FinetableError } from '@finetable/core';
import { foundIn, readFound, writeFound, type FoundData } from '@finetable/data';
import { sha256File, writeFileAtomic } from '@finetable/formats';
import { saveAdapters, type Adapter } from '@finetable/lora';
import { parse } from 'yaml';
import { kindOf } from '../job/objectives/index.ts';
import { OpenJob } from '../job/open.ts';
import { checkJob, type LoadedJob } from '../job/read.ts';
import type { EarlyEnd, FitResult, TrainingEvent } from '../fit.ts';
import { describeChanges, type TableChanges } from '../report/changes.ts';
import { inFolder, type ExistingRun } from './folder.ts';

/** Where a run goes, what becomes of one that is there, and who is told. */
export interface RunOptions {
  /** The run's folder; default the job's `output`, or `runs/<name>` beside the job file. */
  readonly folder?: string | undefined;
  /** What to do where the folder holds a run: refuse (default), go on from its last checkpoint, or start again. */
  readonly existing?: ExistingRun | undefined;
  /** Write `report.html`; default true. */
  readonly report?: boolean | undefined;
  /** Told what happens, in order; what it throws ends the run. */
  readonly onEvent?: (event: TrainingEvent) => unknown | undefined;
  /** Told once of each thing that is done otherwise than one may expect, in a line for people. */
  readonly onNote?: (note: string) => unknown | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** `result.json`. Sizes in bytes, times in seconds. */
export interface RunResult {
  readonly name: string;
  readonly steps: number;
  readonly epochs: number;
  readonly stoppedEarly: boolean;
  /** What ended it before its epochs were over. Absent from runs of earlier versions. */
  readonly endedBy?: EarlyEnd | null;
  /** Ids that were looked up in training. Absent from runs of earlier versions. */
  readonly tokens?: number;
  readonly train: Readonly<Record<string, number>>;
  /** The evaluation that chose the result; null without validation. */
  readonly validation: Readonly<Record<string, number>> | null;
  readonly seconds: number;
  readonly waitSeconds: number;
  readonly examplesPerSecond: number;
  readonly stepMilliseconds: number;
  readonly peakMemoryBytes: number;
  readonly tables: Readonly<
    Record<string, { readonly rows: number; readonly dim: number; readonly dtype: string; readonly bytes: number }>
  >;
  readonly adapters: Readonly<
    Record<
      string,
      {
        /** The rest first. */
        readonly groups: readonly {
          readonly name: string;
          readonly kind: string;
          readonly rank: number;
          readonly touchedRows: number;
        }[];
        readonly touchedRows: number;
        readonly adapterBytes: number;
        readonly optimizerBytes: number;
      }
    >
  >;
  readonly kernels: string;
  /** By adapted table, where training touched rows that can be read here. Absent from runs of earlier versions. */
  readonly changes?: Readonly<Record<string, TableChanges>>;
  /** Class names of the label, in index order. */
  readonly classes: Readonly<Record<string, readonly string[]>>;
  /** SHA-256 of the result's files. */
  readonly checksums: Readonly<Record<string, string>>;
}

/** The folder that a job runs in. */
export function runFolder({ job, folder }: LoadedJob): string {
  return resolve(folder, job.output ?? join('runs', job.name));
}

/**
 * Trains a job and writes its folder.
 * @throws EXISTS, LOCKED, INVALID_* (a run that ends so before its first checkpoint leaves no files), INTERRUPTED, NON_FINITE, IO
 */
export async function runJob(loaded: LoadedJob, options: RunOptions = {}): Promise<RunResult> {
  const open = await OpenJob.open(loaded);
  try {
    for (const note of open.notes) await options.onNote?.(note);
    const { job } = loaded;
    const train = await open.loader(job.data.train, 'train', null, options.signal);
    const found = foundIn(train.data);
    const validation =
      job.data.validation && (await open.loader(job.data.validation, 'evaluate', found, options.signal));
    const adapters = open.createAdapters();
    const { epochs, budget, accumulateBatches } = job.train;
    const steps = Math.min(epochs * Math.ceil(train.batchesPerEpoch / accumulateBatches), budget.steps ?? Infinity);
    const common = await open.commonDirections(train, options.signal);
    const trainer = await open.trainer(adapters, train, common, steps);
    return await inFolder(
      resolve(options.folder ?? runFolder(loaded)),
      loaded,
      options.existing ?? 'refuse',
      async (folder, logs) => {
        await keepFound(join(folder, 'data'), found, options.existing === 'resume');
        const { metric, metrics, sliceBy, patience, clipNorm, logEverySteps, prefetch } = job.train;
        const fit = await trainer.fit(train, {
          epochs,
          budget,
          accumulateBatches,
          evaluateEvery: validation && job.train.evaluateEvery,
          metric,
          metrics,
          sliceBy,
          patience,
          clipNorm,
          logEverySteps,
          prefetch,
          validation,
          signal: options.signal,
          resume: options.existing === 'resume',
          checkpoints: {
            folder: join(folder, 'checkpoints'),
            everySteps: job.train.checkpointEverySteps,
            keep: job.train.keepCheckpoints,
            identity: await kindOf(job.objective).identity?.(job.objective, loaded.folder),
          },
          onEvent: async (event) => {
            logs.write(event);
            await options.onEvent?.(event);
          },
        });
        const files = await writeArtifacts(folder, Object.values(adapters), (path) => trainer.saveObjective(path));
        const result = await describe(open, adapters, fit, train.classes, folder, files);
        if (options.report !== false) await report(folder, result, options);
        await writeFileAtomic(join(folder, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
        return result;
      },
    );
  } finally {
    await open.close();
  }
}

/** Before the result, with which a run is complete. A page that cannot be written is no reason to lose a training. */
async function report(folder: string, result: RunResult, { onNote }: RunOptions): Promise<void> {
  try {
    // Not at the top: it reads runs.
    const { writeReport } = await import('../report/write.ts');
    await writeReport(folder, result);
  } catch (error) {
    await onNote?.(`report.html was not written: ${(error as Error).message}`);
  }
}

/**
 * Metrics of a finished run's adapter and objective.
 * @param file examples as those of the training, relative to the working directory; null: `data.test` of the job
 * @throws INVALID_ARGUMENT where there is neither
 */
export async function evaluateRun(
  folder: string,
  file: string | null = null,
  signal?: AbortSignal,
): Promise<Readonly<Record<string, number>>> {
  const loaded = await readRunJob(folder);
  await readResult(folder);
  const { train, test } = loaded.job.data;
  const source = file === null ? test : { ...train, file: resolve(file), split: undefined };
  if (!source)
    throw new FinetableError('INVALID_ARGUMENT', `${folder}: its job has no data.test; give a file of examples`, {
      file: folder,
    });
  const found = await readFound(join(folder, 'data'));
  const open = await OpenJob.open(loaded);
  try {
    const loader = await open.loader(source, 'evaluate', found, signal);
    const adapters = await open.loadAdapters(join(folder, 'adapter'));
    const trainer = await open.trainer(adapters, loader);
    await trainer.loadObjective(join(folder, 'objective.safetensors'), loader);
    const { metrics, sliceBy } = loaded.job.train;
    return await trainer.evaluate(loader, { metrics, sliceBy, signal });
  } finally {
    await open.close();
  }
}

/** A resumed run must find what it found before, or its rows and classes would mean something else. */
async function keepFound(folder: string, found: FoundData, resumed: boolean): Promise<void> {
  const before = resumed && existsSync(folder) ? await readFound(folder) : found;
  if (!isDeepStrictEqual(before, found)) {
    throw new FinetableError(
      'MISMATCH',
      `${folder}: the training data has changed: its classes, vocabularies, counts or means are not those that the run began with. Put back what it was, or start again (--overwrite)`,
      { file: folder },
    );
  }
  await writeFound(folder, found);
}

/** The job of a run's folder, as it ran. @throws NOT_FOUND */
export async function readRunJob(folder: string): Promise<LoadedJob> {
  const path = join(folder, 'job.yaml');
  return { job: checkJob(parse(await readText(path, 'a run')), path), folder: resolve(folder) };
}

/** @throws NOT_FOUND where the run has not ended */
export async function readResult(folder: string): Promise<RunResult> {
  return JSON.parse(await readText(join(folder, 'result.json'), 'a finished run')) as RunResult;
}

async function readText(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new FinetableError(
      'NOT_FOUND',
      `${dirname(path)} is not ${what}: it has no ${path.slice(dirname(path).length + 1)}`,
      { file: path },
      { cause: error },
    );
  }
}

async function writeArtifacts(
  folder: string,
  adapters: readonly Adapter[],
  saveObjective: (path: string) => Promise<void>,
): Promise<string[]> {
  const files = ['objective.safetensors'];
  await saveObjective(join(folder, 'objective.safetensors'));
  if (adapters.length > 0) {
    await saveAdapters(join(folder, 'adapter'), adapters, { overwrite: true });
    files.push(...(await readdir(join(folder, 'adapter'))).map((name) => join('adapter', name)));
  }
  return files;
}

async function changesOf(
  open: OpenJob,
  adapters: Readonly<Record<string, Adapter>>,
): Promise<Record<string, TableChanges>> {
  const changes: Record<string, TableChanges> = {};
  for (const [name, adapter] of Object.entries(adapters)) {
    const found = await describeChanges(adapter, name, open.loaded);
    if (found) changes[name] = found;
  }
  return changes;
}

async function describe(
  open: OpenJob,
  adapters: Readonly<Record<string, Adapter>>,
  fit: FitResult,
  classes: Readonly<Record<string, readonly string[]>>,
  folder: string,
  files: readonly string[],
): Promise<RunResult> {
  const checksums: Record<string, string> = {};
  for (const file of files) checksums[file] = await sha256File(join(folder, file));
  return {
    name: open.loaded.job.name,
    steps: fit.steps,
    epochs: fit.epochs,
    stoppedEarly: fit.stoppedEarly,
    endedBy: fit.endedBy,
    tokens: fit.tokens,
    train: fit.train,
    validation: fit.best?.metrics ?? null,
    seconds: fit.seconds,
    waitSeconds: fit.waitSeconds,
    examplesPerSecond: fit.examples / fit.seconds,
    stepMilliseconds: (1000 * fit.seconds) / fit.steps,
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    tables: Object.fromEntries(
      Object.entries(open.tables).map(([name, { rows, dim, dtype, sizeBytes }]) => [
        name,
        { rows, dim, dtype, bytes: sizeBytes },
      ]),
    ),
    adapters: Object.fromEntries(
      Object.entries(adapters).map(([name, { groups, touchedRows, memory }]) => [
        name,
        {
          groups: groups.map((group) => ({
            name: group.name,
            kind: group.kind,
            rank: group.rank,
            touchedRows: group.touchedRows,
          })),
          touchedRows,
          adapterBytes: memory.adapterBytes,
          optimizerBytes: memory.optimizerBytes + memory.slotBytes,
        },
      ]),
    ),
    kernels: open.kernels.description,
    changes: await changesOf(open, adapters),
    classes,
    checksums,
  };
}
