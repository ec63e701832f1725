/** The part of a job's schema that says what is read from examples: features, labels, numbers, weights. */
import { poolings } from '@finetable/core';
import { z } from 'zod';
import { count, name, seed as anySeed } from './fields.ts';

const seed = anySeed.default(0);

type Context = z.core.$RefinementCtx;

function issue(context: Context, path: (string | number)[], message: string): void {
  context.addIssue({ code: 'custom', path, message });
}

const vocabulary = {
  /** A file, one word a line (`.tsv`: word, tab, count), or built from the training data. */
  vocabulary: z
    .union([z.string(), z.strictObject({ minCount: count.default(1), maxWords: count.optional() })])
    .optional(),
  unknown: z.enum(['drop', 'keep', 'error']).optional(),
  outOfVocabulary: z
    .strictObject({
      rows: count,
      at: z.enum(['start', 'end']).default('start'),
      seed,
      token: z.string().optional(),
    })
    .optional(),
  unknownToken: z.string().optional(),
  maskToken: z.string().optional(),
};

interface Vocabulary {
  readonly unknown?: string | undefined;
  readonly outOfVocabulary?: object | undefined;
  readonly unknownToken?: string | undefined;
}

function checkVocabulary({ unknown, outOfVocabulary, unknownToken }: Vocabulary, context: Context): void {
  if (outOfVocabulary && unknownToken !== undefined)
    issue(context, ['unknownToken'], 'does not go with outOfVocabulary');
  if (unknown === 'keep' && !outOfVocabulary && unknownToken === undefined) {
    const message =
      'found "keep", which goes with a tokenizer, outOfVocabulary or unknownToken; allowed: "drop", "error"';
    issue(context, ['unknown'], message);
  }
}

const tokens = z
  .strictObject({
    ...vocabulary,
    /** A tokenizer.json: a token's id is its row. */
    tokenizer: z.string().optional(),
    pattern: z.string().optional(),
    split: z.enum(['whitespace', 'character', 'none']).optional(),
    lowercase: z.boolean().optional(),
    standardize: z.enum(['none', 'lower', 'strip_punctuation', 'lower_and_strip_punctuation']).optional(),
    ngrams: z.union([count, z.array(count).min(1)]).optional(),
    /** Default of a tokenizer: as its file says. */
    maxTokens: count.optional(),
    pad: z.boolean().optional(),
  })
  .superRefine((tokens, context) => {
    const { vocabulary, tokenizer, maxTokens } = tokens;
    if ((vocabulary === undefined) === (tokenizer === undefined)) {
      issue(context, [], 'allowed: either vocabulary or tokenizer');
    } else if (tokenizer !== undefined) {
      for (const name of Object.keys(tokens))
        if (!['tokenizer', 'maxTokens', 'unknown'].includes(name))
          issue(context, [name], 'goes with a vocabulary, not with a tokenizer');
    } else {
      checkVocabulary(tokens, context);
      const { pattern, split, lowercase, standardize, pad } = tokens;
      if (pattern !== undefined && split !== undefined) issue(context, ['pattern'], 'does not go with split');
      if (lowercase !== undefined && standardize !== undefined)
        issue(context, ['lowercase'], 'does not go with standardize');
      if (pad && maxTokens === undefined) issue(context, ['pad'], 'goes with maxTokens');
    }
  });

const lookup = z
  .strictObject({
    ...vocabulary,
    vocabulary: vocabulary.vocabulary.unwrap(),
    integers: z.boolean().default(false),
    separator: z.string().min(1).optional(),
  })
  .superRefine(checkVocabulary);

const weighting = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('sif'),
    a: z.number().positive().default(1e-3),
    /** .npy `[rows]`, or .tsv by word. Default: those of the vocabulary or of the training data. */
    counts: z
      .string()
      .regex(/\.(npy|tsv)$/i, '.npy, or .tsv by word')
      .optional(),
  }),
  z.strictObject({
    type: z.literal('position'),
    decay: z.number().positive().max(1),
    from: z.enum(['start', 'end']).default('start'),
  }),
]);

