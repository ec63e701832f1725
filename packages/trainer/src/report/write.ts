/** Writes `report.html` into a run's folder. */
import { join } from 'node:path';
import { writeFileAtomic } from '@finetable/formats';
import type { RunResult } from '../run/run.ts';
import { readFinishedRun, readLogged } from './read.ts';

/**
 * Writes `report.html` into a run's folder.
 * @param result of a run that has not written it yet
 * @returns its path
 * @throws NOT_FOUND where the folder holds no finished run; IO
 */
export async function writeReport(folder: string, result?: RunResult): Promise<string> {
  const run = result ? { ...(await readLogged(folder)), result } : await readFinishedRun(folder);
  // Charts take a while to load, and many a program needs none.
  const { renderReport } = await import('./report.ts');
  const path = join(folder, 'report.html');
  await writeFileAtomic(path, renderReport(run));
  return path;
}
