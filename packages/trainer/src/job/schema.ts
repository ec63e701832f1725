/**
 * The schema of a job: what a job file or a program may say, with every default and what it means. Paths in a job are relative to the job
 * file's folder. Nothing is opened before a job has passed.
 */
import { z } from 'zod';
import { metricNames, metricOf } from '../metrics/index.ts';
import { data, negatives } from './data.ts';
import { feature, label, numbers, weight } from './features.ts';
import { count, name, sizeOf } from './fields.ts';
import { kindOf, objectiveSchema } from './objectives/index.ts';

const rate = z.number().min(0);

/** Devices, by what computes on them: a GPU through WebGPU, a backend of TensorFlow.js. */
export const deviceNames = ['webgpu', 'tfjs'] as const;
export type DeviceName = (typeof deviceNames)[number];
const home = z.enum(['mapped', 'ram', ...deviceNames]);

/** Bytes, `"8GiB"`, or a share of the memory that this process may use, `"75%"`. */
const size = sizeOf(1);

const row = z.int().min(0);

/** Rows that are added behind those of the file, in RAM. */
const grow = z.union([
  z.strictObject({ vectors: z.string().describe('`[k, D]` in a .npy file.') }),
  z.strictObject({
    meanOf: z.array(z.array(row).min(1)).min(1).describe('New row i is the mean of these rows.'),
  }),
  z
    .strictObject({
      count: count.describe('New rows.'),
      init: z
        .enum(['mean', 'random'])
        .default('mean')
        .describe('The mean of all rows, or normal with their mean and deviation by dim.'),
      sampleRows: count.optional().describe('Of at most so many rows.'),
      seed: z.int().min(0).default(0).describe('Of `random`.'),
    })
    .describe(
      'The mean of all rows, or normal with their mean and deviation by dim; of `sampleRows` of them where there are more.',
    ),
]);

const table = z.strictObject({
  file: z.string().describe('safetensors (or its index.json) or .npy.'),
  tensor: z.string().optional().describe('Of a file with several: which one is the table.'),
  placement: z
    .union([
      z.enum(['auto', ...home.options]),
      z
        .array(
          z.strictObject({
            home: home.describe('Where the rows lie.'),
            rows: count.optional().describe('So many; of the last one the rest.'),
          }),
        )
        .min(1),
    ])
    .default('auto')
    .describe(
      '`auto`: as planned. All rows mapped from the file, in RAM, or on a device; or row-wise shards.',
    ),
  frequencies: z
    .union([
      z.strictObject({ zipf: z.number().min(0).describe('The exponent.') }),
      z.strictObject({ counts: z.string().describe('.npy `[rows]`.') }),
    ])
    .optional()
    .describe(
      'How often rows are looked up, for the plan: the row of rank k like k^-zipf, or `[rows]` counts in a .npy file. Default: all alike.',
    ),
  sortedByFrequency: z.boolean().default(false).describe('The first row is the most frequent one, and so on.'),
  split: z
    .enum(['row', 'table', 'column'])
    .optional()
    .describe('How `auto` may divide the table over homes: by rows (default), not at all, by columns.'),
  grow: grow.optional().describe('Rows that are added behind those of the file, in RAM.'),
});

const bandwidth = z
  .strictObject({
    streaming: z.number().positive().optional().describe('In order.'),
    randomRead: z.number().positive().optional().describe('In random reads.'),
  })
  .optional();

