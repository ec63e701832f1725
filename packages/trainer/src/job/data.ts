/** The part of a job's schema that says where examples come from, and which of them. What is read from them is in `features.ts`. */
import { z } from 'zod';
import { count, name, seed, sizeOf } from './fields.ts';

const path = z.string().min(1);
const column = z.string();
const time = z.union([z.number(), z.string()]);

const split = z.union([
  z
    .strictObject({
      part: z.int().min(0),
      /** Shares, in any unit. */
      parts: z.array(z.number().positive()).min(2),
      /** All parts but this one: the training side of a fold. */
      others: z.boolean().optional(),
      key: column.optional(),
      seed: seed.optional(),
    })
    .refine(({ part, parts }) => part < parts.length, { path: ['part'], message: 'is no index of parts' }),
  z.strictObject({
    time: z
      .strictObject({ column, from: time.optional(), to: time.optional() })
      .refine(({ from, to }) => from !== undefined || to !== undefined, { message: 'allowed: from, to, or both' }),
  }),
  z.strictObject({ leaveOut: z.enum(['train', 'validation', 'test']), count: count.default(1) }),
]);

const source = z.strictObject({
  /** A path or a pattern, or several. */
  file: z.union([path, z.array(path).min(1)]),
  format: z.enum(['jsonl', 'csv', 'tsv', 'parquet', 'arrow']).optional(),
  columns: z.array(column).min(1).optional(),
  delimiter: z.string().length(1).optional(),
  split: split.optional(),
});

const window = { window: count, minimum: z.int().min(0).default(1) };
const histories = z.union([
  z.strictObject({ ...window, user: column, item: column, time: column }),
  z.strictObject({ ...window, list: column, separator: z.string().min(1).optional() }),
]);

export const data = z
  .strictObject({
    train: source,
    validation: source.optional(),
    /** What a finished run is evaluated on. */
    test: source.optional(),
    /** Examples are what users did, with what they had done before; of all sources. */
    histories: histories.optional(),
    batchSize: count.default(256),
    workers: z.int().min(0).max(64).default(1),
    prefetchBatches: count.optional(),
    /** Of the batches that are made ahead, of each loader. */
    prefetchBytes: sizeOf().default('256MiB'),
    /** The most memory for examples that are kept between epochs, of each loader, so that they are read once; 0: none. */
    cache: sizeOf().default('256MiB'),
    /** Of one task of a worker. */
    taskSeconds: z.number().positive().optional(),
    shuffle: z.boolean().default(true),
    /** Examples that are shuffled as a whole. */
    shuffleWindow: count.optional(),
    /** A feature of whose ids no batch of the training has the same twice. */
    distinct: name.optional(),
    /** Of training, validation and evaluation each: how many may be left out since they cannot be read. */
    badRows: z.union([z.literal('error'), z.strictObject({ skip: z.int().min(0) })]).default('error'),
  })
  .superRefine(({ histories, train, validation, test }, context) => {
    for (const [use, part] of Object.entries({ train, validation, test }))
      if (part?.split && 'leaveOut' in part.split && !histories)
        context.addIssue({ code: 'custom', path: [use, 'split', 'leaveOut'], message: 'goes with data.histories' });
  });

/** Of a feature's table: ids that are not an example's own. */
export const negatives = z.strictObject({
  of: name,
  count: count.max(16_384),
  distribution: z
    .union([
      z.literal('uniform'),
      z.strictObject({
        /** .npy `[rows]`, or .tsv by word. Default: those of the vocabulary or of the training data. */
        counts: z
          .string()
          .regex(/\.(npy|tsv)$/i, '.npy, or .tsv by word')
          .optional(),
        exponent: z.number().min(0).default(0.75),
      }),
    ])
    .default('uniform'),
  exclude: z.array(column).optional(),
});
