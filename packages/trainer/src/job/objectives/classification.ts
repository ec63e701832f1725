import { z } from 'zod';
import { classification } from '../../objectives/classification.ts';
import { name, objectiveKind, optionsOf, rates } from './kind.ts';

export const classificationKind = objectiveKind(
  z.strictObject({
    type: z.literal('classification'),
    input: name,
    label: z.string(),
    classes: z.array(z.string()).min(2).optional(),
    normalize: z.boolean().default(false),
    ...rates,
  }),
  {
    reads: ({ input, label, classes }) => ({
      features: [{ path: ['input'], name: input }],
      labels: [{ path: ['label'], name: label, types: ['class'], classes }],
      numbers: [],
    }),
    create: (objective) => classification(optionsOf(objective, 'type', 'classes')),
  },
);
