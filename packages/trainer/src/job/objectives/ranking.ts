import { z } from 'zod';
import { ranking } from '../../objectives/ranking.ts';
import { readCounts } from './counts.ts';
import { name, objectiveKind, optionsOf } from './kind.ts';

export const rankingKind = objectiveKind(
  z.strictObject({
    type: z.literal('ranking'),
    query: name,
    target: name,
    negatives: name.optional(),
    inBatch: z.boolean().optional(),
    loss: z.enum(['softmax', 'bpr']).default('softmax'),
    similarity: z.enum(['dot', 'cosine']).default('dot'),
    scale: z.number().positive().optional(),
    /** `[rows]` of the target's table in a .npy file. */
    frequencies: z.string().optional(),
    negativesExponent: z.number().default(0),
    seen: name.optional(),
  }),
  {
    reads: ({ query, target, negatives }) => ({
      features: [
        { path: ['query'], name: query },
        { path: ['target'], name: target },
        ...(negatives === undefined ? [] : [{ path: ['negatives'], name: negatives }]),
      ],
      labels: [],
      numbers: [],
    }),
    create: async (objective, { folder }) => {
      const frequencies = await readCounts(objective.frequencies, folder, 'objective.frequencies');
      return ranking({ ...optionsOf(objective, 'type'), frequencies });
    },
    movePaths: ({ frequencies, ...objective }, move) => ({
      ...objective,
      frequencies: frequencies && move(frequencies),
    }),
  },
);
