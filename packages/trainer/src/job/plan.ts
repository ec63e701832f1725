/**
 * A job's placement, before any memory is taken: sizes from the headers of its tables, the batch's shape from the first
 * examples, budgets from the machine. The planning itself is `planPlacement`.
 */
import { mapPaths } from './paths.ts';
import { resolve } from 'node:path';
import { FinetableError, formatBytes, parseBytes, storedRowBytes } from '@finetable/core';
import {
  countNgrams,
  historyColumns,
  planLoader,
  readerBytes,
  readTokenizer,
  mostIndexedPlaces,
  visitSource,
  type Row,
  type SourceShape,
  wordSplitter,
  type Tokenizer,
} from '@finetable/data';
import { readNpy } from '@finetable/formats';
import { ruleOf } from '@finetable/lora';
import {
  findRows,
  planPlacement,
  systemMemory,
  type AdapterRequest,
  type DeviceRequest,
  type Frequencies,
  type PlacementPlan,
  type SystemMemory,
  type TableRequest,
} from '@finetable/placement';
import { adaptersOf } from './baseline.ts';
import { grownRows } from './grow.ts';
import { loaderOptions } from './loader.ts';
import type { LoadedJob } from './read.ts';
import type { Job } from './schema.ts';
import { findDevice, type FoundDevice, type JobDevice } from './device.ts';
import { optimizerOf } from './optimizer.ts';

/** Where a job's tables would lie, and what it would take. */
export interface JobPlan extends PlacementPlan {
  /** What had to be assumed. */
  readonly notes: readonly string[];
}

/**
 * Where the job's tables shall lie, and what memory the run will take. Reads headers, counts and the examples once.
 * @param memory for tests; default this machine's
 * @param device that was found for the job; default: looked for
 * @throws DOES_NOT_FIT; UNSUPPORTED for a device that is not to be had; what `findRows`, `readNpy` and `readTokenizer` throw
 */
export async function planJob(
  { job, folder }: LoadedJob,
  memory: SystemMemory = systemMemory(),
  device?: FoundDevice,
): Promise<JobPlan> {
  const { found, notes } = device ?? (await findDevice(job));
  const tokenizers = readTokenizers(job, folder);
  const examples = await sampleExamples(job, folder, tokenizers);
  const tables = await Promise.all(
    Object.keys(job.tables).map((name) => tableRequest(job, folder, name, examples, found)),
  );
  const added = await Promise.all(Object.values(job.tables).map(({ grow }) => grownRows(grow, folder)));
  const grown = tables.map((table, i) => ({ ...table, rows: added[i]! })).filter(({ rows }) => rows > 0);
  // The loaders of training and of validation are open together, each with its threads and batches.
  const loaders = job.data.validation ? 2 : 1;
  const threads = Math.max(1, job.data.workers);
  const { prefetchBatches, prefetchBytes, taskBatches } = planLoader(loaderOptions(job, 'train'), examples.shape);
  const { cache } = job.placement;
  const plan = planPlacement({
    tables,
    devices: [...devicesOf(job, memory), ...(found ? [found.request] : [])],
    workers: loaders * job.data.workers,
    prefetchBatches: loaders * prefetchBatches,
    prefetchBytes: loaders * prefetchBytes,
    taskBatches,
    otherBytes: {
      // A byte offset and a line number for each example.
      'index of the examples': loaders * 16 * Math.min(examples.total ?? 0, mostIndexedPlaces),
      'files as they are read': examples.shape ? loaders * threads * readerBytes(examples.shape) : 0,
      'examples kept between epochs': keptBytes(job, examples),
      vocabularies: loaders * threads * vocabularyBytes(job, tables, added, tokenizers),
      'frequencies of ids': loaders * countBytes(job, tables, added),
      ...Object.fromEntries(
        grown.map(({ name, ...table }) => [
          `rows added to ${name}`,
          table.rows * storedRowBytes({ ...table, groupDims: table.groupDims ?? 0 }),
        ]),
      ),
    },
    steps: examples.total === null ? undefined : job.train.epochs * Math.ceil(examples.total / job.data.batchSize),
    cacheBytes: cache === undefined ? undefined : parseBytes(cache, 'placement.cache', memory.totalBytes),
  });
  return { ...plan, notes: [...examples.notes, ...notes] };
}

function devicesOf({ placement }: Job, { totalBytes, freeBytes, limit }: SystemMemory): DeviceRequest[] {
  const allowed = parseBytes(placement.memory, 'placement.memory', totalBytes);
  const text = `placement.memory ${placement.memory}, the ${limit} has ${formatBytes(totalBytes)}`;
  const { ram, mapped } = placement.bandwidths ?? {};
  return [
    {
      name: 'ram',
      kind: 'ram',
      budgetBytes: Math.min(allowed, freeBytes),
      freeBytes,
      bandwidths: ram,
      note: freeBytes < allowed ? `what is free now; ${text}` : text,
    },
    { name: 'mapped', kind: 'mapped', budgetBytes: Infinity, bandwidths: mapped },
  ];
}

