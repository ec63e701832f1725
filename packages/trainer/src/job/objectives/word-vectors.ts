import { z } from 'zod';
import { cbow, skipgram } from '../../objectives/skipgram.ts';
import { readCounts } from './counts.ts';
import { name, objectiveKind, optionsOf } from './kind.ts';

const kindOf = <T extends 'skipgram' | 'cbow'>(type: T) =>
  objectiveKind(
    z.strictObject({
      type: z.literal(type),
      input: name.describe('A feature with `pooling: none`.'),
      context: name.describe('The same tokens, of the same table or of another.'),
      window: z.int().min(1).default(5).describe('Words on each side, at most.'),
      negatives: z.int().min(1).default(5).describe('For each center.'),
      exponent: z.number().default(0.75).describe('Negatives come in proportion to count^exponent.'),
      counts: z.string().optional().describe('`[rows]` in a .npy file.'),
      subsample: z
        .number()
        .positive()
        .optional()
        .describe('A word with a larger share of the corpus than this is sometimes left out.'),
    }),
    {
      reads: ({ input, context }) => ({
        features: [
          { path: ['input'], name: input },
          { path: ['context'], name: context },
        ],
        labels: [],
        numbers: [],
      }),
      create: async (objective, { folder, seed }) => {
        const make = type === 'cbow' ? cbow : skipgram;
        const counts = await readCounts(objective.counts, folder, 'objective.counts');
        return make({ ...optionsOf(objective, 'type'), seed, counts });
      },
      movePaths: ({ counts, ...objective }, move) => ({ ...objective, counts: counts && move(counts) }),
    },
  );

export const skipgramKind = kindOf('skipgram');
export const cbowKind = kindOf('cbow');
