import { z } from 'zod';
import { similarity } from '../../objectives/similarity.ts';
import { inputFields, name, objectiveKind, optionsOf } from './kind.ts';

export const similarityKind = objectiveKind(
  z
    .strictObject({
      type: z.literal('similarity'),
      first: name,
      second: name,
      label: z.string(),
      loss: z.enum(['mse', 'cosent']).default('mse'),
      range: z.tuple([z.number(), z.number()]).default([0, 1]),
      scale: z.number().positive().max(300).default(20),
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