const placement = z.strictObject({
  memory: size
    .default('75%')
    .describe('The most memory that the run may take, tables in RAM included; never more than is free.'),
  cache: size.optional().describe('The most memory for hot rows of mapped tables; default: what is left.'),
  device: z
    .enum(['cpu', 'auto', 'gpu'])
    .default('cpu')
    .describe(
      'Where tables of placement `auto` may lie: in RAM and files alone (`cpu`), on a GPU too, where there is one and a table is read faster there (`auto`), or there in any case (`gpu`).',
    ),
  deviceMemory: sizeOf()
    .optional()
    .describe(
      'The most memory of the device that tables may take with what else is there; default: what can be told.',
    ),
  software: z
    .boolean()
    .default(false)
    .describe(
      'Whether WebGPU may compute on the processor, by a software driver, where a table says `webgpu` and there is no GPU.',
    ),
  bandwidths: z
    .strictObject({ ram: bandwidth.describe('Of memory.'), mapped: bandwidth.describe('Of files.') })
    .optional()
    .describe('Measured bytes per second, in order and in random reads (of cache lines, of pages).'),
});

/** A range `[from, to)`, or a list. */
const rows = z.union([
  z.strictObject({
    from: row.optional().describe('The first row; default 0.'),
    to: row.optional().describe('The row behind the last one; default: all.'),
  }),
  z.array(row).min(1),
]);

/** `kind` may be left out of LoRA factors. */
const loraByDefault = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (isRecord(value) && !('kind' in value) ? { kind: 'lora', ...value } : value), schema);

const rates = {
  learningRate: rate.optional().describe("Default: the optimiser's."),
  weightDecay: rate.optional().describe("Default: the optimiser's."),
};
const lora = {
  kind: z.literal('lora').describe('`lora`: A and B of a rank.'),
  rank: count.default(8).describe('1 to min(V, D).'),
  alpha: z.number().positive().optional().describe('The delta is scaled by alpha / rank. Default: the rank.'),
  rsLora: z.boolean().default(false).describe('Scales by alpha / √rank instead.'),
  init: z
    .enum(['sparse', 'orthogonal', 'pissa', 'keras'])
    .optional()
    .describe('How A and B start. Default: `sparse`, A = 0 and B normal.'),
  freeze: z.enum(['A', 'B']).optional().describe('Keeps A or B as it starts.'),
  learningRateB: rate.optional().describe('Of B alone (LoRA+).'),
  ...rates,
};
const dense = { kind: z.literal('dense').describe('`dense`: a full delta for each touched row.'), ...rates };
const named = {
  name: name.describe("The group's."),
  rows: rows.describe('That are in it; the first group that has a row gets it.'),
};
const group = loraByDefault(
  z.discriminatedUnion('kind', [z.strictObject({ ...named, ...lora }), z.strictObject({ ...named, ...dense })]),
);
const factors = loraByDefault(z.discriminatedUnion('kind', [z.strictObject(lora), z.strictObject(dense)]));
const shared = {
  rows: rows.optional().describe('The only rows that are trained, beside those of groups.'),
  groups: z.array(group).min(1).optional().describe('Groups of rows with factors of their own.'),
  grown: z
    .union([z.literal('tied'), factors])
    .optional()
    .describe("Factors of the rows that the table's `grow` added."),
  paddingRow: row.optional().describe('Gets no gradient and stays its base row.'),
  dropout: z.number().min(0).lt(1).optional().describe("Chance that a place's delta is left out of a training step."),
  maxNorm: z.number().positive().optional().describe('Adapted rows longer than this are read as if scaled to it.'),
  dora: z.boolean().optional().describe('Trains a magnitude per dim too.'),
};
const adapter = loraByDefault(
  z.discriminatedUnion('kind', [z.strictObject({ ...lora, ...shared }), z.strictObject({ ...dense, ...shared })]),
);

const factor = z.number().min(0);
const warmup = { warmupSteps: z.int().min(0).default(0).describe('The factor climbs from 0 to 1 in so many steps.') };
/** `totalSteps`: default all steps of the training. */
const falling = {
  ...warmup,
  totalSteps: count.optional().describe('Default: all steps of the training.'),
  finalFactor: factor.default(0).describe('At the end.'),
};
/** What multiplies the learning rate of a step. */
const schedule = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('constant'), ...warmup }),
  z.strictObject({ type: z.literal('linear'), ...falling }),
  z.strictObject({ type: z.literal('cosine'), ...falling }),
  z.strictObject({
    type: z.literal('step'),
    ...warmup,
    everySteps: count.describe('Each so many steps the factor is multiplied.'),
    factor: factor.default(0.1).describe('By this.'),
  }),
]);

