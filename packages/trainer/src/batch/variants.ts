/** What the jobs of a batch differ in: a list, every combination of some fields' values, baselines, or values drawn at random. */
import { FinetableError, RandomStream } from '@finetable/core';
import { name, type Batch, type Distribution, type JobOfBatch } from './schema.ts';

/** The most jobs of a grid: more are a mistake, and would be checked one by one first. */
const mostJobs = 10_000;

export interface Variant {
  /** Default: the batch's. */
  readonly base?: JobOfBatch;
  /** null: the job's own. */
  readonly name: string | null;
  readonly settings: Record<string, unknown>;
}

/** @param where what the batch is called in errors @throws INVALID_JOB for too many */
export function variantsOf(batch: Batch, where: string): Variant[] {
  const { jobs, grid = {}, baselines, random } = batch;
  if (jobs) return listed(jobs);
  if (random) return drawn(random);
  if (!baselines) return combinations(grid, where, 0);
  const variants: Variant[] = [];
  for (const [baseline, own] of Object.entries(baselines))
    variants.push(...combinations({ baseline: [baseline], ...grid, ...own }, where, variants.length));
  return variants;
}

function listed(jobs: NonNullable<Batch['jobs']>): Variant[] {
  return jobs.map((entry) =>
    typeof entry === 'string'
      ? { base: entry, name: null, settings: {} }
      : { base: entry.job, name: entry.name ?? null, settings: entry.set ?? {} },
  );
}

/** Every combination, the last field's values fastest. @param first number of those before */
function combinations(grid: Readonly<Record<string, readonly unknown[]>>, where: string, first: number): Variant[] {
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
    return { name: nameOf(ordered, labels, first + index), settings: ordered };
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
