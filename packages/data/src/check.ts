/** Checks of what the caller passes, before anything is opened; and the defaults. */
import { show, showNames } from './errors.ts';
import { mostCacheBytes } from './cache.ts';
import { checkCounts, checkFeature } from './feature/check.ts';
import { historyColumns } from './histories/columns.ts';
import { checkLabel, checkNumbers } from './check-values.ts';
import { mostNegatives } from './negatives.ts';
import { checkInteger, checkNumber, checkOneOf, refuse } from './refuse.ts';
import { formatOf, keptBytes, type SourceIndex } from './source/source.ts';
import { timeOf } from './source/times.ts';
import type {
  DataSpec,
  HistoriesSpec,
  LoaderOptions,
  NegativesSpec,
  SourceSpec,
  SplitSpec,
  TimeSplit,
} from './spec.ts';

/** @throws INVALID_ARGUMENT whose `details.path` names the field */
export function checkData(data: DataSpec): void {
  checkSource(data.source);
  if (data.split) checkSplit(data.split);
  if (data.histories) checkHistories(data.histories);
  else if (data.split?.leaveOut !== undefined)
    throw refuse('split.leaveOut', data.split.leaveOut, 'only with histories');
  for (const [name, { rows }] of Object.entries(data.tables)) checkInteger(`tables.${name}.rows`, rows, 1, 2 ** 31 - 1);
  for (const [name, spec] of Object.entries(data.features)) checkFeature(`features.${name}`, spec, data.tables);
  for (const [name, spec] of Object.entries(data.negatives ?? {})) checkNegatives(name, spec, data);
  for (const [name, spec] of Object.entries(data.labels)) checkLabel(`labels.${name}`, spec);
  for (const [name, spec] of Object.entries(data.numbers ?? {})) checkNumbers(`numbers.${name}`, spec);
  if (data.weight?.default !== undefined) checkNumber('weight.default', data.weight.default, 0);
  const { badRows = 'error' } = data;
  if (typeof badRows === 'object') {
    if (badRows.skip !== Infinity) checkInteger('badRows.skip', badRows.skip, 0, Number.MAX_SAFE_INTEGER);
  } else checkOneOf('badRows', badRows, ['error']);
}