async function tableRequest(
  job: Job,
  folder: string,
  name: string,
  examples: Examples,
  device: JobDevice | null,
): Promise<TableRequest> {
  const { file, tensor, placement, frequencies, sortedByFrequency } = job.tables[name]!;
  const { rows, dim, dtype, scales } = await findRows(resolve(folder, file), tensor);
  const features = Object.entries(job.features).filter(([, feature]) => feature.table === name);
  const sampled = Object.entries(job.negatives).filter(([, { of }]) => job.features[of]!.table === name);
  const idsOf = (lookups: readonly (readonly [string, unknown])[]): number =>
    lookups.reduce((sum, [feature]) => sum + examples.ids(feature), 0);
  const idsPerExample = idsOf([...features, ...sampled]);
  const pooled = features.filter(([, { pooling }]) => pooling !== 'none');
  const vectorsPerExample = idsPerExample - idsOf(pooled) + pooled.length;
  return {
    name,
    rows,
    dim,
    dtype,
    groupDims: scales?.groupDims,
    bags: Math.ceil(vectorsPerExample * job.data.batchSize),
    idsPerBag: idsPerExample / (vectorsPerExample || 1),
    frequencies: frequencies && (await readFrequencies(frequencies, folder)),
    sortedByFrequency,
    adapter: adapterRequest(job, name, idsPerExample * (examples.total ?? 0)),
    ...(Array.isArray(placement)
      ? { shards: placement.map(({ home, rows }) => ({ device: home, rows })) }
      : placement === 'auto'
        ? placedByPlan(job, name, device)
        : { device: placement }),
  };
}

/** What `auto` leaves to the plan: all devices, but for a table whose rows must be read here, or a device that is no faster. */
function placedByPlan(
  job: Job,
  name: string,
  device: JobDevice | null,
): Pick<TableRequest, 'split' | 'device' | 'among'> {
  const { split, grow } = job.tables[name]!;
  const adapter = adaptersOf(job)[name];
  const factors = adapter ? [adapter, ...(adapter.groups ?? [])] : [];
  const samples = factors.some((group) => group.kind === 'lora' && group.init === 'pissa');
  const reads = samples || adapter?.dora === true || adapter?.maxNorm !== undefined;
  const computes = !reads && !grow && job.placement.device !== 'cpu';
  if (!computes || !device?.gpu) return { split, among: ['ram', 'mapped'] };
  return job.placement.device === 'gpu' ? { device: device.request.name } : { split };
}

function adapterRequest(job: Job, table: string, trainingIds: number): AdapterRequest | undefined {
  const { tables, optimizer } = job;
  const adapter = adaptersOf(job)[table];
  if (!adapter) return undefined;
  // Rows as wide as those of the widest group: how many each will have is not known.
  const groups: { kind: 'lora' | 'dense'; rank?: number }[] = [adapter, ...(adapter.groups ?? [])];
  if (typeof adapter.grown === 'object') groups.push(adapter.grown);
  else if (tables[table]!.grow && adapter.grown !== 'tied' && !adapter.rows) groups.push({ kind: 'dense' });
  const ranks = groups.map((group) => group.rank ?? Infinity);
  const rank = Math.max(...ranks);
  return {
    ...(rank === Infinity ? { kind: 'dense' } : { kind: 'lora', rank }),
    trainingIds,
    rule: ruleOf(optimizerOf(job, 1)),
    stateBytes: optimizer.stateDtype === 'f32' ? 4 : 2,
    mode: optimizer.mode,
  };
}

/** @throws what `readNpy` throws; INVALID_FILE for counts in another shape */
export async function readFrequencies(
  frequencies: NonNullable<Job['tables'][string]['frequencies']>,
  folder: string,
): Promise<Frequencies> {
  if ('zipf' in frequencies) return frequencies;
  const path = resolve(folder, frequencies.counts);
  const { shape, data } = await readNpy(path);
  if (shape.length !== 1) {
    throw new FinetableError('INVALID_FILE', `${path} has shape [${shape.join(', ')}]; counts are [rows]`, {
      file: path,
    });
  }
  return {
    counts: data instanceof BigInt64Array || data instanceof BigUint64Array ? Float64Array.from(data, Number) : data,
  };
}

/** Of each feature that has one. */
type Tokenizers = ReadonlyMap<string, Tokenizer>;

function readTokenizers({ features }: Job, folder: string): Tokenizers {
  const files = Object.entries(features).flatMap(([name, { tokens }]) =>
    tokens?.tokenizer === undefined ? [] : [[name, tokens.tokenizer] as const],
  );
  return new Map(files.map(([name, file]) => [name, readTokenizer(resolve(folder, file))]));
}

/** Of one thread's maps from word to row (about 100 bytes a word in V8, its characters included) and tokenizers. */
function vocabularyBytes(
  { features }: Job,
  tables: readonly TableRequest[],
  added: readonly number[],
  tokenizers: Tokenizers,
): number {
  const rows = new Map(tables.map((table, i) => [table.name, table.rows + added[i]!]));
  const bytes = Object.entries(features).map(([name, { tokens, lookup, table }]) =>
    (tokens ?? lookup) ? (tokenizers.get(name)?.memoryBytes ?? 100 * rows.get(table)!) : 0,
  );
  return bytes.reduce((sum, n) => sum + n, 0);
}

