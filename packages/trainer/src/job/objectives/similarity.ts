import { z } from 'zod';
import { similarity } from '../../objectives/similarity.ts';
import { inputFields, name, objectiveKind, optionsOf } from './kind.ts';

export const similarityKind = objectiveKind(
  z
    .strictObject({
      type: z.literal('similarity'),
      first: name.describe('A feature.'),
      second: name.describe('A feature.'),
      label: z.string().describe('The score, a number.'),
      loss: z
        .enum(['mse', 'cosent'])
        .default('mse')
        .describe('`mse` of the cosine, or `cosent`: the order of the scores.'),
      range: z.tuple([z.number(), z.number()]).default([0, 1]).describe('Lowest and highest score.'),
      scale: z.number().positive().max(300).default(20).describe('Of `cosent`.'),
    })
    .superRefine(({ first, second, range: [low, high] }, context) => {
      if (first === second)
        context.addIssue({ code: 'custom', path: ['second'], message: `found "${second}" again; allowed: another feature` }); // prettier-ignore
      if (!(low < high))
        context.addIssue({ code: 'custom', path: ['range'], message: 'allowed: the lowest and the highest score' });
    }),
  {
    reads: ({ first, second, label }) => ({
      features: [...inputFields('first', first), ...inputFields('second', second)],
      labels: [{ path: ['label'], name: label, types: ['number'] }],
      numbers: [],
    }),
    create: (objective) => similarity(optionsOf(objective, 'type')),
  },
);
