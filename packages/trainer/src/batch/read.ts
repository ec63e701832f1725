/** From a batch file to its jobs: a list, every combination of some fields' values, or values drawn at random. */
import { basename, dirname, resolve } from 'node:path';
import { FinetableError, RandomStream } from '@finetable/core';
import { z } from 'zod';
import { checkJob, checkSchema, readYaml, setField, type LoadedJob } from '../job/read.ts';

const name = z
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
  z.strictObject({ values }),
  z.strictObject({ uniform: range }),
  z.strictObject({ logUniform: positive }),
  z.strictObject({ integers: z.tuple([z.int(), z.int()]).refine(([low, high]) => low <= high, 'in order') }),
]);

const batchSchema = z
  .strictObject({
    /** Default: the file's name without its ending. */
    name: name.optional(),
    /** The folder of its runs and tables; default `runs/<name>`. */
    output: z.string().optional(),
    jobs: z
      .array(z.union([z.string().min(1), z.strictObject({ job, name: name.optional(), set: set.optional() })]))
      .min(1)
      .optional(),
    base: job.optional(),
    /** Of every job; before what makes it differ from the others. */
    set: set.default({}),
    grid: z.record(z.string(), values).optional(),
    random: z
      .strictObject({
        trials: z.int().min(1).max(10_000),
        seed: z.int().min(0).default(0),
        fields: z.record(z.string(), distribution),
      })
      .optional(),
    /** By which results are sorted; default the jobs' `train.metric`. */
    metric: z.string().min(1).optional(),
    concurrency: z.int().min(1).max(256).optional(),
    memory: z.union([z.number(), z.string()]).optional(),
    stopOnFailure: z.boolean().default(false),
  })
  .superRefine((batch, context) => {
    const issue = (path: string, message: string): void => context.addIssue({ code: 'custom', path: [path], message });
    const { jobs, base, grid, random } = batch;
    if ((jobs === undefined) === (base === undefined))
      issue('jobs', 'allowed: either jobs, or base with grid or random');
    else if (base !== undefined && (grid === undefined) === (random === undefined))
      issue('base', 'goes with either grid or random');
    else if (jobs !== undefined && (grid ?? random) !== undefined) issue('jobs', 'grid and random go with base');
  });

/** A batch file, checked. */
export type Batch = z.output<typeof batchSchema>;
export type Distribution = z.output<typeof distribution>;

export interface LoadedBatch {
  readonly name: string;
  /** Of its tables and of the runs, each of which has a folder in it. Absolute. */
  readonly folder: string;
  readonly jobs: readonly BatchJob[];
  readonly metric: string;
  readonly concurrency: number | undefined;
  readonly memory: number | string | undefined;
  readonly stopOnFailure: boolean;
}