/** Of the weights that go by frequency: f64 for each row, in memory that threads share. */
function countBytes({ features }: Job, tables: readonly TableRequest[], added: readonly number[]): number {
  const weighted = Object.values(features).filter(({ weighting }) => weighting?.type === 'sif');
  const rows = weighted.map(({ table }) => {
    const i = tables.findIndex(({ name }) => name === table);
    return tables[i]!.rows + added[i]!;
  });
  return 8 * rows.reduce((sum, n) => sum + n, 0);
}

/** Of examples that loaders keep: places, and what is in them, but no more than they may. */
function keptBytes(job: Job, { total, ids }: Examples): number {
  const words = Object.keys(job.features).reduce((sum, name) => sum + 2 + 2 * ids(name), 0);
  const wanted = total === null ? Infinity : (exampleBytes + 4 * words) * total;
  return (job.data.validation ? 2 : 1) * Math.min(wanted, loaderOptions(job, 'train').cacheBytes!);
}

/** Its place, file and line, a label and some numbers. */
const exampleBytes = 40;

interface Examples {
  /** null: not known. */
  readonly total: number | null;
  /** Of the source; null where it cannot be read. */
  readonly shape: SourceShape | null;
  /** Mean ids of one example for a feature. */
  readonly ids: (feature: string) => number;
  readonly notes: readonly string[];
}

/** Where the examples cannot be read; the loader, which needs them, says more about it. */
const assumedIds = 20;

/** Looks at some of the examples. Tokens that are not in a vocabulary are counted too. */
async function sampleExamples(job: Job, folder: string, tokenizers: Tokenizers): Promise<Examples> {
  const { split, file, ...source } = job.data.train;
  const rows: Row[] = [];
  const problems: string[] = [];
  const columns = new Set(Object.values(job.features).map(({ column }) => column));
  for (const column of columns) if (idsOfHistories(job, column) !== null) columns.delete(column);
  try {
    const { totalRows, shape } = await visitSource(
      { ...source, file: mapPaths(file, (path) => resolve(folder, path)) },
      { row: ({ values }) => void rows.push(values), problem: (message) => void problems.push(message) },
      { rows: 256, columns: [...columns] },
    );
    if (rows.length === 0) throw new Error(problems[0]);
    const means = Object.entries(job.features).map(([name, feature]) => {
      const ids = rows.reduce((sum, row) => sum + countIds(feature, row, tokenizers.get(name)), 0);
      const mean = idsOfHistories(job, feature.column) ?? ids / rows.length;
      return [name, Math.min(mean, feature.last ?? Infinity)] as const;
    });
    const byFeature = new Map([
      ...means,
      ...Object.entries(job.negatives).map(([name, { count }]) => [name, count] as const),
    ]);
    const share = split ? shareOf(split) : 1;
    return { total: Math.ceil(totalRows * share), shape, ids: (feature) => byFeature.get(feature)!, notes: [] };
  } catch (error) {
    const note = `${mapPaths(file, String)} could not be looked at (${(error as Error).message}): ${assumedIds} ids an example are assumed, and the adapters' rows are left out`;
    return { total: null, shape: null, ids: () => assumedIds, notes: [note] };
  }
}

/** Of a column that histories make, the most; null for others. All that a user has is not known: it is taken to be as a history. */
function idsOfHistories({ data: { histories } }: Job, column: string): number | null {
  if (!histories) return null;
  const { history, seen, target } = historyColumns;
  return column === target ? 1 : column === history || column === seen ? histories.window : null;
}

/** How much of the examples a split has; at most, where that depends on what is in them. */
function shareOf(split: NonNullable<Job['data']['train']['split']>): number {
  if (!('parts' in split)) return 1;
  const { part, parts, others } = split;
  const share = parts[part]! / parts.reduce((sum, size) => sum + size, 0);
  return others ? 1 - share : share;
}

function countIds(
  { column, tokens, ngrams, lookup, hash }: Job['features'][string],
  values: Row,
  tokenizer: Tokenizer | undefined,
): number {
  const value = Object.hasOwn(values, column) ? values[column] : undefined;
  if (Array.isArray(value)) return value.length;
  const separator = (lookup ?? hash)?.separator;
  if (lookup ?? hash) return typeof value === 'string' && separator !== undefined ? value.split(separator).length : 1;
  if (typeof value === 'number') return 1;
  if (typeof value !== 'string') return 0;
  if (ngrams) return Math.min(countNgrams(value.length, ngrams.min, ngrams.max), ngrams.maxTokens ?? Infinity);
  if (tokenizer) return tokenizer.encode(value, tokens?.maxTokens).length;
  const found = wordSplitter(tokens ?? { pattern: '\\d+' })(value).length;
  const most = tokens?.maxTokens ?? Infinity;
  return tokens?.pad ? most : Math.min(found, most);
}
