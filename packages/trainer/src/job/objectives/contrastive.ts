import { z } from 'zod';
import { contrastive } from '../../objectives/contrastive.ts';
import { inputFields, name, objectiveKind, optionsOf } from './kind.ts';

export const contrastiveKind = objectiveKind(
  z
    .strictObject({
      type: z.literal('contrastive'),
      anchor: name,
      positive: name,
      negatives: z.union([name, z.array(name).min(1)]).optional(),
      similarity: z.enum(['cosine', 'dot']).default('cosine'),
      /** Default: 20 for cosine, 1 for dot. */
      scale: z.number().positive().optional(),
      symmetric: z.boolean().default(false),
      maskDuplicates: z.boolean().default(false),
      matryoshka: z
        .strictObject({
          dims: z.array(z.int().min(1)).min(1),
          weights: z.array(z.number().min(0)).optional(),
        })
        .optional(),
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
