/** Jobs in threads, as many at a time as there are threads and memory for. */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { FinetableError, fromPlainError, parseBytes } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { systemMemory } from '@finetable/placement';
import { Piscina } from 'piscina';
import type { LoadedJob } from '../job/read.ts';
import { writeReport } from '../report/write.ts';
import { runState } from '../run/folder.ts';
import { readResult, runFolder } from '../run/run.ts';
import { besideOthers, neededBytes } from './admission.ts';
import type { Rung } from './halving.ts';
import type { JobMessage, JobReply, JobRequest } from './protocol.ts';
import type { BatchEvent, JobOutcome, RunJobsOptions } from './run-jobs.ts';

export class RunningBatch {
  readonly #jobs: readonly LoadedJob[];
  readonly #folders: readonly string[];
  readonly #options: RunJobsOptions;
  readonly #until: Rung | null;
  readonly #concurrency: number;
  readonly #budgetBytes: number;
  readonly #pool: Piscina<JobRequest, JobReply>;
  readonly #outcomes: (JobOutcome | undefined)[];
  readonly #stop = new AbortController();
  readonly #running = new Map<Promise<void>, number>();
  /** What `onEvent` threw first. */
  #thrown: { readonly error: unknown } | null = null;

  /** @param until where jobs stop, each with a checkpoint; null: at their ends */
  constructor(workerUrl: string, jobs: readonly LoadedJob[], options: RunJobsOptions, until: Rung | null = null) {
    const { concurrency, threads = loadKernels().threads, memory = '75%', existing = 'resume' } = options;
    for (const [name, value] of Object.entries({ concurrency: concurrency ?? 1, threads })) {
      if (!Number.isInteger(value) || value < 1) refuse(`${name} ${value}; allowed: an integer of 1 or more`);
    }
    if (!['resume', 'overwrite'].includes(existing))
      refuse(`existing: found ${JSON.stringify(existing)}; allowed: resume, overwrite`);
    this.#concurrency = Math.max(1, Math.min(concurrency ?? threads, jobs.length));
    const own = Math.max(1, Math.floor(threads / this.#concurrency));
    this.#jobs = jobs.map((job) => besideOthers(job, own));
    this.#folders = jobs.map((job) => resolve(runFolder(job)));
    const twice = this.#folders.findIndex((folder, i) => this.#folders.indexOf(folder) !== i);
    if (twice >= 0) {
      const first = jobs[this.#folders.indexOf(this.#folders[twice]!)]!.job.name;
      refuse(`jobs ${first} and ${jobs[twice]!.job.name} have the same folder, ${this.#folders[twice]!}`);
    }
    this.#budgetBytes = parseBytes(memory, 'memory', systemMemory().totalBytes);
    this.#options = options;
    this.#until = until;
    this.#outcomes = jobs.map(() => undefined);
    this.#pool = new Piscina({
      filename: workerUrl,
      minThreads: 0,
      maxThreads: this.#concurrency,
      idleTimeout: Infinity,
      // Flags of the caller (source loaders, export conditions) are meant for its own code, not for the built worker.
      execArgv: [],
      recordTiming: false,
      // Else a thread without a job sleeps with its event loop, and what the last one left open would never be closed.
      atomics: 'disabled',
    });
    // Of a thread that failed between jobs. Without a listener it would end the process; the next job gets another one.
    this.#pool.on('error', () => undefined);
  }

  async run(): Promise<JobOutcome[]> {
    const { signal } = this.#options;
    const onAbort = (): void => this.#stop.abort();
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await this.#admitAll();
      await Promise.all(this.#running.keys());
    } finally {
      signal?.removeEventListener('abort', onAbort);
      await this.#pool.destroy();
    }
    if (this.#thrown) throw this.#thrown.error;
    return this.#jobs.map((_, i) => this.#outcomes[i] ?? this.#outcome(i, 'waiting'));
  }

  /** The first waiting job that fits is the next: a large one waits for room, and does not hold up those behind it. */
  async #admitAll(): Promise<void> {
    const waiting: { readonly i: number; readonly bytes: number }[] = [];
    for (let i = 0; i < this.#jobs.length; i++) {
      if (this.#stop.signal.aborted) return;
      const bytes = await this.#look(i);
      if (bytes === null) continue;
      waiting.push({ i, bytes });
      while (this.#startOne(waiting));
    }
    // Nothing runs only where nothing more may start: whatever waits fits alone.
    while (waiting.length > 0 && !this.#stop.signal.aborted) {
      await Promise.race(this.#running.keys());
      while (this.#startOne(waiting));
    }
  }

  /** @returns the memory that a job needs; null where there is nothing to run */
  async #look(i: number): Promise<number | null> {
    const [loaded, folder] = [this.#jobs[i]!, this.#folders[i]!];
    try {
      if (this.#options.existing !== 'overwrite' && (await runState(folder, loaded)) === 'finished') {
        this.#end(i, this.#outcome(i, 'kept', { result: await readResult(folder) }));
        return null;
      }
      return await neededBytes(loaded, this.#budgetBytes);
    } catch (error) {
      this.#fail(i, error);
      return null;
    }
  }

  #startOne(waiting: { readonly i: number; readonly bytes: number }[]): boolean {
    if (this.#stop.signal.aborted || this.#running.size >= this.#concurrency) return false;
    const used = [...this.#running.values()].reduce((sum, bytes) => sum + bytes, 0);
    const next = waiting.findIndex(({ bytes }) => used + bytes <= this.#budgetBytes);
    if (next < 0) return false;
    const [{ i, bytes }] = waiting.splice(next, 1) as [(typeof waiting)[number]];
    const running = this.#job(i).finally(() => this.#running.delete(running));
    this.#running.set(running, bytes);
    return true;
  }

  /** Never throws. */
  async #job(i: number): Promise<void> {
    const { name } = this.#jobs[i]!.job;
    const folder = this.#folders[i]!;
    const { port1: ours, port2: port } = new MessageChannel();
    let started = false;
    ours.on('message', (message: JobMessage) => {
      started ||= message.type === 'training';
      this.#emit({ ...message, job: i, name });
    });
    const closed = once(ours, 'close');
    const onStop = (): void => ours.postMessage('stop');
    this.#stop.signal.addEventListener('abort', onStop, { once: true });
    this.#emit({ type: 'begin', job: i, name, folder });
    try {
      const existing = this.#options.existing ?? 'resume';
      const request = { loaded: this.#jobs[i]!, folder, existing, until: this.#until, port };
      const reply = await this.#pool.run(request, { transferList: [port] });
      await closed; // all its events are there
      if (reply.type === 'failure') this.#fail(i, fromPlainError(reply.error));
      else {
        await this.#report(i);
        this.#end(i, this.#outcome(i, 'finished', { result: reply.result }));
      }
    } catch (cause) {
      // The lock names this process, which lives on.
      if (started) await rm(join(folder, 'lock'), { force: true });
      const message = `${name}: its thread failed: ${(cause as Error).message}`;
      this.#fail(i, new FinetableError('WORKER_FAILED', message, { name }, { cause }));
    } finally {
      this.#stop.signal.removeEventListener('abort', onStop);
      ours.close();
    }
  }

  async #report(i: number): Promise<void> {
    try {
      await writeReport(this.#folders[i]!);
    } catch (error) {
      const note = `report.html was not written: ${(error as Error).message}`;
      this.#emit({ type: 'note', job: i, name: this.#jobs[i]!.job.name, note });
    }
  }

  #fail(i: number, error: unknown): void {
    const known = error as FinetableError;
    if (known.code === 'INTERRUPTED') {
      this.#end(i, this.#outcome(i, 'interrupted'));
      return;
    }
    this.#end(i, this.#outcome(i, 'failed', { error: known }));
    if (this.#options.stopOnFailure) this.#stop.abort();
  }

  #outcome(
    i: number,
    status: JobOutcome['status'],
    { result = null, error = null }: Partial<Pick<JobOutcome, 'result' | 'error'>> = {},
  ): JobOutcome {
    return { name: this.#jobs[i]!.job.name, folder: this.#folders[i]!, status, result, error };
  }

  #end(i: number, outcome: JobOutcome): void {
    this.#outcomes[i] = outcome;
    this.#emit({ type: 'end', job: i, ...outcome });
  }

  #emit(event: BatchEvent): void {
    if (this.#thrown) return;
    try {
      this.#options.onEvent?.(event);
    } catch (error) {
      this.#thrown = { error };
      this.#stop.abort();
    }
  }
}

function refuse(message: string): never {
  throw new FinetableError('INVALID_ARGUMENT', `runJobs: ${message}`);
}
