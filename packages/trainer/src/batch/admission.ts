/** Which of the waiting jobs may start: as many as there are threads for, as long as their plans fit into the memory together. */
import { FinetableError, formatBytes } from '@finetable/core';
import { planJob } from '../job/plan.ts';
import type { LoadedJob } from '../job/read.ts';

/**
 * Heap, code and stack of a job's thread before any batch. Origin: with it, the plan of a job was 163 MiB, and each of eight such jobs added 164 to
 * 168 MiB to the process's peak.
 */
const threadBytes = 40 * 2 ** 20;

/**
 * The job as it runs beside others: tables whose place is left to the plan stay in their files, which all jobs map together,
 * without copies of hot rows of its own; kernel threads are its share.
 */
export function besideOthers({ job, folder }: LoadedJob, threads: number): LoadedJob {
  const tables = Object.entries(job.tables).map(([name, table]) => [
    name,
    table.placement === 'auto' && job.placement.device === 'cpu' ? { ...table, ...inFile, split: undefined } : table,
  ]);
  const placement = { ...job.placement, cache: job.placement.cache ?? 0 };
  const train = { ...job.train, threads: job.train.threads ?? threads };
  return { job: { ...job, tables: Object.fromEntries(tables) as typeof job.tables, placement, train }, folder };
}

const inFile = { placement: 'mapped' as const };

/**
 * Memory that a job adds to the process: its adapters, optimiser, batches and loader threads, and tables in RAM; rows that stay
 * in files belong to the system.
 * @throws what `planJob` throws; DOES_NOT_FIT
 */
export async function neededBytes(loaded: LoadedJob, budgetBytes: number): Promise<number> {
  const plan = await planJob(loaded);
  const ram = plan.devices.find(({ kind }) => kind === 'ram')!;
  const bytes = ram.usedBytes - plan.reserved.process! + threadBytes;
  if (bytes <= budgetBytes) return bytes;
  throw new FinetableError(
    'DOES_NOT_FIT',
    `${loaded.job.name}: needs ${formatBytes(bytes)}, but the jobs of the batch may take ${formatBytes(budgetBytes)} together; allow more memory, or make the job smaller (rank, batch size, loader threads)`,
    { name: loaded.job.name, neededBytes: bytes, budgetBytes },
  );
}
