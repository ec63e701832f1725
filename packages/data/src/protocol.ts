/** What the loader and its worker threads say to each other. Plain data. */
import type { PlainError } from '@finetable/core';
import type { Batch } from './batch.ts';
import type { SourceIndex } from './source.ts';
import type { DataSpec } from './spec.ts';

/** Given to each worker as it starts. */
export interface WorkerSetup {
  readonly data: DataSpec;
  /** Null while the index is still to be made. */
  readonly index: SourceIndex | null;
}

export interface IndexRequest {
  readonly type: 'index';
}

export interface BatchesRequest {
  readonly type: 'batches';
  readonly epoch: number;
  /** Index of the first. */
  readonly first: number;
  readonly batchSize: number;
  /** Examples of all its batches in order; the last batch may be smaller. */
  readonly rows: Uint32Array;
}

export type TaskRequest = IndexRequest | BatchesRequest;

export interface IndexReply {
  readonly type: 'index';
  readonly index: SourceIndex;
  /** Of every label, given or found. */
  readonly classes: Readonly<Record<string, readonly string[]>>;
}

export interface BatchesReply {
  readonly type: 'batches';
  readonly batches: readonly Batch[];
  /** Why there is no batch after these; the ones before it are good. */
  readonly error: PlainError | null;
  /** Bytes read, and seconds of work. */
  readonly sizeBytes: number;
  readonly workSeconds: number;
}

/** A thrown error loses its class on its way between threads, so errors travel as replies. */
export interface FailureReply {
  readonly type: 'failure';
  readonly error: PlainError;
}

export type TaskReply = IndexReply | BatchesReply | FailureReply;

export type ReplyTo<T extends TaskRequest> = Extract<TaskReply, { type: T['type'] }>;
