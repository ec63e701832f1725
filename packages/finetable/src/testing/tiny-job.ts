/** A job that takes a second, and what it reads. Labels follow from ids, so that training has something to find. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RandomStream } from '@finetable/core';
import { writeSafetensors } from '@finetable/formats';
import { onTestFinished } from 'vitest';

export const tableRows = 120;
export const tableDim = 8;

/** An empty folder, removed when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Row v of the table holds random values, except that `spoiled` rows hold NaN. */
export async function writeTable(path: string, spoiled: readonly number[] = []): Promise<void> {
  const data = new Float32Array(tableRows * tableDim);
  new RandomStream(1, 'table').fillUniform(data, -1, 1);
  for (const row of spoiled) data[row * tableDim] = NaN;
  await writeSafetensors(path, [{ name: 'embeddings', dtype: 'F32', shape: [tableRows, tableDim], data }]);
}

/** JSON Lines: four ids of one of three classes' thirds of the table. */
function exampleLines(count: number, seed: number): string[] {
  const random = new RandomStream(seed, 'examples');
  return Array.from({ length: count }, (_, i) => {
    const label = random.below(5 * i, 3);
    const ids = Array.from(
      { length: 4 },
      (_, j) => label * (tableRows / 3) + random.below(5 * i + 1 + j, tableRows / 3),
    );
    return JSON.stringify({ ids, label: 'abc'[label] });
  });
}

export interface TinyJob {
  readonly folder: string;
  readonly job: string;
  readonly run: string;
}

/** Table, data and job in a new folder: `train.epochs` (default 2) of 20 steps, a checkpoint every 8. */
export async function writeTinyJob(
  settings: { readonly train?: object; readonly examples?: number; readonly validationExamples?: number } = {},
): Promise<TinyJob> {
  const folder = await temporaryFolder();
  const { train = {}, examples = 160, validationExamples = 24 } = settings;
  await writeTable(join(folder, 'table.safetensors'));
  await writeFile(join(folder, 'train.jsonl'), exampleLines(examples, 1).join('\n'));
  await writeFile(join(folder, 'valid.jsonl'), exampleLines(validationExamples, 2).join('\n'));
  const job = {
    name: 'tiny',
    tables: { items: { file: 'table.safetensors' } },
    data: { train: { file: 'train.jsonl' }, validation: { file: 'valid.jsonl' }, batchSize: 8, workers: 0 },
    features: { bag: { table: 'items', column: 'ids' } },
    objective: { type: 'classification', input: 'bag', label: 'label' },
    adapters: { items: { rank: 2 } },
    optimizer: { type: 'adamw', learningRate: 0.01 },
    train: { epochs: 2, seed: 7, threads: 1, logEverySteps: 5, checkpointEverySteps: 8, ...train },
  };
  await writeFile(join(folder, 'job.yaml'), JSON.stringify(job));
  return { folder, job: join(folder, 'job.yaml'), run: join(folder, 'runs', 'tiny') };
}

/** Every file and folder below, sorted. */
export async function listTree(folder: string): Promise<string[]> {
  return (await readdir(folder, { recursive: true })).sort();
}
