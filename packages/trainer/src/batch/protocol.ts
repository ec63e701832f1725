/** What the thread of a job is told, and what it tells. Plain data: it crosses threads. */
import type { MessagePort } from 'node:worker_threads';
import type { PlainError } from '@finetable/core';
import type { TrainingEvent } from '../fit.ts';
import type { LoadedJob } from '../job/read.ts';
import type { ExistingRun } from '../run/folder.ts';
import type { RunResult } from '../run/run.ts';
import type { Rung } from './halving.ts';

export interface JobRequest {
  readonly loaded: LoadedJob;
  readonly folder: string;
  readonly existing: ExistingRun;
  /** Where to stop with a checkpoint; default: at the end. */
  readonly until: Rung | null;
  /** Events go out here; anything that comes in asks for a checkpoint and the end. Closed by the thread after its last event. */
  readonly port: MessagePort;
}

export type JobMessage =
  { readonly type: 'training'; readonly event: TrainingEvent } | { readonly type: 'note'; readonly note: string };

/** A thrown error loses its class on its way between threads, so errors travel as replies. */
export type JobReply =
  { readonly type: 'finished'; readonly result: RunResult } | { readonly type: 'failure'; readonly error: PlainError };
