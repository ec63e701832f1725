/** Where tasks run: piscina's threads, or the caller's own. */
import { setImmediate } from 'node:timers/promises';
import { FinetableError, fromPlainError, type PlainError } from '@finetable/core';
import { Piscina } from 'piscina';
import type { ReplyTo, TaskReply, TaskRequest, WorkerSetup } from './protocol.ts';
import { TaskRunner } from './tasks.ts';

export interface TaskPool {
  /** Tasks that can run at a time. More are not queued here: the loader holds them back, so that it can forget them. */
  readonly lanes: number;
  /** Why it was stopped, once it is. */
  readonly stopped: FinetableError | null;
  /**
   * @param what is being done, for errors
   * @throws what the task failed with; WORKER_FAILED where the thread threw, exited or ran out of memory; the reason of
   *   `stop` once that is called
   */
  run<T extends TaskRequest>(request: T, what: () => string): Promise<ReplyTo<T>>;
  /** Ends threads at once, whatever they do; runs in progress and later ones throw `reason`. The first reason stays. */
  stop(reason: FinetableError): Promise<void>;
}

/** How threads are started; tests start others. */
export interface ThreadRuntime {
  readonly workerUrl: string;
  readonly resourceLimits?: { readonly maxOldGenerationSizeMb: number };
}

export const defaultRuntime: ThreadRuntime = {
  // Node 20 cannot run a worker written in TypeScript.
  workerUrl: new URL(
    import.meta.url.endsWith('.ts') ? '../dist/worker-entry.cjs' : './worker-entry.cjs',
    import.meta.url,
  ).href,
};

export function createPool(setup: WorkerSetup | null, workers: number, runtime: ThreadRuntime): TaskPool {
  return workers === 0 ? new OwnThread(setup) : new ThreadPool(setup, workers, runtime);
}

class OwnThread implements TaskPool {
  readonly lanes = 1;
  readonly #stopping = new AbortController();
  readonly #runner: TaskRunner;
  #stopped: FinetableError | null = null;

  constructor(setup: WorkerSetup | null) {
    this.#runner = new TaskRunner(setup, this.#stopping.signal);
  }

  get stopped(): FinetableError | null {
    return this.#stopped;
  }

  async run<T extends TaskRequest>(request: T, what: () => string): Promise<ReplyTo<T>> {
    // Lets timers and signals in: a consumer that never waits for anything else would keep them out.
    await setImmediate();
    if (this.#stopped) throw this.#stopped;
    const reply = await this.#runner.run(request);
    if (this.stopped) throw this.stopped;
    return unwrap(reply, what);
  }

  async stop(reason: FinetableError): Promise<void> {
    this.#stopped ??= reason;
    this.#stopping.abort();
    this.#runner.close();
  }
}

class ThreadPool implements TaskPool {
  readonly lanes: number;
  readonly #pool: Piscina<TaskRequest, TaskReply>;
  #stopped: FinetableError | null = null;
  #ended: Promise<void> | null = null;

  constructor(setup: WorkerSetup | null, workers: number, { workerUrl, resourceLimits }: ThreadRuntime) {
    this.lanes = workers;
    this.#pool = new Piscina({
      filename: workerUrl,
      minThreads: workers,
      maxThreads: workers,
      workerData: setup,
      // Flags of the caller (source loaders, export conditions) are meant for its own code, not for the built worker.
      execArgv: [],
      recordTiming: false,
      ...(resourceLimits && { resourceLimits }),
    });
    // Of a thread that failed between tasks. Without a listener it would end the process.
    this.#pool.on('error', (error: Error) => void this.stop(workerFailed('between tasks', error.message, error)));
  }

  get stopped(): FinetableError | null {
    return this.#stopped;
  }

  async run<T extends TaskRequest>(request: T, what: () => string): Promise<ReplyTo<T>> {
    if (this.#stopped) throw this.#stopped;
    let reply: TaskReply;
    try {
      reply = await this.#pool.run(request);
    } catch (error) {
      // piscina would start another thread; but what ended this one is likely to end that one too.
      await this.stop(workerFailed(what(), (error as Error).message, error));
      throw this.stopped!;
    }
    return unwrap(reply, what);
  }

  stop(reason: FinetableError): Promise<void> {
    this.#stopped ??= reason;
    this.#ended ??= this.#pool.destroy();
    return this.#ended;
  }
}

function unwrap<T extends TaskRequest>(reply: TaskReply, what: () => string): ReplyTo<T> {
  if (reply.type === 'failure') throw taskError(reply.error, what);
  return reply as ReplyTo<T>;
}

/** The error of a task; one that is not ours, a mistake of Finetable, is a failure of the worker. */
export function taskError(plain: PlainError, what: () => string): FinetableError {
  return plain.code === null ? workerFailed(what(), plain.message, plain.stack) : fromPlainError(plain);
}

function workerFailed(what: string, message: string, cause: unknown): FinetableError {
  return new FinetableError('WORKER_FAILED', `${what}: a loader worker failed: ${message}`, { doing: what }, { cause });
}
