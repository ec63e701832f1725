/** What the loader and its worker threads say to each other. Plain data. */
import type { PlainError } from '@finetable/core';
import type { AliasTable } from './alias.ts';
import type { Batch } from './batch.ts';
import type { CacheMemory } from './cache.ts';
import type { Interactions } from './histories/collect.ts';
import type { Histories } from './histories/histories.ts';
import type { FileIndex, SourceIndex } from './source/source.ts';
import type { GivenRows } from './source/rows.ts';
import type { DataSpec, FileSource } from './spec.ts';
import type { GatheredStates } from './survey.ts';

/** What batches are made of: nothing in it has to be found out any more. Its source is not read here, so it may be a program's. */
export interface PreparedData extends Omit<DataSpec, 'source'> {
  /** Of `histories`: examples are their interactions. */
  readonly grouped?: Histories | undefined;
  /** Of `negatives` that are not uniform. */
  readonly aliases?: Readonly<Record<string, AliasTable>> | undefined;
  /** Of the loader. */
  readonly seed?: number | undefined;
}

/** A program's rows may be anything, so workers do not get them. */
export function withoutSource(data: DataSpec): PreparedData {
  return Object.fromEntries(Object.entries(data).filter(([name]) => name !== 'source')) as unknown as PreparedData;
}

/** Given to each worker that makes batches as it starts; null to those that prepare. */
export interface WorkerSetup {
  readonly data: PreparedData;
  /** Null where tasks bring their examples along. */
  readonly index: SourceIndex | null;
  /** Null where nothing is kept. */
  readonly cache: CacheMemory | null;
}

/** Finds the examples of a file. */
export interface ScanRequest {
  readonly type: 'scan';
  readonly file: string;
  /** Of the file: a pass over a large one may take longer. */
  readonly sizeBytes: number;
  /** Where the content of a compressed file goes; else the file. */
  readonly path: string;
  readonly source: FileSource;
}

/** Examples of a task: places in the source, or themselves. */
export type TaskExamples =
  { readonly rows: Uint32Array; readonly given?: undefined } | { readonly given: GivenRows; readonly rows?: undefined };

/** Gathers what must be known, from some of the examples. */
export interface GatherRequest {
  readonly type: 'gather';
  readonly data: PreparedData;
  readonly index: SourceIndex | null;
  readonly examples: TaskExamples;
}

/** Finds the interactions of some rows. */
export interface CollectRequest {
  readonly type: 'collect';
  readonly data: PreparedData;
  readonly index: SourceIndex | null;
  readonly examples: TaskExamples;
}

/** Which examples are not of the split. */
export interface SplitRequest {
  readonly type: 'split';
  readonly data: PreparedData;
  readonly index: SourceIndex | null;
  /** Number of the first, which are neighbours. */
  readonly first: number;
  readonly examples: TaskExamples;
}

/** Which examples have the same ids of a feature. */
export interface KeysRequest {
  readonly type: 'keys';
  readonly data: PreparedData;
  readonly index: SourceIndex | null;
  readonly examples: TaskExamples;
  readonly feature: string;
}

/** Which examples cannot be read. */
export interface ScreenRequest {
  readonly type: 'screen';
  /** Null: that of the setup. */
  readonly data: PreparedData | null;
  readonly index: SourceIndex | null;
  readonly examples: TaskExamples;
}

/** Opens everything that batches need, so that what is wrong with a vocabulary is known before the first. */
export interface CheckRequest {
  readonly type: 'check';
  readonly data: PreparedData;
  readonly index: SourceIndex | null;
}

export interface BatchesRequest {
  readonly type: 'batches';
  readonly epoch: number;
  /** Index of the first. */
  readonly first: number;
  readonly batchSize: number;
  /** That the examples are of, where blocks are decoded: see `SourceReader.read`. */
  readonly window: number | null;
  /** Of all its batches in order; the last batch may be smaller. */
  readonly examples: TaskExamples;
}

export type TaskRequest =
  | ScanRequest
  | CollectRequest
  | GatherRequest
  | KeysRequest
  | SplitRequest
  | ScreenRequest
  | CheckRequest
  | BatchesRequest;

/** As a worker gets it. */
export interface SentTask {
  readonly request: TaskRequest;
  /** Memory for batches, given away with the task. */
  readonly spare: readonly ArrayBuffer[];
  /** Shared: 1 while the task runs; else it waits, or is done. */
  readonly running: Int32Array<SharedArrayBuffer>;
}

export interface ScanReply {
  readonly type: 'scan';
  readonly index: FileIndex;
}

export interface GatherReply {
  readonly type: 'gather';
  readonly states: GatheredStates;
}

export interface CollectReply {
  readonly type: 'collect';
  readonly found: Interactions;
  readonly bad: BadExamples;
}

/** Those that cannot be read. */
export interface BadExamples {
  readonly excluded: Uint32Array;
  /** Why the first of them are. */
  readonly problems: readonly string[];
}

export interface KeysReply {
  readonly type: 'keys';
  /** Of the examples, integers below 2^53. */
  readonly hashes: Float64Array;
}

export interface SplitReply {
  readonly type: 'split';
  readonly excluded: Uint32Array;
}

export interface ScreenReply extends BadExamples {
  readonly type: 'screen';
}

export interface CheckReply {
  readonly type: 'check';
}

export interface BatchesReply {
  readonly type: 'batches';
  readonly batches: readonly Batch[];
  /** Of each. */
  readonly batchBytes: readonly number[];
  /** Why there is no batch after these; the ones before it are good. */
  readonly error: PlainError | null;
  /** Bytes read, and seconds of work: all, and of these reading, and making plans. */
  readonly sizeBytes: number;
  readonly workSeconds: number;
  readonly readSeconds: number;
  readonly planSeconds: number;
  /** When it was done: milliseconds since 1970. */
  readonly doneMs: number;
}

/** A thrown error loses its class on its way between threads, so errors travel as replies. */
export interface FailureReply {
  readonly type: 'failure';
  readonly error: PlainError;
}

export type TaskReply =
  | ScanReply
  | CollectReply
  | GatherReply
  | KeysReply
  | SplitReply
  | ScreenReply
  | CheckReply
  | BatchesReply
  | FailureReply;

export type ReplyTo<T extends TaskRequest> = Extract<TaskReply, { type: T['type'] }>;
