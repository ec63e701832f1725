/** All that `objective.type` may be. */
import { z } from 'zod';
import { classificationKind } from './classification.ts';
import { contrastiveKind } from './contrastive.ts';
import type { ObjectiveKind } from './kind.ts';
import { moduleKind } from './module.ts';
import { similarityKind } from './similarity.ts';

const kinds = {
  classification: classificationKind,
  contrastive: contrastiveKind,
  similarity: similarityKind,
  tfjs: moduleKind,
};

export const objectiveSchema = z.discriminatedUnion('type', [
  kinds.classification.schema,
  kinds.contrastive.schema,
  kinds.similarity.schema,
  kinds.tfjs.schema,
]);

export type JobObjective = z.output<typeof objectiveSchema>;

export function kindOf({ type }: JobObjective): ObjectiveKind<JobObjective> {
  // Each kind takes its own type's objectives alone, which is what it is found by.
  return kinds[type] as unknown as ObjectiveKind<JobObjective>;
}
