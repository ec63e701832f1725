/** A job's optimiser, whose schedule may leave its length to the training. */
import type { OptimizerSpec } from '@finetable/lora';
import type { Job } from './schema.ts';

/** @param steps of the whole training */
export function optimizerOf({ optimizer }: Job, steps: number): OptimizerSpec {
  const { schedule } = optimizer;
  if (schedule?.type !== 'linear' && schedule?.type !== 'cosine') return { ...optimizer, schedule };
  const totalSteps = schedule.totalSteps ?? Math.max(steps, schedule.warmupSteps);
  return { ...optimizer, schedule: { ...schedule, totalSteps } };
}
