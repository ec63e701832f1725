/** All that `objective.type` may be. */
import { z } from 'zod';
import { classificationKind } from './classification.ts';
import { contrastiveKind } from './contrastive.ts';
import { ctrKind } from './ctr.ts';
import { graphKind } from './graph.ts';
import type { ObjectiveKind } from './kind.ts';
import { customKind, tfjsKind } from './module.ts';
import { rankingKind } from './ranking.ts';
import { similarityKind } from './similarity.ts';
import { cbowKind, skipgramKind } from './word-vectors.ts';

const kinds = {
  classification: classificationKind,
  contrastive: contrastiveKind,
  similarity: similarityKind,
  ranking: rankingKind,
  ctr: ctrKind,
  skipgram: skipgramKind,
  cbow: cbowKind,
  graph: graphKind,
  custom: customKind,
  tfjs: tfjsKind,
};

export const objectiveSchema = z.discriminatedUnion('type', [
  kinds.classification.schema,
  kinds.contrastive.schema,
  kinds.similarity.schema,
  kinds.ranking.schema,
  kinds.ctr.schema,
  kinds.skipgram.schema,
  kinds.cbow.schema,
  kinds.graph.schema,
  kinds.custom.schema,
  kinds.tfjs.schema,
]);

export type JobObjective = z.output<typeof objectiveSchema>;

export function kindOf({ type }: JobObjective): ObjectiveKind<JobObjective> {
  // Each kind takes its own type's objectives alone, which is what it is found by.
  return kinds[type] as unknown as ObjectiveKind<JobObjective>;
}
