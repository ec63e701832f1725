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
  vocabulary: z
    .union([
      z.string(),
      z.strictObject({
        minCount: count.default(1).describe('Rarer words are left out.'),
        maxWords: count.optional().describe('The most frequent ones.'),
      }),
    ])
    .optional()
    .describe('A file, one word a line (`.tsv`: word, tab, count), or built from the training data.'),
  unknown: z
    .enum(['drop', 'keep', 'error'])
    .optional()
    .describe('What becomes of words that are not in the vocabulary.'),
  outOfVocabulary: z
    .strictObject({
      rows: count.describe('How many.'),
      at: z.enum(['start', 'end']).default('start').describe('Before the words or behind them.'),
      seed: seed.describe('Of the hash that chooses among several.'),
      token: z.string().optional().describe('The word that stands for them in a vocabulary of Keras.'),
    })
    .optional()
    .describe('Rows for them.'),
  unknownToken: z.string().optional().describe('A word of the vocabulary that stands for them.'),
  maskToken: z.string().optional().describe('Is row 0.'),
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
    tokenizer: z.string().optional().describe("A tokenizer.json: a token's id is its row."),
    pattern: z.string().optional().describe('What a word is, a regular expression.'),
    split: z.enum(['whitespace', 'character', 'none']).optional().describe('Instead of a pattern.'),
    lowercase: z.boolean().optional().describe('By Unicode. Default: true.'),
    standardize: z
      .enum(['none', 'lower', 'strip_punctuation', 'lower_and_strip_punctuation'])
      .optional()
      .describe("As Keras' TextVectorization, instead of lower case."),
    ngrams: z
      .union([count, z.array(count).min(1)])
      .optional()
      .describe('So many words that follow each other, too.'),
    maxTokens: count.optional().describe('Default of a tokenizer: as its file says.'),
    pad: z.boolean().optional().describe('Fills up to `maxTokens` with row 0.'),
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
    vocabulary: vocabulary.vocabulary.unwrap().describe('A file, one value a line, or built from the training data.'),
    integers: z.boolean().default(false).describe('Values are integers.'),
    separator: z.string().min(1).optional().describe('Between values in csv and tsv.'),
  })
  .superRefine(checkVocabulary);

const weighting = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('sif'),
    a: z.number().positive().default(1e-3).describe('The weight is a / (a + frequency).'),
    counts: z
      .string()
      .regex(/\.(npy|tsv)$/i, '.npy, or .tsv by word')
      .optional()
      .describe('.npy `[rows]`, or .tsv by word. Default: those of the vocabulary or of the training data.'),
  }),
  z.strictObject({
    type: z.literal('position'),
    decay: z.number().positive().max(1).describe('The weight is decay^k.'),
    from: z.enum(['start', 'end']).default('start').describe('k counts from here.'),
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
    table: name.describe('The table whose rows they are.'),
    column: z.string().describe('Of the examples.'),
    pooling: z
      .enum([...poolings, 'none'])
      .default('mean')
      .describe('`none`: each id is a vector of its own.'),
    last: count.optional().describe('Only the last so many ids.'),
    tokens: z
      .preprocess((value) => {
        // Lower case is the default of words, and none of a tokenizer's business.
        const words = isRecord(value) && 'vocabulary' in value && !('standardize' in value);
        return withDefaults(words ? { lowercase: true, ...value } : value);
      }, tokens.optional())
      .describe('Text as words or as tokens of a tokenizer.'),
    ngrams: z
      .strictObject({
        min: count.default(3).describe('Characters.'),
        max: count.default(5).describe('Characters.'),
        lowercase: z.boolean().default(false).describe('By Unicode.'),
        seed: seed.describe('Of the hash.'),
        maxTokens: count.optional().describe('Keeps the first.'),
      })
      .optional()
      .describe('Text as hashed character n-grams.'),
    lookup: z.preprocess(withDefaults, lookup.optional()).describe('Values by a vocabulary.'),
    hash: z
      .strictObject({
        seed: seed.describe('Of the hash.'),
        crossWith: z.array(z.string()).min(1).optional().describe('Columns: each combination of values is hashed.'),
        separator: z.string().min(1).optional().describe('Between values in csv and tsv.'),
      })
      .optional()
      .describe('Values by XXH64 modulo the rows.'),
    weights: z.string().optional().describe('A column with a weight for each id.'),
    weighting: weighting.optional().describe('Weights of ids by frequency or by position.'),
    removeCommon: count
      .optional()
      .describe("Principal directions of the training examples' vectors that are taken out of all vectors."),
    default: z.unknown().optional().describe('Stands for what is missing or wrong.'),
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
    column: z.string().optional().describe("Default: the label's name."),
    type: z.enum(['class', 'number', 'classes']).optional().describe('Default: what the objective reads.'),
    separator: z.string().min(1).optional().describe('Between classes in csv and tsv.'),
    default: z
      .union([z.string(), z.number(), z.array(z.string())])
      .optional()
      .describe('Stands for what is missing or wrong.'),
  })
  .refine(({ separator, type = 'classes' }) => separator === undefined || type === 'classes', {
    path: ['separator'],
    message: 'goes with type "classes"',
  });

export const numbers = z
  .strictObject({
    column: z.union([z.string(), z.array(z.string()).min(1)]).describe('One, or several.'),
    log1p: z.boolean().default(false).describe('Takes log(1 + x) first.'),
    normalize: z
      .union([
        z.literal('measured'),
        z.strictObject({
          mean: z.array(z.number()).describe('One for each column.'),
          deviation: z.array(z.number().min(0)).describe('One for each column.'),
        }),
      ])
      .optional()
      .describe('(x - mean) / deviation, measured in the training data or given.'),
    default: z
      .union([z.number(), z.literal('mean')])
      .optional()
      .describe('Stands for what is missing or wrong.'),
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

export const weight = z.strictObject({
  column: z.string().describe('Of the weights.'),
  default: z.number().min(0).optional().describe('Stands for what is missing or wrong.'),
});

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
