import { z } from 'zod';
import { classification } from '../../objectives/classification.ts';
import { hidden, inputFields, name, objectiveKind, optionsOf, rates } from './kind.ts';

export const classificationKind = objectiveKind(
  z.strictObject({
    type: z.literal('classification'),
    input: z.union([name, z.array(name).min(1)]).describe('A feature, or several side by side.'),
    label: z.string().describe('The label.'),
    classes: z.array(z.string()).min(2).optional().describe('Default: those of the training data.'),
    activation: z
      .enum(['softmax', 'sigmoid'])
      .default('softmax')
      .describe('`sigmoid`: several classes for each example.'),
    hidden: hidden.describe('Widths of layers before the last one.'),
    classWeights: z.record(z.string(), z.number().min(0)).optional().describe('Factors of the loss by class.'),
    labelSmoothing: z.number().min(0).lt(1).default(0).describe('Share of the target that is spread over the classes.'),
    normalize: z.boolean().default(false).describe("Each feature's vectors to length 1."),
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