const beta = z.number().min(0).lt(1);
const step = {
  learningRate: z.number().positive().describe('Of a step, before the schedule.'),
  schedule: schedule.optional().describe('What multiplies the learning rate of a step. Default: 1.'),
  mode: z
    .enum(['exact', 'lazy'])
    .default('exact')
    .describe("`exact`: the dense optimiser's result. `lazy`: rows that a batch does not hold are left alone."),
  weightDecay: rate.default(0).describe('How fast what is trained falls to 0.'),
  stateDtype: z
    .enum(['f32', 'bf16', 'f16'])
    .default('f32')
    .describe('Of the state of rows; 16 bits are rounded at random.'),
};
const decay = z.enum(['l2', 'decoupled']).default('l2');
const adagrad = {
  ...step,
  decay: decay.describe('`l2`: as a gradient. `decoupled`: beside it.'),
  epsilon: z.number().positive().default(1e-10).describe('In the denominator.'),
};
const adam = {
  ...step,
  beta1: beta.default(0.9).describe('Of the first moment.'),
  beta2: beta.default(0.999).describe('Of the second moment.'),
  epsilon: z.number().positive().default(1e-8).describe('In the denominator.'),
};
const optimizer = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('sgd'),
    ...step,
    decay: decay.describe('`l2`: as a gradient. `decoupled`: beside it.'),
    momentum: beta.default(0).describe('The share of the last step that goes on.'),
  }),
  z.strictObject({ type: z.literal('adagrad'), ...adagrad }),
  z.strictObject({ type: z.literal('rowwise-adagrad'), ...adagrad }),
  z.strictObject({ type: z.literal('adam'), ...adam }),
  z.strictObject({ type: z.literal('adamw'), ...adam }),
  z.strictObject({ type: z.literal('rowwise-adam'), ...adam }),
]);

const seconds = z.number().positive();
const evaluateEvery = z
  .strictObject({
    steps: count.optional().describe('Of the optimiser.'),
    epochs: count.optional().describe('Passes over the training data.'),
    seconds: seconds.optional().describe('Of the clock.'),
  })
  .refine(
    (every) => Object.values(every).filter((value) => value !== undefined).length === 1,
    'allowed: one of steps, epochs and seconds',
  );

const train = z.strictObject({
  epochs: count.default(1).describe('Passes over the training data.'),
  budget: z
    .strictObject({
      steps: count.optional().describe('Of the optimiser.'),
      seconds: seconds.optional().describe('Evaluations and checkpoints included.'),
      tokens: count.optional().describe('Ids that are looked up.'),
    })
    .default({})
    .describe('Ends the training before its epochs are over: with the first step that reaches one of these.'),
  accumulateBatches: count.default(1).describe('Batches that make one step of the optimiser.'),
  seed: z.int().min(0).default(0).describe('Of everything that is random: shuffles, first values, dropout.'),
  threads: count.max(256).optional().describe('Kernel threads; default: one per core. Results do not depend on it.'),
  metric: z.string().min(1).default('loss').describe('The validation metric that chooses the result.'),
  metrics: z
    .array(z.string().refine((name) => metricOf(name) !== null, `is no metric; allowed: ${metricNames.join(', ')}`))
    .default([])
    .describe("What is evaluated beside the objective's own."),
  sliceBy: z
    .array(z.string())
    .default([])
    .describe('Columns: every metric of the validation examples with each of their values.'),
  /** When the validation data is evaluated; the last state is in any case. */
  evaluateEvery: evaluateEvery
    .default({ epochs: 1 })
    .describe(
      'When the validation data is evaluated, by one of `steps`, `epochs` and `seconds`; the last state is in any case.',
    ),
  patience: count.optional().describe('Evaluations without a better metric before training stops.'),
  clipNorm: z
    .number()
    .positive()
    .optional()
    .describe('The most that the norm of all gradients of a step together may be.'),
  logEverySteps: count.default(50).describe('How often a line is logged.'),
  checkpointEverySteps: count.default(1000).describe('Beside one at the end of each epoch.'),
  keepCheckpoints: count.default(2).describe('The last so many stay.'),
  prefetch: z
    .boolean()
    .default(true)
    .describe(
      "Pool the next batch's base rows while one trains, where they are not all in RAM. Results are the same without.",
    ),
  tensorboard: z.boolean().default(false).describe('Write `tensorboard/` too: the curves as TensorBoard reads them.'),
});

