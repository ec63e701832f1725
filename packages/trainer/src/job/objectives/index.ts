/** All that `objective.type` may be. */
import { z } from 'zod';
import { classificationKind } from './classification.ts';
import type { ObjectiveKind } from './kind.ts';
import { moduleKind } from './module.ts';

const kinds = {
  classification: classificationKind,
  tfjs: moduleKind,
};

export const objectiveSchema = z.discriminatedUnion('type', [kinds.classification.schema, kinds.tfjs.schema]);

export type JobObjective = z.output<typeof objectiveSchema>;

export function kindOf({ type }: JobObjective): ObjectiveKind<JobObjective> {
  // Each kind takes its own type's objectives alone, which is what it is found by.
  return kinds[type] as unknown as ObjectiveKind<JobObjective>;
}
