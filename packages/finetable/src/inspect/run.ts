/** Run folders: finished, running, or interrupted and where. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isFinetableError } from '@finetable/core';
import { lockHolder, readResult, readRunJob, type RunResult } from '@finetable/trainer';
import type { RunReport } from './report.ts';

export async function inspectRun(path: string): Promise<RunReport> {
  const { job } = await readRunJob(path);
  const pid = (await lockHolder(join(path, 'lock')))?.pid ?? null;
  const result = pid === null ? await resultOf(path) : null;
  return {
    kind: 'run',
    path,
    status: pid !== null ? 'running' : result ? 'finished' : 'interrupted',
    pid,
    name: job.name,
    checkpointSteps: await checkpointSteps(join(path, 'checkpoints')),
    result,
  };
}

async function resultOf(path: string): Promise<RunResult | null> {
  try {
    return await readResult(path);
  } catch (error) {
    if (isFinetableError(error) && error.code === 'NOT_FOUND') return null;
    throw error;
  }
}

async function checkpointSteps(folder: string): Promise<number[]> {
  // A run that was interrupted before its first checkpoint has no such folder.
  const names = await readdir(folder).catch(() => []);
  return names
    .map((name) => Number(/^step-(\d+)$/.exec(name)?.[1] ?? NaN))
    .filter((step) => !Number.isNaN(step))
    .sort((a, b) => a - b);
}
