import { z } from 'zod';
import { contrastive } from '../../objectives/contrastive.ts';
import { inputFields, name, objectiveKind, optionsOf } from './kind.ts';

export const contrastiveKind = objectiveKind(
  z
    .strictObject({
      type: z.literal('contrastive'),
      anchor: name.describe('A feature.'),
      positive: name.describe('The feature that belongs to it.'),
      negatives: z
        .union([name, z.array(name).min(1)])
        .optional()
        .describe('Features with hard negatives.'),
      similarity: z.enum(['cosine', 'dot']).default('cosine').describe('What is compared.'),
      scale: z.number().positive().optional().describe('Default: 20 for cosine, 1 for dot.'),
      symmetric: z.boolean().default(false).describe('Also positives among anchors.'),
      maskDuplicates: z.boolean().default(false).describe('Leaves out candidates that equal the own positive.'),
      matryoshka: z
        .strictObject({
          dims: z.array(z.int().min(1)).min(1).describe('Widths; name all dims too to train them.'),
          weights: z.array(z.number().min(0)).optional().describe('Of their losses; default 1.'),
        })
        .optional()
        .describe('The loss of the first dims alone, too.'),
    })
    .superRefine(({ anchor, positive, negatives = [], matryoshka }, context) => {
      const fields = [...inputFields('anchor', anchor), ...inputFields('positive', positive), ...inputFields('negatives', negatives)]; // prettier-ignore
      fields.forEach(({ path, name }, i) => {
        if (fields.findIndex((other) => other.name === name) < i)
          context.addIssue({ code: 'custom', path: [...path], message: `found "${name}" again; allowed: each feature once` }); // prettier-ignore
      });
      if (!matryoshka) return;
      const { dims, weights } = matryoshka;
      if (new Set(dims).size < dims.length)
        context.addIssue({ code: 'custom', path: ['matryoshka', 'dims'], message: 'allowed: each once' });
      if (weights && weights.length !== dims.length) {
        const message = `found ${weights.length} weights; allowed: ${dims.length}, one for each of dims`;
        context.addIssue({ code: 'custom', path: ['matryoshka', 'weights'], message });
      }
    }),
  {
    reads: ({ anchor, positive, negatives = [] }) => ({
      features: [
        ...inputFields('anchor', anchor),
        ...inputFields('positive', positive),
        ...inputFields('negatives', negatives),
      ],
      labels: [],
      numbers: [],
    }),
    create: (objective) => contrastive(optionsOf(objective, 'type')),
  },
);
