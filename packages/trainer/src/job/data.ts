/** The part of a job's schema that says where examples come from, and which of them. What is read from them is in `features.ts`. */
import { mostCacheBytes } from '@finetable/data';
import { z } from 'zod';
import { count, name, seed, sizeOf } from './fields.ts';

const path = z.string().min(1);
const column = z.string();
const time = z.union([z.number(), z.string()]);

const split = z.union([
  z
    .strictObject({
      part: z.int().min(0).describe('The index of the share that is read.'),
      parts: z.array(z.number().positive()).min(2).describe('Shares, in any unit.'),
      others: z.boolean().optional().describe('All parts but this one: the training side of a fold.'),
      key: column.optional().describe('A column: examples with one value are on one side.'),
      seed: seed.optional().describe('Another division.'),
    })
    .refine(({ part, parts }) => part < parts.length, { path: ['part'], message: 'is no index of parts' }),
  z.strictObject({
    time: z
      .strictObject({
        column: column.describe('Of the times.'),
        from: time.optional().describe('The first.'),
        to: time.optional().describe('Behind the last.'),
      })
      .refine(({ from, to }) => from !== undefined || to !== undefined, { message: 'allowed: from, to, or both' })
      .describe('Examples of `[from, to)`, numbers or ISO 8601 dates.'),
  }),
  z.strictObject({
    leaveOut: z
      .enum(['train', 'validation', 'test'])
      .describe("Of histories: each user's last are the test's, those before the validation's."),
    count: count.default(1).describe('How many a user has in validation and test.'),
  }),
]);

const source = z.strictObject({
  file: z.union([path, z.array(path).min(1)]).describe('A path or a pattern, or several.'),
  format: z.enum(['jsonl', 'csv', 'tsv', 'parquet', 'arrow']).optional().describe('Default: by the ending.'),
  columns: z.array(column).min(1).optional().describe('Names of the columns of a csv or tsv file without a header.'),
  delimiter: z.string().length(1).optional().describe('Of csv; default `,`.'),
  split: split.optional().describe('Which of the examples.'),
});

const window = {
  window: count.describe('Items before the target.'),
  minimum: z.int().min(0).default(1).describe('Interactions before one that is an example.'),
};
const histories = z.union([
  z.strictObject({
    ...window,
    user: column.describe('Column.'),
    item: column.describe('Column.'),
    time: column.describe('Column.'),
  }),
  z.strictObject({
    ...window,
    list: column.describe("Column with all of a user's items."),
    separator: z.string().min(1).optional().describe('Between items in csv and tsv.'),
  }),
]);

export const data = z
  .strictObject({
    train: source.describe('Examples to learn from.'),
    validation: source.optional().describe('Examples that choose the best state.'),
    test: source.optional().describe('What a finished run is evaluated on.'),
    histories: histories
      .optional()
      .describe('Examples are what users did, with what they had done before; of all sources.'),
    batchSize: count.default(256).describe('Examples.'),
    workers: z.int().min(0).max(64).default(1).describe('Loader threads; 0: the main thread reads.'),
    prefetchBatches: count.optional().describe('At most so many batches are made ahead.'),
    prefetchBytes: sizeOf(undefined, 1)
      .default('256MiB')
      .describe('Of the batches that are made ahead, of each loader.'),
    cache: sizeOf(undefined, 0, mostCacheBytes)
      .default('256MiB')
      .describe(
        'The most memory for examples that are kept between epochs, of each loader, so that they are read once; 0: none.',
      ),
    taskSeconds: z.number().positive().optional().describe('Of one task of a worker.'),
    shuffle: z.boolean().default(true).describe('Of the training.'),
    shuffleWindow: count.optional().describe('Examples that are shuffled as a whole.'),
    distinct: name.optional().describe('A feature of whose ids no batch of the training has the same twice.'),
    badRows: z
      .union([z.literal('error'), z.strictObject({ skip: z.int().min(0).describe('At most so many.') })])
      .default('error')
      .describe('Of training, validation and evaluation each: how many may be left out since they cannot be read.'),
  })
  .superRefine(({ histories, train, validation, test }, context) => {
    for (const [use, part] of Object.entries({ train, validation, test }))
      if (part?.split && 'leaveOut' in part.split && !histories)
        context.addIssue({ code: 'custom', path: [use, 'split', 'leaveOut'], message: 'goes with data.histories' });
  });

/** Of a feature's table: ids that are not an example's own. */
export const negatives = z.strictObject({
  of: name.describe('The feature of whose table they are.'),
  count: count.max(16_384).describe('For each example.'),
  distribution: z
    .union([
      z.literal('uniform'),
      z.strictObject({
        counts: z
          .string()
          .regex(/\.(npy|tsv)$/i, '.npy, or .tsv by word')
          .optional()
          .describe('.npy `[rows]`, or .tsv by word. Default: those of the vocabulary or of the training data.'),
        exponent: z.number().min(0).default(0.75).describe('Rows come in proportion to count^exponent.'),
      }),
    ])
    .default('uniform')
    .describe('How they are drawn.'),
  exclude: z
    .array(column)
    .optional()
    .describe("Columns whose ids are not drawn for their example; default: the feature's."),
});
