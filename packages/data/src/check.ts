/** Checks of what the caller passes, before anything is opened; and the defaults. */
import { checkFeature } from './feature/check.ts';
import { checkLabel, checkNumbers } from './check-values.ts';
import { checkInteger, checkNumber, checkOneOf, refuse } from './refuse.ts';
import { formatOf } from './source/source.ts';
import type { DataSpec, LoaderOptions, SourceSpec, SplitSpec } from './spec.ts';

/** @throws INVALID_ARGUMENT whose `details.path` names the field */
export function checkData(data: DataSpec): void {
  checkSource(data.source);
  if (data.split) checkSplit(data.split);
  for (const [name, { rows }] of Object.entries(data.tables)) checkInteger(`tables.${name}.rows`, rows, 1, 2 ** 31 - 1);
  for (const [name, spec] of Object.entries(data.features)) checkFeature(`features.${name}`, spec, data.tables);
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

function checkSplit({ part, parts, seed = 0 }: SplitSpec): void {
  if (parts.length < 2 || parts.some((size) => !Number.isFinite(size) || size <= 0))
    throw refuse('split.parts', parts, 'two or more numbers above 0');
  checkInteger('split.part', part, 0, parts.length - 1);
  checkInteger('split.seed', seed, 0, 2 ** 32 - 1);
}

/** Options with every default filled in. */
export interface LoaderPlan {
  readonly batchSize: number;
  readonly workers: number;
  readonly shuffle: boolean;
  /** Examples that are shuffled as a whole. */
  readonly shuffleWindow: number;
  readonly seed: number;
  readonly shard: { readonly index: number; readonly count: number };
  /** Batches made or being made, and not consumed. */
  readonly prefetchBatches: number;
  /** Batches per task. */
  readonly taskBatches: number;
  /** Of a task in a worker. */
  readonly taskSeconds: number;
}

/** A task's round trip costs 0.1 ms, so a task should be some milliseconds of work: about this many examples. */
const taskExamples = 1024;

/** A task is seconds of work at most; a worker that shares a processor with many others should not be taken for one that hangs. */
const longestTaskSeconds = 300;

/** @throws INVALID_ARGUMENT whose `details.path` names the option */
export function planLoader(options: LoaderOptions): LoaderPlan {
  const { batchSize, workers = 1, shuffle = false, shuffleWindow = 1 << 22, seed = 0 } = options;
  const { shard = { index: 0, count: 1 }, taskSeconds = longestTaskSeconds } = options;
  checkInteger('batchSize', batchSize, 1, 2 ** 31 - 1);
  checkInteger('workers', workers, 0, 1024);
  checkInteger('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger('shuffleWindow', shuffleWindow, 1, 2 ** 31 - 1);
  checkInteger('shard.count', shard.count, 1, batchSize);
  checkInteger('shard.index', shard.index, 0, shard.count - 1);
  if (options.prefetchBatches !== undefined) checkInteger('prefetchBatches', options.prefetchBatches, 1, 2 ** 31 - 1);
  if (!(taskSeconds > 0)) throw refuse('taskSeconds', String(taskSeconds), 'a number above 0');
  const plan = { batchSize, workers, shuffle, shuffleWindow, seed, shard, taskSeconds };
  // On the caller's own thread nothing is made before it is asked for.
  if (workers === 0) return { ...plan, prefetchBatches: 1, taskBatches: 1 };
  const chunk = Math.min(16, Math.ceil(taskExamples / batchSize));
  const prefetchBatches = options.prefetchBatches ?? Math.max(16, 2 * workers * chunk);
  const taskBatches = Math.max(1, Math.min(chunk, Math.floor(prefetchBatches / (2 * workers))));
  return { ...plan, prefetchBatches, taskBatches };
}
