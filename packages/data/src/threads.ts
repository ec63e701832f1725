/**
 * A pool of piscina's threads. Where a worker throws, exits, runs out of memory or takes too long, all threads are replaced, since
 * what a failed one leaves behind is not known, and its task is done once more: tasks are functions of their request, which is
 * copied for the worker, so nothing is lost with it. What the other threads were at begins again, and does not count.
 */
import { setImmediate } from 'node:timers/promises';
import { FinetableError } from '@finetable/core';
import { Piscina } from 'piscina';
import type { TaskPlace } from './place.ts';
import { addRetried, noneRetried, OwnThread, unwrap, workerFailed, type Retried, type TaskPool } from './pool.ts';
import type { ReplyTo, SentTask, TaskReply, TaskRequest, WorkerSetup } from './protocol.ts';

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

/** `taskSeconds`: of a task; longer ones are given up. */
export interface PoolPlan {
  readonly workers: number;
  readonly taskSeconds: number;
}

export function createPool(setup: WorkerSetup | null, plan: PoolPlan, runtime: ThreadRuntime): TaskPool {
  return plan.workers === 0 ? new OwnThread(setup) : new ThreadPool(setup, plan, runtime);
}

/** A pass over a file gets as long again for so much of it: a slow disk reads it in a minute. */
const scanBytes = 256 << 20;

/** What timers can wait for. */
const longestMs = 2 ** 31 - 1;

type Threads = Piscina<SentTask, TaskReply>;

/** Of those that make batches, on each thread: one runs, the other waits there. */
const batchTasks = 2;

class ThreadPool implements TaskPool {
  readonly lanes: number;
  readonly #workers: number;
  readonly #threadTasks: number;
  /** Tasks that threads have. */
  #running = 0;
  readonly #taskSeconds: number;
  readonly #start: () => Threads;
  #threads: Threads;
  #retried = noneRetried;
  /** A thread failed between tasks, and no task has ended well since. */
  #failedIdle = false;
  #stopped: FinetableError | null = null;
  readonly #ending: Promise<void>[] = [];

  constructor(
    setup: WorkerSetup | null,
    { workers, taskSeconds }: PoolPlan,
    { workerUrl, resourceLimits }: ThreadRuntime,
  ) {
    this.#workers = workers;
    // Threads become ready one after the other, and piscina would give two long tasks to the first.
    this.#threadTasks = setup ? batchTasks : 1;
    this.lanes = this.#threadTasks * workers;
    this.#taskSeconds = taskSeconds;
    this.#start = () => {
      const threads: Threads = new Piscina({
        filename: workerUrl,
        minThreads: workers,
        maxThreads: workers,
        concurrentTasksPerWorker: this.#threadTasks,
        workerData: setup,
        // Flags of the caller (source loaders, export conditions) are meant for its own code, not for the built worker.
        execArgv: [],
        recordTiming: false,
        ...(resourceLimits && { resourceLimits }),
      });
      // Of a thread that failed between tasks. Without a listener it would end the process.
      threads.on('error', (error: Error) => this.#onIdleFailure(threads, error));
      return threads;
    };
    this.#threads = this.#start();
  }

  get stopped(): FinetableError | null {
    return this.#stopped;
  }

  get retried(): Retried {
    return this.#retried;
  }

  async run<T extends TaskRequest>(
    request: T,
    place: () => TaskPlace,
    spare: () => ArrayBuffer[] = () => [],
  ): Promise<ReplyTo<T>> {
    for (let failed = false; ;) {
      if (this.#stopped) throw this.#stopped;
      const threads = this.#threads;
      const running = new Int32Array(new SharedArrayBuffer(4));
      try {
        const reply = await this.#attempt(threads, { request, spare: spare(), running });
        this.#failedIdle = false;
        return unwrap(reply, place);
      } catch (error) {
        // Its own failure; or the task's, which is no failure of the worker; or another's, which took all threads with it.
        if (error instanceof FinetableError) throw error;
        // A thread took with it what waited there, and answers that were under way: the task that it was at comes first.
        if (running[0] === 0) await setImmediate();
        if (this.stopped) throw this.stopped;
        if (this.#threads !== threads) continue;
        const { message } = error as Error;
        if (failed) {
          await this.stop(workerFailed(place(), 'failed twice', message, error));
          continue;
        }
        failed = true;
        this.#replace(`${place().text}: ${message}`);
      }
    }
  }

  stop(reason: FinetableError): Promise<void> {
    if (!this.#stopped) {
      this.#stopped = reason;
      this.#end(this.#threads);
    }
    return Promise.all(this.#ending).then(() => undefined);
  }

  /** @throws FinetableError that the task cannot be sent; anything else is a failure of the worker */
  async #attempt(threads: Threads, task: SentTask): Promise<TaskReply> {
    const { request, spare } = task;
    const running = threads.run(task, { transferList: [...spare] }).catch((error: unknown) => {
      throw isUnsendable(error) ? cannotBeSent(error) : error;
    });
    const limitSeconds = this.#taskSeconds * (request.type === 'scan' ? 1 + request.sizeBytes / scanBytes : 1);
    // It may have to wait for another, which has as long.
    const limitMs = 1000 * limitSeconds * (this.#running++ < this.#workers ? 1 : this.#threadTasks);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      if (limitMs > longestMs) return;
      timer = setTimeout(() => {
        // The reply may be here, and this thread have been too busy to see it.
        void setImmediate().then(() =>
          reject(new Error(`no answer in ${Math.round(limitSeconds)} s (option taskSeconds)`)),
        );
      }, limitMs);
    });
    try {
      const reply = await Promise.race([running, late]);
      const error = reply.type === 'failure' || reply.type === 'batches' ? reply.error : null;
      if (error?.code === null) throw Object.assign(new Error(error.message), { stack: error.stack });
      return reply;
    } finally {
      this.#running--;
      clearTimeout(timer);
    }
  }

  #replace(problem: string): void {
    this.#retried = addRetried(this.#retried, { count: 1, problems: [problem] });
    const failed = this.#threads;
    // Before it ends: what its end does to other tasks is told from a failure of theirs by this.
    this.#threads = this.#start();
    this.#end(failed);
  }

  /** A thread that cannot even start fails like this, so it may happen only once in a row. */
  #onIdleFailure(threads: Threads, error: Error): void {
    if (this.#threads !== threads || this.#stopped) return;
    if (this.#failedIdle)
      void this.stop(workerFailed({ text: 'between tasks', details: {} }, 'failed twice', error.message, error));
    else {
      this.#failedIdle = true;
      this.#replace(`between tasks: ${error.message}`);
    }
  }

  #end(threads: Threads): void {
    // piscina may hear of a thread's exit after this, and would start another.
    threads.options.minThreads = 0;
    this.#ending.push(threads.destroy());
  }
}

function isUnsendable(error: unknown): error is DOMException {
  return error instanceof Error && error.name === 'DataCloneError';
}

function cannotBeSent(error: Error): FinetableError {
  return new FinetableError(
    'INVALID_DATA',
    `a row cannot be sent to a worker thread: ${error.message}; give rows of plain data, or take workers: 0`,
    {},
    { cause: error },
  );
}
