/** How a loader goes about its source: defaults, and what fits the way in which its examples lie. */
import { mostCacheBytes } from './cache.ts';
import { checkInteger, refuse } from './refuse.ts';
import { keptBytes, type SourceShape } from './source/source.ts';
import type { LoaderOptions } from './spec.ts';

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

/**
 * @param source where it is known: as `visitSource` finds it
 * @throws INVALID_ARGUMENT whose `details.path` names the option
 */
export function planLoader(options: LoaderOptions, source: SourceShape | null = null): LoaderPlan {
  const plan = planOf(options);
  return source ? fitToBlocks(plan, source, options) : plan;
}

function planOf(options: LoaderOptions): LoaderPlan {
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
function fitToBlocks(plan: LoaderPlan, source: SourceShape, options: LoaderOptions): LoaderPlan {
  if (source.randomAccess) {
    if (!source.strided || options.shuffleWindow !== undefined) return plan;
    const window = Math.floor(textWindowBytes / (source.sizeBytes / source.examples));
    return { ...plan, shuffleWindow: Math.max(plan.batchSize, Math.min(plan.shuffleWindow, window)) };
  }
  const { batchSize, workers, prefetchBatches } = plan;
  const { count, examples: largest, sizeBytes: bytes } = source.largestBlock;
  if (count * bytes <= keptBytes && source.examples <= plan.shuffleWindow) return plan;
  const wholeBatches = (examples: number): number => Math.ceil(examples / batchSize) * batchSize;
  const window = wholeBatches(blocksOfWindow(source) * largest);
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

function blocksOfWindow({ largestBlock: { examples, sizeBytes } }: SourceShape): number {
  return Math.max(1, Math.min(windowBlocks, Math.floor(keptBytes / sizeBytes), Math.floor(windowExamples / examples)));
}

/** Of text that is read as it is needed: what neighbours are read with, and what is made of them. */
const streamedBytes = 8 << 20;

/** What a value of a decoded block takes beside its bytes in the file: a list of ids is one of doubles or pointers, and an object. */
const decodedBytes = 3;

/** About the most memory that one thread holds of a source. */
export function readerBytes(source: SourceShape): number {
  const { randomAccess, strided, sizeBytes, largestBlock: block } = source;
  if (randomAccess) {
    if (sizeBytes <= keptBytes) return sizeBytes;
    return streamedBytes + (strided ? textWindowBytes : 0);
  }
  // A window that begins and ends within a block has one more.
  const most = Math.min(block.count, blocksOfWindow(source) + 1);
  return decodedBytes * Math.min(block.count * block.sizeBytes, Math.max(keptBytes, most * block.sizeBytes));
}