const report = z.strictObject({
  probes: z
    .array(z.union([row, z.string().min(1)]))
    .max(50)
    .optional()
    .describe(
      'Rows, or words of the vocabulary, whose nearest rows the report shows before and after; default: those that moved the farthest.',
    ),
});

export const baseline = z.enum(['none', 'frozen', 'full', 'map']);

export const jobSchema = z
  .strictObject({
    name: name.describe('Of the run: its folder is `runs/<name>` where `output` does not say another.'),
    output: z.string().optional().describe("The run's folder; default `runs/<name>`."),
    tables: z.record(name, table).describe('The frozen tables, by names of your own.'),
    placement: placement.default(() => placement.parse({})).describe('How much memory there is, and which devices.'),
    data: data.describe('Where examples come from.'),
    features: z
      .record(name, feature)
      .describe('What is read from examples, by names of your own: bags of rows of a table.'),
    negatives: z
      .record(name, negatives)
      .default({})
      .describe('Sampled, each by a name that no feature has: a feature for the objective.'),
    labels: z
      .record(z.string(), label)
      .default({})
      .describe("More of the columns that are labels; of others the column has the label's name."),
    numbers: z
      .record(name, numbers)
      .default({})
      .describe('Columns of numbers, by names of your own, for objectives that read them.'),
    weight: weight.optional().describe('How much an example counts.'),
    id: z
      .strictObject({ column: z.string().describe('Of the names.') })
      .optional()
      .describe('Names the examples.'),
    objective: objectiveSchema.describe('What is learnt.'),
    adapters: z
      .record(name, adapter)
      .default({})
      .describe('By table: what is trained of it. Tables that are not here stay as they are.'),
    baseline: baseline
      .default('none')
      .describe(
        'The same job for comparison: its adapted tables frozen, every touched row of them trained in full, or all rows mapped by one trained D x D matrix (`none`: as the job is).',
      ),
    optimizer: optimizer.describe("Moves adapters and the objective's parameters."),
    train: train.default(() => train.parse({})).describe('How long, how often, and what is kept.'),
    report: report.optional().describe('What `report.html` shows beside the rest.'),
  })
  .superRefine((job, context) => {
    const issue = (path: (string | number)[], message: string): void =>
      context.addIssue({ code: 'custom', path, message });
    for (const [feature, { table }] of Object.entries(job.features)) {
      if (!(table in job.tables))
        issue(['features', feature, 'table'], `no table "${table}"; there are ${quoted(Object.keys(job.tables))}`);
    }
    const features = Object.keys(job.features);
    for (const [sampled, { of }] of Object.entries(job.negatives)) {
      if (features.includes(sampled)) issue(['negatives', sampled], 'is the name of a feature too');
      if (!features.includes(of))
        issue(['negatives', sampled, 'of'], `no feature "${of}"; there are ${quoted(features)}`);
    }
    const { distinct } = job.data;
    if (distinct !== undefined && !features.includes(distinct))
      issue(['data', 'distinct'], `no feature "${distinct}"; there are ${quoted(features)}`);
    for (const table of Object.keys(job.adapters)) {
      if (!(table in job.tables))
        issue(['adapters', table], `no table "${table}"; there are ${quoted(Object.keys(job.tables))}`);
    }
    if ((job.baseline === 'full' || job.baseline === 'map') && Object.keys(job.adapters).length === 0)
      issue(['baseline'], `found "${job.baseline}", but the job adapts no table; allowed: "none", "frozen"`);
    const { device, deviceMemory, software } = job.placement;
    const [named, another] = devicesAskedFor(job);
    if (deviceMemory !== undefined && device === 'cpu' && !named)
      issue(['placement', 'deviceMemory'], 'goes with placement.device "auto" or "gpu", or with a table on a device');
    if (software && named !== 'webgpu')
      issue(['placement', 'software'], 'goes with a table whose placement is "webgpu"');
    if (another) issue(['tables'], `on "${named}" and on "${another}"; allowed: devices of one kind`);
    for (const [table, { placement, split }] of Object.entries(job.tables)) {
      if (split !== undefined && placement !== 'auto')
        issue(['tables', table, 'split'], 'goes with placement "auto", which divides tables');
      if (!Object.values(job.features).some((feature) => feature.table === table))
        issue(['tables', table], 'no feature reads this table');
    }
    checkReads(job, issue);
    if (job.train.patience !== undefined && !job.data.validation) {
      issue(['train', 'patience'], 'early stopping needs data.validation');
    }
    const { schedule } = job.optimizer;
    if (schedule && 'totalSteps' in schedule && (schedule.totalSteps ?? Infinity) < schedule.warmupSteps)
      issue(['optimizer', 'schedule', 'totalSteps'], `is below warmupSteps, ${schedule.warmupSteps}`);
  });

