import { z } from 'zod';
import { classification } from '../../objectives/classification.ts';
import { hidden, inputFields, name, objectiveKind, optionsOf, rates } from './kind.ts';

export const classificationKind = objectiveKind(
  z.strictObject({
    type: z.literal('classification'),
    input: z.union([name, z.array(name).min(1)]),
    label: z.string(),
    /** Default: those of the training data. */
    classes: z.array(z.string()).min(2).optional(),
    activation: z.enum(['softmax', 'sigmoid']).default('softmax'),
    hidden,
    classWeights: z.record(z.string(), z.number().min(0)).optional(),
    labelSmoothing: z.number().min(0).lt(1).default(0),
    normalize: z.boolean().default(false),
    ...rates,
  }),
  {
    reads: ({ input, label, classes, activation }) => ({
      features: inputFields('input', input),
      labels: [{ path: ['label'], name: label, types: [activation === 'softmax' ? 'class' : 'classes'], classes }],
      numbers: [],
    }),
    create: (objective, { seed }) => classification({ ...optionsOf(objective, 'type', 'classes'), seed }),
  },
);
