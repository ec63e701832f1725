/** `finetable plan`: where a job's tables would lie and what memory it would take, before any is taken. */
import { planJob, readJob } from '@finetable/trainer';
import { writeJson } from '../failure.ts';
import type { Io } from '../io.ts';
import type { PlanOptions } from '../program.ts';
import { describePlan } from './describe.ts';

export async function plan(jobFile: string, options: PlanOptions, io: Io): Promise<void> {
  const found = await planJob(await readJob(jobFile, options.set));
  if (options.json) writeJson(io, found);
  else io.stdout.write(describePlan(found));
}
