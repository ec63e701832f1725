/** Where tasks run: piscina's threads, or the caller's own. */
import { setImmediate } from 'node:timers/promises';
import { FinetableError, fromPlainError, type PlainError } from '@finetable/core';
import type { TaskPlace } from './place.ts';
import type { ReplyTo, TaskReply, TaskRequest, WorkerSetup } from './protocol.ts';
import { TaskRunner } from './tasks.ts';

export interface TaskPool {
  /**
   * Tasks at a time: one that runs and one that waits on each thread, which begins it without this thread's help. More are not queued here:
   * the loader holds them back, so that it can forget them.
   */
  readonly lanes: number;
  /** Why it was stopped, once it is. */
  readonly stopped: FinetableError | null;
  readonly retried: Retried;
  /**
   * @param place what is being done, for errors
   * @param spare memory for batches, which is given away
   * @throws what the task failed with; WORKER_FAILED where the worker failed twice at it (threw, exited, ran out of memory, took
   *   too long), which stops the pool; the reason of `stop` once that is called
   */
  run<T extends TaskRequest>(request: T, place: () => TaskPlace, spare?: () => ArrayBuffer[]): Promise<ReplyTo<T>>;
  /** Ends threads at once, whatever they do; runs in progress and later ones throw `reason`. The first reason stays. */
  stop(reason: FinetableError): Promise<void>;
}

/** Tasks that a worker failed at, and that were done again by a new one. */
export interface Retried {
  readonly count: number;
  /** What the first of them were, and what happened. */
  readonly problems: readonly string[];
}

export const noneRetried: Retried = { count: 0, problems: [] };

const notedProblems = 10;

export function addRetried(before: Retried, more: Retried): Retried {
  return {
    count: before.count + more.count,
    problems: [...before.problems, ...more.problems].slice(0, notedProblems),
  };
}

export class OwnThread implements TaskPool {
  readonly lanes = 1;
  readonly retried = noneRetried;
  readonly #stopping = new AbortController();
  readonly #runner: TaskRunner;
  #stopped: FinetableError | null = null;

  constructor(setup: WorkerSetup | null) {
    this.#runner = new TaskRunner(setup, this.#stopping.signal);
  }

  get stopped(): FinetableError | null {
    return this.#stopped;
  }

  async run<T extends TaskRequest>(
    request: T,
    place: () => TaskPlace,
    spare: () => ArrayBuffer[] = () => [],
  ): Promise<ReplyTo<T>> {
    // Lets timers and signals in: a consumer that never waits for anything else would keep them out.
    await setImmediate();
    if (this.#stopped) throw this.#stopped;
    const reply = await this.#runner.run(request, spare());
    if (this.stopped) throw this.stopped;
    return unwrap(reply, place);
  }

  async stop(reason: FinetableError): Promise<void> {
    this.#stopped ??= reason;
    this.#stopping.abort();
    this.#runner.close();
  }
}

export function unwrap<T extends TaskRequest>(reply: TaskReply, place: () => TaskPlace): ReplyTo<T> {
  if (reply.type === 'failure') throw taskError(reply.error, place);
  return reply as ReplyTo<T>;
}

/** The error of a task; one that is not ours, a mistake of Finetable, is a failure of the worker. */
export function taskError(plain: PlainError, place: () => TaskPlace): FinetableError {
  return plain.code === null ? workerFailed(place(), 'failed', plain.message, plain.stack) : fromPlainError(plain);
}

export function workerFailed(
  { text, details }: TaskPlace,
  how: 'failed' | 'failed twice',
  message: string,
  cause: unknown,
): FinetableError {
  return new FinetableError('WORKER_FAILED', `${text}: a loader worker ${how}: ${message}`, details, { cause });
}