function checkSource(source: SourceSpec): void {
  if (source.rows !== undefined) {
    const { rows } = source;
    const iterable =
      typeof rows === 'object' && rows !== null && (Symbol.iterator in rows || Symbol.asyncIterator in rows);
    if (!iterable && typeof rows !== 'function')
      throw refuse('source.rows', rows, 'an array, an iterable or a function');
    return;
  }
  const { file, columns, delimiter } = source;
  const files = typeof file === 'string' ? [file] : file;
  if (!Array.isArray(files) || files.length === 0 || files.some((name) => typeof name !== 'string' || name === ''))
    throw refuse('source.file', file, 'a path, or a list of them');
  const formats = new Set(files.map((name) => formatOf(name, source)));
  if (formats.size > 1) throw refuse('source.file', [...formats], 'files of one format');
  const separated = formats.has('csv') || formats.has('tsv');
  if (columns !== undefined) {
    if (!separated) throw refuse('source.columns', columns, 'only for csv and tsv');
    if (columns.length === 0 || new Set(columns).size < columns.length)
      throw refuse('source.columns', columns, 'names, each once');
  }
  if (delimiter !== undefined) {
    if (!separated) throw refuse('source.delimiter', delimiter, 'only for csv and tsv');
    if (delimiter.length !== 1 || /["\r\n]/.test(delimiter))
      throw refuse('source.delimiter', delimiter, 'one character, and no quote or line end');
  }
}

function checkSplit(split: SplitSpec): void {
  if (split.time) checkTimes(split);
  else if (split.leaveOut !== undefined) {
    checkOneOf('split.leaveOut', split.leaveOut, ['train', 'validation', 'test']);
    checkInteger('split.count', split.count ?? 1, 1, 2 ** 31 - 1);
  } else {
    const { part, parts, seed = 0 } = split;
    if (parts.length < 2 || parts.some((size) => !Number.isFinite(size) || size <= 0))
      throw refuse('split.parts', parts, 'two or more numbers above 0');
    checkInteger('split.part', part, 0, parts.length - 1);
    checkInteger('split.seed', seed, 0, 2 ** 32 - 1);
  }
}

function checkHistories({ window, minimum = 1, user, item, list }: HistoriesSpec): void {
  checkInteger('histories.window', window, 1, 2 ** 31 - 1);
  checkInteger('histories.minimum', minimum, 0, 2 ** 31 - 1);
  if ((list === undefined) === (user === undefined))
    throw refuse('histories', { user, list }, 'user, item and time; or list');
  const taken = Object.values<string>(historyColumns);
  for (const [name, column] of Object.entries({ user, item }))
    if (column !== undefined && taken.includes(column))
      throw refuse(`histories.${name}`, column, `columns beside those that histories make: ${showNames(taken)}`);
}

function checkNegatives(
  name: string,
  { of, count, distribution }: NegativesSpec,
  { features, tables }: DataSpec,
): void {
  const path = `negatives.${name}`;
  if (Object.hasOwn(features, name)) throw refuse(path, name, 'names that no feature has');
  if (!Object.hasOwn(features, of)) throw refuse(`${path}.of`, of, showNames(Object.keys(features)));
  checkInteger(`${path}.count`, count, 1, mostNegatives);
  if (typeof distribution === 'object') {
    checkNumber(`${path}.distribution.exponent`, distribution.exponent ?? 1, 0);
    checkCounts(`${path}.distribution.counts`, distribution.counts, features[of]!, tables[features[of]!.table]!.rows);
  } else checkOneOf(`${path}.distribution`, distribution ?? 'uniform', ['uniform']);
}

function checkTimes({ time: { from, to } }: TimeSplit): void {
  const [low, high] = Object.entries({ from, to }).map(([name, bound]) => {
    const found = bound === undefined ? null : timeOf(bound);
    if (bound !== undefined && !found) throw refuse(`split.time.${name}`, bound, 'a number or an ISO 8601 date');
    return found;
  });
  if (!low && !high) throw refuse('split.time', 'neither from nor to', 'one of them, or both');
  if (low && high && (low.kind !== high.kind || low.value >= high.value))
    throw refuse('split.time.to', to, `what comes after ${show(from)}`);
}

/** Options with every default filled in. */
export interface LoaderPlan {
  readonly batchSize: number;
  readonly workers: number;
  readonly shuffle: boolean;
  /** Examples that are shuffled as a whole. */
  readonly shuffleWindow: number;
  readonly seed: number;
  readonly distinct: string | null;
  readonly shard: { readonly index: number; readonly count: number };
  /** Batches made or being made, and not consumed. */
  readonly prefetchBatches: number;
  /** Their bytes. */
  readonly prefetchBytes: number;
  /** Of examples that are kept between epochs. */
  readonly cacheBytes: number;
  /** Batches per task. */
  readonly taskBatches: number;
  /** Of a task in a worker. */
  readonly taskSeconds: number;
}

/**
 * A worker that is done waits until the calling thread, which may be in a training step of some milliseconds, gives it the next task. So a
 * task is about this many examples: several steps.
 */
const taskExamples = 4096;

/** A task is seconds of work at most; a worker that shares a processor with many others should not be taken for one that hangs. */
const longestTaskSeconds = 300;

/** @throws INVALID_ARGUMENT whose `details.path` names the option */
export function planLoader(options: LoaderOptions): LoaderPlan {
  const { batchSize, workers = 1, shuffle = false, shuffleWindow = 1 << 22, seed = 0 } = options;
  const { prefetchBytes = 2 ** 28, cacheBytes = 0, taskSeconds = longestTaskSeconds } = options;
  const { shard = { index: 0, count: 1 }, distinct = null } = options;
  checkInteger('batchSize', batchSize, 1, 2 ** 31 - 1);
  checkInteger('workers', workers, 0, 1024);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('shuffleWindow', shuffleWindow, 1, 2 ** 31 - 1);
  checkInteger('shard.count', shard.count, 1, batchSize);
  checkInteger('shard.index', shard.index, 0, shard.count - 1);
  if (options.prefetchBatches !== undefined) checkInteger('prefetchBatches', options.prefetchBatches, 1, 2 ** 31 - 1);
  checkInteger('prefetchBytes', prefetchBytes, 1, Number.MAX_SAFE_INTEGER);
  checkInteger('cacheBytes', cacheBytes, 0, mostCacheBytes);
  if (!(taskSeconds > 0)) throw refuse('taskSeconds', String(taskSeconds), 'a number above 0');
  const given = { batchSize, workers, shuffle, shuffleWindow, seed, distinct, shard };
  const plan = { ...given, prefetchBytes, cacheBytes, taskSeconds };
  // On the caller's own thread nothing is made before it is asked for.
  if (workers === 0) return { ...plan, prefetchBatches: 1, taskBatches: 1 };
  const chunk = Math.min(16, Math.ceil(taskExamples / batchSize));
  const prefetchBatches = options.prefetchBatches ?? Math.max(16, 2 * workers * chunk);
  const taskBatches = Math.max(1, Math.min(chunk, Math.floor(prefetchBatches / (2 * workers))));
  return { ...plan, prefetchBatches, taskBatches };
}

/** Of a window of text whose places are not all noted: each thread keeps its blocks. */
export const textWindowBytes = 32 << 20;

/** Blocks of a window: those at its ends are decoded for two windows. */
const windowBlocks = 8;
/** Examples of a window, where its blocks are not larger: a task makes all its batches. */
const windowExamples = 1 << 18;

/**
 * The plan for blocks that are decoded as a whole. Where not all of them fit into a thread's memory, examples are shuffled a window
 * of blocks at a time, and a task is a window, so that a block is decoded about once in an epoch; then there are as many batches
 * made ahead as keep all threads at work, unless `prefetchBatches` says how many: then windows take several tasks, and each thread
 * decodes the blocks for itself.
 */
export function fitToBlocks(plan: LoaderPlan, index: SourceIndex, options: LoaderOptions): LoaderPlan {
  if (index.randomAccess) {
    if (!index.strided || options.shuffleWindow !== undefined) return plan;
    const window = Math.floor(textWindowBytes / (index.sizeBytes / index.examples));
    return { ...plan, shuffleWindow: Math.max(plan.batchSize, Math.min(plan.shuffleWindow, window)) };
  }
  const { batchSize, workers, prefetchBatches } = plan;
  let [largest, bytes, count] = [0, 0, 0];
  for (const { blocks, blockBytes } of index.files) {
    for (let i = 1; i < blocks.length; i++) largest = Math.max(largest, blocks[i]! - blocks[i - 1]!);
    bytes = Math.max(bytes, blockBytes);
    count += blocks.length - 1;
  }
  if (count * bytes <= keptBytes && index.examples <= plan.shuffleWindow) return plan;
  const fitting = Math.min(windowBlocks, Math.floor(keptBytes / bytes), Math.floor(windowExamples / largest));
  const wholeBatches = (examples: number): number => Math.ceil(examples / batchSize) * batchSize;
  const window = wholeBatches(Math.max(1, fitting) * largest);
  const shuffleWindow =
    options.shuffleWindow === undefined ? window : wholeBatches(Math.max(options.shuffleWindow, largest));
  if (workers === 0 || options.prefetchBatches !== undefined) return { ...plan, shuffleWindow };
  const taskBatches = window / batchSize;
  return {
    ...plan,
    shuffleWindow,
    taskBatches,
    prefetchBatches: Math.max(prefetchBatches, (workers + 1) * taskBatches),
  };
}
