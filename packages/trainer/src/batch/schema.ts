/** What a batch file may say. */
import { z } from 'zod';
import { baseline } from '../job/schema.ts';

export const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'letters, digits, ".", "_" and "-", starting with a letter or digit');

/** A job file, or a job as it would stand in one. */
const job = z.union([z.string().min(1), z.record(z.string(), z.unknown())]);
const set = z.record(z.string(), z.unknown());
const values = z.array(z.unknown()).min(1);
const range = z.tuple([z.number(), z.number()]).refine(([low, high]) => low < high, 'the first is below the second');
const positive = range.refine(([low]) => low > 0, 'both are above 0');

/** What a field is drawn from; `integers` has both ends. */
const distribution = z.union([
  z.strictObject({ values: values.describe('One of these.') }),
  z.strictObject({ uniform: range.describe('Between these.') }),
  z.strictObject({ logUniform: positive.describe('Between these, evenly by their logarithms.') }),
  z.strictObject({
    integers: z
      .tuple([z.int(), z.int()])
      .refine(([low, high]) => low <= high, 'in order')
      .describe('Between these, both included.'),
  }),
]);

export const batchSchema = z
  .strictObject({
    name: name.optional().describe("Default: the file's name without its ending."),
    output: z.string().optional().describe('The folder of its runs and tables; default `runs/<name>`.'),
    jobs: z
      .array(
        z.union([
          z.string().min(1),
          z.strictObject({
            job: job.describe('A job file, or a job.'),
            name: name.optional().describe("Default: the job's."),
            set: set.optional().describe('Fields by their paths, of every job.'),
          }),
        ]),
      )
      .min(1)
      .optional()
      .describe('Job files, or jobs with settings of their own.'),
    base: job.optional().describe('The job that all are made from.'),
    /** Of every job; before what makes it differ from the others. */
    set: set.default({}).describe('Fields by their paths, of every job.'),
    grid: z
      .record(z.string(), values)
      .optional()
      .describe('Fields by their paths, each with its values: a job for each combination.'),
    baselines: z
      .partialRecord(baseline, z.record(z.string(), values))
      .refine((given) => Object.keys(given).length > 0, `allowed: ${baseline.options.join(', ')}, one or more`)
      .optional()
      .describe('The job as it is (`none`) and what it is compared with, each with fields of its own in the grid.'),
    random: z
      .strictObject({
        trials: z.int().min(1).max(10_000).describe('How many jobs.'),
        seed: z.int().min(0).default(0).describe('The first n of more trials are the same ones.'),
        fields: z.record(z.string(), distribution).describe('By their paths: what they are drawn from.'),
      })
      .optional()
      .describe('Jobs with fields drawn at random.'),
    halving: z
      .strictObject({
        epochs: z.array(z.int().min(1)).min(1).optional().describe('The rungs.'),
        steps: z.array(z.int().min(1)).min(1).optional().describe('The rungs.'),
        keep: z.number().gt(0).lt(1).optional().describe('The share that goes on from each rung; default 1/3.'),
      })
      .optional()
      .describe('Jobs that do worse at a rung, a number of epochs or steps, go no further.'),
    metric: z.string().min(1).optional().describe("By which results are sorted; default the jobs' `train.metric`."),
    concurrency: z.int().min(1).max(256).optional().describe('Jobs at a time.'),
    memory: z.union([z.number(), z.string()]).optional().describe('The most that running jobs may take together.'),
    stopOnFailure: z.boolean().default(false).describe('The first failure ends the others.'),
  })
  .superRefine((batch, context) => {
    const issue = (path: string, message: string): void => context.addIssue({ code: 'custom', path: [path], message });
    const { jobs, base, grid, baselines, random } = batch;
    if ((jobs === undefined) === (base === undefined))
      issue('jobs', 'allowed: either jobs, or base with grid, baselines or random');
    else if (base !== undefined && ((grid ?? baselines) === undefined) === (random === undefined))
      issue('base', 'goes with grid, baselines or both, or with random alone');
    else if (jobs !== undefined && (grid ?? baselines ?? random) !== undefined)
      issue('jobs', 'grid, baselines and random go with base');
  });

/** A job file's path, or a job. */
export type JobOfBatch = z.output<typeof job>;
/** A batch file, checked. */
export type Batch = z.output<typeof batchSchema>;
export type Distribution = z.output<typeof distribution>;
