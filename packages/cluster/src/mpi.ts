/** The ranks that MPI has started, as a `Collective`. */
import { alone, FinetableError, type Collective } from '@finetable/core';
import { findAddon, type Addon, type Gathered } from './addon.ts';

/** What `connect` may be told. */
export interface ConnectOptions {
  /** The longest that a collective may take, in seconds: a rank that hangs ends all of them, with exit status 70. Default 600; `Infinity`: no limit. */
  readonly timeoutSeconds?: number | undefined;
}

/** What those who start ranks leave in their environment: Open MPI, and what speaks PMI or PMIx (MPICH, Slurm, Flux). */
const launched = ['OMPI_COMM_WORLD_SIZE', 'PMIX_RANK', 'PMI_RANK', 'PMI_SIZE'];

/** Exit status of ranks that were ended because one of them hung. */
const hungStatus = 70;

/** Whether this process was started as one of several, such as by `mpirun`. */
export function isLaunched(environment: NodeJS.ProcessEnv = process.env): boolean {
  return launched.some((name) => environment[name] !== undefined);
}

let connected: Collective | null = null;

/**
 * The processes that this one was started with; once a process, the same object again after that. A process that nothing started as one of several
 * is alone, and needs no MPI.
 * @throws UNSUPPORTED where it was started by MPI and the binding was not built; INVALID_ARGUMENT
 */
export function connect({ timeoutSeconds = 600 }: ConnectOptions = {}): Collective {
  if (!(timeoutSeconds > 0)) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `connect: timeoutSeconds: found ${timeoutSeconds}; allowed: a number above 0`,
    );
  }
  if (!isLaunched()) return alone;
  const found = findAddon();
  if ('missing' in found) {
    throw new FinetableError(
      'UNSUPPORTED',
      `this process is one of several that MPI has started, but @finetable/cluster has no MPI: ${found.missing}. With Open MPI or MPICH: npm rebuild @finetable/cluster`,
      { reason: found.missing },
    );
  }
  connected ??= new Mpi(found.addon, timeoutSeconds);
  return connected;
}

/** What `clusterStatus` finds. */
export interface ClusterStatus {
  /** `Open MPI v4.1.4`; null without the binding. */
  readonly mpi: string | null;
  /** Why there is none. */
  readonly reason: string | null;
  readonly launched: boolean;
}

/** What MPI there is, and whether this process was started by it; throws nothing, and begins nothing. */
export function clusterStatus(): ClusterStatus {
  const found = findAddon();
  if ('missing' in found) return { mpi: null, reason: found.missing, launched: isLaunched() };
  return { mpi: nameOf(found.addon), reason: null, launched: isLaunched() };
}

/** `Open MPI v4.1.4, package: …` and MPICH's table of settings, without what follows the version. */
function nameOf(addon: Addon): string {
  return addon.version().split(/[,\n]/)[0]!.replace(/\s+/g, ' ').trim();
}

class Mpi implements Collective {
  readonly rank: number;
  readonly size: number;
  readonly description: string;
  #sentBytes = 0;
  readonly #addon: Addon;
  readonly #timeoutSeconds: number;
  #waiting = 0;
  #closed = false;

  constructor(addon: Addon, timeoutSeconds: number) {
    this.#addon = addon;
    this.#timeoutSeconds = timeoutSeconds;
    [this.rank, this.size] = addon.open();
    this.description = `${nameOf(addon)}, rank ${this.rank} of ${this.size}`;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  barrier(): Promise<void> {
    return this.#wait('barrier', () => this.#addon.barrier());
  }

  allReduce(values: Float32Array | Float64Array): Promise<void> {
    return this.#wait('allReduce', () => {
      // Everybody's part from all, and back: what a sum in two steps costs.
      this.#sentBytes += (2 * values.byteLength * (this.size - 1)) / this.size;
      return this.#addon.allReduce(values);
    });
  }

  allToAll(parts: readonly Uint8Array[]): Promise<Uint8Array[]> {
    if (parts.length !== this.size) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `allToAll: found ${parts.length} parts; allowed: ${this.size}, one for each rank`,
      );
    }
    const all = Buffer.concat(parts);
    const bytes = Float64Array.from(parts, (part) => part.byteLength);
    return this.#wait('allToAll', async () => {
      this.#sentBytes += all.byteLength - bytes[this.rank]!;
      return partsOf(await this.#addon.allToAll(all, bytes));
    });
  }

  allGather(bytes: Uint8Array): Promise<Uint8Array[]> {
    const own = bytes.slice();
    return this.#wait('allGather', async () => {
      this.#sentBytes += own.byteLength * (this.size - 1);
      return partsOf(await this.#addon.allGather(own));
    });
  }

  abort(status: number): void {
    this.#addon.abort(status);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#wait('close', () => this.#addon.close());
    this.#closed = true;
  }

  async #wait<T>(what: string, begin: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new FinetableError('CLOSED', `${what}: this process has left the others`);
    if (this.#waiting++ === 0) this.#addon.hold(true);
    const timer = Number.isFinite(this.#timeoutSeconds)
      ? setTimeout(() => this.#giveUp(what), 1000 * this.#timeoutSeconds)
      : undefined;
    try {
      return await begin();
    } catch (cause) {
      throw new FinetableError(
        'IO',
        `${this.description}: ${(cause as Error).message}`,
        { rank: this.rank },
        { cause },
      );
    } finally {
      clearTimeout(timer);
      if (--this.#waiting === 0) this.#addon.hold(false);
    }
  }

  /** Whoever hangs cannot say so itself. */
  #giveUp(what: string): void {
    process.stderr.write(
      `finetable: ${this.description}: ${what} took more than ${this.#timeoutSeconds} s; another rank hangs or is gone. All ranks end.\n`,
    );
    this.#addon.abort(hungStatus);
  }
}

function partsOf([buffer, ...bytes]: Gathered): Uint8Array[] {
  let at = 0;
  return bytes.map((count) => new Uint8Array(buffer, (at += count) - count, count));
}
