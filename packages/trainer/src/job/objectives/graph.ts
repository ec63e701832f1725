import { z } from 'zod';
import { graph } from '../../objectives/graph.ts';
import { name, objectiveKind, optionsOf } from './kind.ts';

export const graphKind = objectiveKind(
  z.strictObject({
    type: z.literal('graph'),
    head: name,
    relation: name,
    tail: name,
    model: z.enum(['transe', 'distmult']),
    corruptions: z.int().min(1).default(8),
    margin: z.number().positive().default(1),
    norm: z.union([z.literal(1), z.literal(2)]).default(2),
    known: name.optional(),
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
