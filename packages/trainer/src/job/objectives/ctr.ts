import { z } from 'zod';
import { ctr } from '../../objectives/ctr.ts';
import { name, objectiveKind, optionsOf, rates } from './kind.ts';

const layers = z.array(z.int().min(1));

export const ctrKind = objectiveKind(
  z.strictObject({
    type: z.literal('ctr'),
    inputs: z.array(name).min(1).describe('Features of the same dims.'),
    numbers: z.array(name).default([]).describe('Columns of numbers.'),
    label: z.string().describe('A number from 0 to 1.'),
    bottom: layers.default([64]).describe('Widths of the layers over the numbers.'),
    top: layers.default([64, 32]).describe('Widths of the layers over the pairs.'),
    ...rates,
  }),
  {
    reads: ({ inputs, numbers, label }) => ({
      features: inputs.map((input, i) => ({ path: ['inputs', i], name: input })),
      labels: [{ path: ['label'], name: label, types: ['number'] }],
      numbers: numbers.map((one, i) => ({ path: ['numbers', i], name: one })),
    }),
    create: (objective, { seed }) => ctr({ ...optionsOf(objective, 'type'), seed }),
  },
);
