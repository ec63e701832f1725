/**
 * The schema of a job: what a job file or a program may say, with every default. Paths in a job are relative to the job
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
  /** `[k, D]` in a .npy file. */
  z.strictObject({ vectors: z.string() }),
  /** New row i is the mean of these rows. */
  z.strictObject({ meanOf: z.array(z.array(row).min(1)).min(1) }),
  /** The mean of all rows, or normal with their mean and deviation by dim; of `sampleRows` of them where there are more. */
  z.strictObject({
    count,
    init: z.enum(['mean', 'random']).default('mean'),
    sampleRows: count.optional(),
    seed: z.int().min(0).default(0),
  }),
]);

const table = z.strictObject({
  /** safetensors (or its index.json) or .npy. */
  file: z.string(),
  tensor: z.string().optional(),
  /** `auto`: as planned. All rows mapped from the file, in RAM, or on a device; or row-wise shards. */
  placement: z
    .union([z.enum(['auto', ...home.options]), z.array(z.strictObject({ home, rows: count.optional() })).min(1)])
    .default('auto'),
  /** How often rows are looked up, for the plan: the row of rank k like k^-zipf, or `[rows]` counts in a .npy file. Default: all alike. */
  frequencies: z
    .union([z.strictObject({ zipf: z.number().min(0) }), z.strictObject({ counts: z.string() })])
    .optional(),
  /** The first row is the most frequent one, and so on. */
  sortedByFrequency: z.boolean().default(false),
  /** How `auto` may divide the table over homes: by rows (default), not at all, by columns. */
  split: z.enum(['row', 'table', 'column']).optional(),
  grow: grow.optional(),
});

const bandwidth = z
  .strictObject({ streaming: z.number().positive().optional(), randomRead: z.number().positive().optional() })
  .optional();

const placement = z.strictObject({
  /** The most memory that the run may take, tables in RAM included; never more than is free. */
  memory: size.default('75%'),
  /** The most memory for hot rows of mapped tables; default: what is left. */
  cache: size.optional(),
  /**
   * Where tables of placement `auto` may lie: in RAM and files alone (`cpu`), on a GPU too, where there is one and a table is read faster
   * there (`auto`), or there in any case (`gpu`).
   */
  device: z.enum(['cpu', 'auto', 'gpu']).default('cpu'),
  /** The most memory of the device that tables may take with what else is there; default: what can be told. */
  deviceMemory: sizeOf().optional(),
  /** Whether WebGPU may compute on the processor, by a software driver, where a table says `webgpu` and there is no GPU. */
  software: z.boolean().default(false),
  /** Measured bytes per second, in order and in random reads (of cache lines, of pages). */
  bandwidths: z.strictObject({ ram: bandwidth, mapped: bandwidth }).optional(),
});

/** A range `[from, to)`, or a list. */
const rows = z.union([z.strictObject({ from: row.optional(), to: row.optional() }), z.array(row).min(1)]);

/** `kind` may be left out of LoRA factors. */
const loraByDefault = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (isRecord(value) && !('kind' in value) ? { kind: 'lora', ...value } : value), schema);

const rates = { learningRate: rate.optional(), weightDecay: rate.optional() };
const lora = {
  kind: z.literal('lora'),
  rank: count.default(8),
  alpha: z.number().positive().optional(),
  rsLora: z.boolean().default(false),
  init: z.enum(['sparse', 'orthogonal', 'pissa', 'keras']).optional(),
  freeze: z.enum(['A', 'B']).optional(),
  learningRateB: rate.optional(),
  ...rates,
};
const dense = { kind: z.literal('dense'), ...rates };
const named = { name, rows };
const group = loraByDefault(
  z.discriminatedUnion('kind', [z.strictObject({ ...named, ...lora }), z.strictObject({ ...named, ...dense })]),
);
const factors = loraByDefault(z.discriminatedUnion('kind', [z.strictObject(lora), z.strictObject(dense)]));
const shared = {
  /** The only rows that are trained, beside those of groups. */
  rows: rows.optional(),
  groups: z.array(group).min(1).optional(),
  /** Factors of the rows that the table's `grow` added. */
  grown: z.union([z.literal('tied'), factors]).optional(),
  paddingRow: row.optional(),
  dropout: z.number().min(0).lt(1).optional(),
  maxNorm: z.number().positive().optional(),
  dora: z.boolean().optional(),
};
const adapter = loraByDefault(
  z.discriminatedUnion('kind', [z.strictObject({ ...lora, ...shared }), z.strictObject({ ...dense, ...shared })]),
);

