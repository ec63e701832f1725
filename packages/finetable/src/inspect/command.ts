/** `finetable inspect`: finds out what a file or folder is, and tells what it holds. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FinetableError } from '@finetable/core';
import { readJob } from '@finetable/trainer';
import { isKerasFile } from '../convert/keras.ts';
import { writeJson } from '../failure.ts';
import type { Io } from '../io.ts';
import type { InspectOptions } from '../program.ts';
import { inspectAdapter } from './adapter.ts';
import { inspectData } from './data.ts';
import { describeReport } from './describe.ts';
import { inspectKeras } from './keras.ts';
import type { Report } from './report.ts';
import { inspectRun } from './run.ts';
import { inspectNpy, inspectSafetensors } from './tensors.ts';
import { inspectWords } from './words.ts';

export async function inspectCommand(path: string, { json }: InspectOptions, io: Io): Promise<void> {
  const report = await inspect(path, io.signal);
  if (json) writeJson(io, report);
  else io.stdout.write(describeReport(report));
}

/** By what is in a folder, and by a file's ending. Word vectors have no ending of their own: they are the rest. */
export async function inspect(path: string, signal: AbortSignal): Promise<Report> {
  if (await isFolder(path)) return (await isThere(join(path, 'job.yaml'))) ? inspectRun(path) : inspectAdapter(path);
  if (/\.(safetensors|index\.json)$/.test(path)) return inspectSafetensors(path);
  if (path.endsWith('.npy')) return inspectNpy(path);
  if (isKerasFile(path)) return inspectKeras(path);
  if (/\.(jsonl|ndjson|csv|tsv|parquet|arrows?|feather)(\.(gz|zst))?$/i.test(path)) return inspectData(path, signal);
  if (/\.(ya?ml|json)$/.test(path)) return { kind: 'job', path, job: (await readJob(path)).job };
  return inspectWords(path);
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    throw new FinetableError('NOT_FOUND', `${path}: no such file or folder`, { file: path }, { cause: error });
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
