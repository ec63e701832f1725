import { z } from 'zod';
import { ranking } from '../../objectives/ranking.ts';
import { readCounts } from './counts.ts';
import { name, objectiveKind, optionsOf } from './kind.ts';

export const rankingKind = objectiveKind(
  z.strictObject({
    type: z.literal('ranking'),
    query: name.describe('A feature.'),
    target: name.describe('A feature with one id.'),
    negatives: name.optional().describe('A feature with sampled negatives.'),
    inBatch: z
      .boolean()
      .optional()
      .describe("Whether the other examples' targets are negatives. Default: where there is no feature of them."),
    loss: z.enum(['softmax', 'bpr']).default('softmax').describe('`softmax` over all candidates, or `bpr`.'),
    similarity: z.enum(['dot', 'cosine']).default('dot').describe('What is compared.'),
    scale: z.number().positive().optional().describe('Of scores. Default: 1, of cosines 20.'),
    frequencies: z.string().optional().describe("`[rows]` of the target's table in a .npy file."),
    negativesExponent: z.number().default(0).describe('How `negatives` were drawn: by frequency^exponent.'),
    seen: name.optional().describe('A feature whose rows metrics of retrieval pass over.'),
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