type Issue = (path: (string | number)[], message: string) => void;

/** What the objective reads is there, and what is there is read. */
function checkReads(
  {
    objective,
    features,
    negatives,
    labels,
    numbers,
    train,
  }: Pick<Job, 'objective' | 'features' | 'negatives' | 'labels' | 'numbers' | 'train'>,
  issue: Issue,
): void {
  const reads = kindOf(objective).reads(objective);
  const kinds = [
    { fields: { features, negatives }, read: reads.features, one: 'feature', these: 'this feature' },
    { fields: { numbers }, read: reads.numbers, one: 'numbers', these: 'these numbers' },
  ];
  for (const { fields, read, one, these } of kinds) {
    if (!read) continue;
    const there = Object.entries(fields).flatMap(([field, specs]) =>
      Object.keys(specs).map((name) => ({ field, name })),
    );
    const names = there.map(({ name }) => name);
    for (const { path, name } of read)
      if (!names.includes(name)) issue(['objective', ...path], `no ${one} "${name}"; there are ${quoted(names)}`);
    for (const { field, name } of there)
      if (!read.some((other) => other.name === name)) issue([field, name], `the objective does not read ${these}`);
  }
  for (const [name, { type }] of Object.entries(labels)) {
    const read = reads.labels.find((label) => label.name === name);
    if (!read) {
      if (!train.sliceBy.includes(name)) issue(['labels', name], 'the objective does not read this label');
    } else if (type !== undefined && !read.types.includes(type)) {
      const allowed = read.types.map((other) => `"${other}"`).join(', ');
      issue(['labels', name, 'type'], `found "${type}"; allowed for ${objective.type}: ${allowed}`);
    }
  }
}

/** A job with every default filled in. */
export type Job = z.output<typeof jobSchema>;
/** A job as it is written. */
export type JobInput = z.input<typeof jobSchema>;

/** The devices that tables' own placements name. */
export function devicesAskedFor({
  tables,
}: {
  readonly tables: Readonly<Record<string, z.output<typeof table>>>;
}): DeviceName[] {
  const homes = Object.values(tables).flatMap(({ placement }) =>
    Array.isArray(placement) ? placement.map((shard) => shard.home) : [placement],
  );
  return deviceNames.filter((name) => homes.includes(name));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function quoted(names: readonly string[]): string {
  return names.map((n) => `"${n}"`).join(', ') || 'none';
}
