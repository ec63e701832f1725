import { z } from 'zod';
import { cbow, skipgram } from '../../objectives/skipgram.ts';
import { readCounts } from './counts.ts';
import { name, objectiveKind, optionsOf } from './kind.ts';

const kindOf = <T extends 'skipgram' | 'cbow'>(type: T) =>
  objectiveKind(
    z.strictObject({
      type: z.literal(type),
      input: name,
      context: name,
      window: z.int().min(1).default(5),
      negatives: z.int().min(1).default(5),
      exponent: z.number().default(0.75),
      /** `[rows]` in a .npy file. */
      counts: z.string().optional(),
      subsample: z.number().positive().optional(),
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