/** Defaults that depend on what else there is. */
function withDefaults(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const kept = 'outOfVocabulary' in value || 'unknownToken' in value;
  return { unknown: kept ? 'keep' : 'drop', ...value };
}

export const feature = z
  .strictObject({
    table: name,
    column: z.string(),
    /** `none`: each id is a vector of its own. */
    pooling: z.enum([...poolings, 'none']).default('mean'),
    /** Only the last so many ids. */
    last: count.optional(),
    tokens: z.preprocess((value) => {
      // Lower case is the default of words, and none of a tokenizer's business.
      const words = isRecord(value) && 'vocabulary' in value && !('standardize' in value);
      return withDefaults(words ? { lowercase: true, ...value } : value);
    }, tokens.optional()),
    ngrams: z
      .strictObject({
        min: count.default(3),
        max: count.default(5),
        lowercase: z.boolean().default(false),
        seed,
        maxTokens: count.optional(),
      })
      .optional(),
    lookup: z.preprocess(withDefaults, lookup.optional()),
    hash: z
      .strictObject({
        seed,
        crossWith: z.array(z.string()).min(1).optional(),
        separator: z.string().min(1).optional(),
      })
      .optional(),
    weights: z.string().optional(),
    weighting: weighting.optional(),
    /** Principal directions of the training examples' vectors that are taken out of all vectors. */
    removeCommon: count.optional(),
    /** Stands for what is missing or wrong. */
    default: z.unknown().optional(),
  })
  .superRefine((feature, context) => {
    const { tokens, ngrams, lookup, hash, weights, weighting } = feature;
    const kinds = Object.entries({ tokens, ngrams, lookup, hash }).flatMap(([kind, spec]) => (spec ? [kind] : []));
    if (kinds.length > 1) issue(context, [], `${kinds.join(' and ')} exclude each other`);
    if (weights !== undefined) {
      if (kinds.length > 0) issue(context, ['weights'], `weights go with integer ids, not with ${kinds[0]}`);
      if (weighting) issue(context, ['weighting'], 'does not go with a column of weights');
    }
    if (ngrams && ngrams.min > ngrams.max) issue(context, ['ngrams', 'max'], 'max is below min');
    const byWord = weighting?.type === 'sif' && /\.tsv$/i.test(weighting.counts ?? '');
    if (byWord && !lookup && tokens?.vocabulary === undefined)
      issue(context, ['weighting', 'counts'], 'counts by word go with a vocabulary; allowed: .npy');
  });

export const label = z
  .strictObject({
    column: z.string().optional(),
    /** Default: what the objective reads. */
    type: z.enum(['class', 'number', 'classes']).optional(),
    separator: z.string().min(1).optional(),
    default: z.union([z.string(), z.number(), z.array(z.string())]).optional(),
  })
  .refine(({ separator, type = 'classes' }) => separator === undefined || type === 'classes', {
    path: ['separator'],
    message: 'goes with type "classes"',
  });

export const numbers = z
  .strictObject({
    column: z.union([z.string(), z.array(z.string()).min(1)]),
    log1p: z.boolean().default(false),
    normalize: z
      .union([
        z.literal('measured'),
        z.strictObject({ mean: z.array(z.number()), deviation: z.array(z.number().min(0)) }),
      ])
      .optional(),
    default: z.union([z.number(), z.literal('mean')]).optional(),
  })
  .superRefine(({ column, normalize, default: otherwise }, context) => {
    if (otherwise === 'mean' && normalize === undefined) issue(context, ['default'], '"mean" goes with normalize');
    if (typeof normalize !== 'object') return;
    const columns = typeof column === 'string' ? 1 : column.length;
    for (const member of ['mean', 'deviation'] as const)
      if (normalize[member].length !== columns)
        issue(
          context,
          ['normalize', member],
          `found ${normalize[member].length} numbers; allowed: ${columns}, one for each column`,
        );
  });

export const weight = z.strictObject({ column: z.string(), default: z.number().min(0).optional() });

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
