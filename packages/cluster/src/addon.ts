/** The binding of MPI, where the install could build it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** What a collective that gives something resolves to: one buffer, then how many of its bytes each rank has given. */
export type Gathered = readonly [buffer: ArrayBuffer, ...bytes: number[]];

/** Collectives keep the arrays that they are given until they settle. */
export interface Addon {
  open(): [rank: number, size: number];
  /** Whether the process lives on for what is on its way. */
  hold(held: boolean): void;
  barrier(): Promise<void>;
  allReduce(values: Float32Array | Float64Array): Promise<void>;
  allToAll(all: Uint8Array, bytes: Float64Array): Promise<Gathered>;
  allGather(bytes: Uint8Array): Promise<Gathered>;
  close(): Promise<void>;
  abort(status: number): void;
  version(): string;
}

export type Found = { readonly addon: Addon } | { readonly missing: string };

let found: Found | undefined;

/** The addon, or why there is none. */
export function findAddon(): Found {
  found ??= load();
  return found;
}

function load(): Found {
  // From `src` and from `dist` alike.
  const build = new URL('../build/', import.meta.url);
  try {
    return { addon: createRequire(import.meta.url)(fileURLToPath(new URL('finetable_mpi.node', build))) as Addon };
  } catch (error) {
    return { missing: reasonOf(new URL('status.json', build)) ?? (error as Error).message.split('\n')[0]! };
  }
}

/** What the install wrote down. */
function reasonOf(statusFile: URL): string | undefined {
  try {
    return (JSON.parse(readFileSync(statusFile, 'utf8')) as { reason?: string }).reason;
  } catch {
    return undefined;
  }
}
