import { z } from 'zod';
import { graph } from '../../objectives/graph.ts';
import { name, objectiveKind, optionsOf } from './kind.ts';

export const graphKind = objectiveKind(
  z.strictObject({
    type: z.literal('graph'),
    head: name.describe('A feature.'),
    relation: name.describe('A feature.'),
    tail: name.describe('A feature.'),
    model: z.enum(['transe', 'distmult']).describe('What scores a triple.'),
    corruptions: z.int().min(1).default(8).describe('Wrong triples for each true one.'),
    margin: z.number().positive().default(1).describe('Of `transe`.'),
    norm: z
      .union([z.literal(1), z.literal(2)])
      .default(2)
      .describe('Of `transe`.'),
    known: name.optional().describe('A feature with all known tails, which metrics of retrieval pass over.'),
  }),
  {
    reads: (objective) => ({
      features: (['head', 'relation', 'tail', 'known'] as const).flatMap((field) => {
        const feature = objective[field];
        return feature === undefined ? [] : [{ path: [field], name: feature }];
      }),
      labels: [],
      numbers: [],
    }),
    create: (objective, { seed }) => graph({ ...optionsOf(objective, 'type'), seed }),
  },
);