const factor = z.number().min(0);
const warmup = { warmupSteps: z.int().min(0).default(0) };
/** `totalSteps`: default all steps of the training. */
const falling = { ...warmup, totalSteps: count.optional(), finalFactor: factor.default(0) };
/** What multiplies the learning rate of a step. */
const schedule = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('constant'), ...warmup }),
  z.strictObject({ type: z.literal('linear'), ...falling }),
  z.strictObject({ type: z.literal('cosine'), ...falling }),
  z.strictObject({ type: z.literal('step'), ...warmup, everySteps: count, factor: factor.default(0.1) }),
]);

const beta = z.number().min(0).lt(1);
const step = {
  learningRate: z.number().positive(),
  schedule: schedule.optional(),
  mode: z.enum(['exact', 'lazy']).default('exact'),
  weightDecay: rate.default(0),
  /** Of the state of rows; 16 bits are rounded at random. */
  stateDtype: z.enum(['f32', 'bf16', 'f16']).default('f32'),
};
const decay = z.enum(['l2', 'decoupled']).default('l2');
const adagrad = { ...step, decay, epsilon: z.number().positive().default(1e-10) };
const adam = {
  ...step,
  beta1: beta.default(0.9),
  beta2: beta.default(0.999),
  epsilon: z.number().positive().default(1e-8),
};
const optimizer = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('sgd'), ...step, decay, momentum: beta.default(0) }),
  z.strictObject({ type: z.literal('adagrad'), ...adagrad }),
  z.strictObject({ type: z.literal('rowwise-adagrad'), ...adagrad }),
  z.strictObject({ type: z.literal('adam'), ...adam }),
  z.strictObject({ type: z.literal('adamw'), ...adam }),
  z.strictObject({ type: z.literal('rowwise-adam'), ...adam }),
]);

const seconds = z.number().positive();
const evaluateEvery = z
  .strictObject({ steps: count.optional(), epochs: count.optional(), seconds: seconds.optional() })
  .refine(
    (every) => Object.values(every).filter((value) => value !== undefined).length === 1,
    'allowed: one of steps, epochs and seconds',
  );

const train = z.strictObject({
  epochs: count.default(1),
  /** Ends the training before its epochs are over: with the first step that reaches one of these. */
  budget: z
    .strictObject({ steps: count.optional(), seconds: seconds.optional(), tokens: count.optional() })
    .default({}),
  /** Batches that make one step of the optimiser. */
  accumulateBatches: count.default(1),
  seed: z.int().min(0).default(0),
  /** Kernel threads; default: one per core. Results do not depend on it. */
  threads: count.max(256).optional(),
  /** The validation metric that chooses the result. */
  metric: z.string().min(1).default('loss'),
  /** What is evaluated beside the objective's own. */
  metrics: z
    .array(z.string().refine((name) => metricOf(name) !== null, `is no metric; allowed: ${metricNames.join(', ')}`))
    .default([]),
  /** Columns: every metric of the validation examples with each of their values. */
  sliceBy: z.array(z.string()).default([]),
  /** When the validation data is evaluated; the last state is in any case. */
  evaluateEvery: evaluateEvery.default({ epochs: 1 }),
  /** Evaluations without a better metric before training stops. */
  patience: count.optional(),
  /** The most that the norm of all gradients of a step together may be. */
  clipNorm: z.number().positive().optional(),
  logEverySteps: count.default(50),
  checkpointEverySteps: count.default(1000),
  keepCheckpoints: count.default(2),
  /** Pool the next batch's base rows while one trains, where they are not all in RAM. Results are the same without. */
  prefetch: z.boolean().default(true),
  /** Write `tensorboard/` too: the curves as TensorBoard reads them. */
  tensorboard: z.boolean().default(false),
});

const report = z.strictObject({
  /** Rows, or words of the vocabulary, whose nearest rows the report shows before and after; default: those that moved the farthest. */
  probes: z
    .array(z.union([row, z.string().min(1)]))
    .max(50)
    .optional(),
});

export const baseline = z.enum(['none', 'frozen', 'full', 'map']);

export const jobSchema = z
  .strictObject({
    name,
    /** The run's folder; default `runs/<name>`. */
    output: z.string().optional(),
    tables: z.record(name, table),
    placement: placement.default(() => placement.parse({})),
    data,
    features: z.record(name, feature),
    /** Sampled, each by a name that no feature has: a feature for the objective. */
    negatives: z.record(name, negatives).default({}),
    /** More of the columns that are labels; of others the column has the label's name. */
    labels: z.record(z.string(), label).default({}),
    numbers: z.record(name, numbers).default({}),
    weight: weight.optional(),
    /** Names the examples. */
    id: z.strictObject({ column: z.string() }).optional(),
    objective: objectiveSchema,
    adapters: z.record(name, adapter).default({}),
    /**
     * The same job for comparison: its adapted tables frozen, every touched row of them trained in full, or all rows mapped by one trained
     * D x D matrix (`none`: as the job is).
     */
    baseline: baseline.default('none'),
    optimizer,
    train: train.default(() => train.parse({})),
    report: report.optional(),
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