export interface BatchJob {
  readonly loaded: LoadedJob;
  /** What makes it differ from the others: fields by path. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** The most jobs of a grid: more are a mistake, and would be checked one by one first. */
const mostJobs = 10_000;

/**
 * Reads a batch file and makes its jobs, every one of which is checked.
 * @throws NOT_FOUND, INVALID_JOB naming the batch's field or the job's
 */
export async function readBatch(path: string): Promise<LoadedBatch> {
  const input = await readYaml(path, 'a batch is a mapping (jobs, or base with grid or random)');
  return checkBatch(input, dirname(resolve(path)), basename(path).replace(/\.[^.]*$/, ''), path);
}

/**
 * As {@link readBatch}, of a batch given as an object.
 * @param folder that its paths are relative to @param fallback its name where it does not say one @param where what it is called in errors
 */
export async function checkBatch(
  input: unknown,
  folder: string,
  fallback = 'batch',
  where = 'batch',
): Promise<LoadedBatch> {
  const batch = checkSchema(batchSchema, input, where);
  const batchName = batch.name ?? fallback.replaceAll(/[^A-Za-z0-9._-]/g, '-');
  const output = resolve(folder, batch.output ?? `runs/${batchName}`);
  const variants = batch.jobs ? listed(batch) : batch.grid ? combinations(batch.grid, where) : drawn(batch.random!);
  const bases = new Map<unknown, Base>();
  const jobs: BatchJob[] = [];
  for (const { base, name, settings } of variants) {
    const from = base ?? batch.base!;
    if (!bases.has(from)) bases.set(from, await readBase(from, folder));
    const { input, folder: jobFolder, where: jobWhere } = bases.get(from)!;
    const own = structuredClone(input);
    for (const [field, value] of Object.entries({ ...batch.set, ...settings }))
      setField(own, pathOf(field, where), value, where);
    const jobName = name ?? (own.name as string);
    // In its run's folder the job says nothing of where that is.
    const job = checkJob({ ...own, name: jobName }, name === null ? jobWhere : `${jobWhere} as ${jobName}`);
    jobs.push({ loaded: { job: { ...job, output: resolve(output, jobName) }, folder: jobFolder }, settings });
  }
  refuseDoubles(jobs, where);
  const { metric = jobs[0]!.loaded.job.train.metric, concurrency, memory, stopOnFailure } = batch;
  return { name: batchName, folder: output, jobs, metric, concurrency, memory, stopOnFailure };
}

interface Base {
  readonly input: Record<string, unknown>;
  readonly folder: string;
  readonly where: string;
}

async function readBase(base: z.output<typeof job>, folder: string): Promise<Base> {
  if (typeof base !== 'string') return { input: base, folder, where: 'job' };
  const path = resolve(folder, base);
  const input = await readYaml(path, 'a job is a mapping (name, tables, data, …)');
  return { input, folder: dirname(path), where: path };
}

interface Variant {
  /** Default: the batch's. */
  readonly base?: z.output<typeof job>;
  /** null: the job's own. */
  readonly name: string | null;
  readonly settings: Record<string, unknown>;
}

function listed({ jobs }: Batch): Variant[] {
  return jobs!.map((entry) =>
    typeof entry === 'string'
      ? { base: entry, name: null, settings: {} }
      : { base: entry.job, name: entry.name ?? null, settings: entry.set ?? {} },
  );
}

/** Every combination, the last field's values fastest. */
function combinations(grid: Readonly<Record<string, readonly unknown[]>>, where: string): Variant[] {
  const fields = Object.keys(grid);
  const count = fields.reduce((product, field) => product * grid[field]!.length, 1);
  if (count > mostJobs)
    throw new FinetableError('INVALID_JOB', `${where}: grid: ${count} jobs; allowed: ${mostJobs}`, { path: 'grid' });
  const labels = shortLabels(fields);
  return Array.from({ length: count }, (_, index) => {
    const settings: Record<string, unknown> = {};
    let rest = index;
    for (const field of [...fields].reverse()) {
      const { length } = grid[field]!;
      settings[field] = grid[field]![rest % length];
      rest = Math.floor(rest / length);
    }
    const ordered = Object.fromEntries(fields.map((field) => [field, settings[field]]));
    return { name: nameOf(ordered, labels, index), settings: ordered };
  });
}

/** The last words of paths that tell them apart. */
function shortLabels(fields: readonly string[]): Map<string, string> {
  const label = (field: string, words: number): string => field.split('.').slice(-words).join('.');
  return new Map(
    fields.map((field) => {
      let words = 1;
      while (
        words < field.split('.').length &&
        fields.some((other) => other !== field && label(other, words) === label(field, words))
      )
        words++;
      return [field, label(field, words)];
    }),
  );
}

/** `rank-4_learningRate-0.01`; a number where values are no plain words, or the name would be too long. */
function nameOf(
  settings: Readonly<Record<string, unknown>>,
  labels: ReadonlyMap<string, string>,
  index: number,
): string {
  const words = Object.entries(settings).map(([field, value]) => `${labels.get(field)!}-${String(value)}`);
  const text = words.join('_');
  const plain = Object.values(settings).every((value) => typeof value !== 'object' || value === null);
  return plain && name.safeParse(text).success ? text : `job-${numbered(index)}`;
}

const numbered = (index: number): string => String(index + 1).padStart(4, '0');

/** More trials begin with the same ones: a trial's values depend on seed, field and number alone. */
function drawn({ trials, seed, fields }: NonNullable<Batch['random']>): Variant[] {
  return Array.from({ length: trials }, (_, trial) => ({
    name: `trial-${numbered(trial)}`,
    settings: Object.fromEntries(
      Object.entries(fields).map(([field, from]) => [field, draw(from, new RandomStream(seed, field), trial)]),
    ),
  }));
}

function draw(from: Distribution, random: RandomStream, at: number): unknown {
  if ('values' in from) return from.values[random.below(at, from.values.length)];
  if ('integers' in from) return from.integers[0] + random.below(at, from.integers[1] - from.integers[0] + 1);
  const share = random.below(at, 2 ** 31) / 2 ** 31;
  const [low, high] = 'uniform' in from ? from.uniform : from.logUniform;
  const value = 'uniform' in from ? low + share * (high - low) : low * (high / low) ** share;
  // As people write it: four digits are enough, and read well in tables and file names.
  return Number(value.toPrecision(4));
}

function pathOf(field: string, where: string): string[] {
  const path = field.split('.');
  if (path.every((key) => key !== '' && key !== '__proto__') && path[0] !== 'output') return path;
  throw new FinetableError(
    'INVALID_JOB',
    `${where}: ${field}: allowed: a field of the job by its path, such as train.epochs, but output`,
    { path: field },
  );
}

function refuseDoubles(jobs: readonly BatchJob[], where: string): void {
  const seen = new Set<string>();
  for (const { loaded } of jobs) {
    const { name } = loaded.job;
    if (seen.has(name))
      throw new FinetableError(
        'INVALID_JOB',
        `${where}: two jobs are named ${name}; give one another name (jobs: name)`,
        { path: 'jobs' },
      );
    seen.add(name);
  }
}
