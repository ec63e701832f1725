/** From a file or values to an open table. */
import { FinetableError, range, type Matrix, type RowDtype } from '@finetable/core';
import { loadKernels, type FileRows, type Kernels, type Shard } from '@finetable/kernels';
import type { CacheOptions } from './cache.ts';
import type { Device } from './device.ts';
import { placeParts, type DevicePart, type Home, type PlacedPart, type ShardSpec } from './parts.ts';
import { findRows, findTable } from './source.ts';
import { ShardedTable } from './table.ts';
import { FileWatch } from './watch.ts';

/** Where the rows of a table go, and what it is called. */
export interface OpenTableOptions {
  /** For errors and adapter files; default: the file's name without its ending. */
  readonly name?: string | undefined;
  /** Which tensor of a safetensors file. */
  readonly tensor?: string | undefined;
  /** One home for all rows (default `mapped`), or parts in order (see `ShardSpec`). */
  readonly placement?: Home | Device | readonly ShardSpec[] | undefined;
  /** Copies in RAM of the most read rows of those that are mapped or on a device. Default: none. */
  readonly cache?: CacheOptions | undefined;
  readonly kernels?: Kernels | undefined;
}

/**
 * Opens a table from a safetensors file (or its `.index.json`) or a `.npy` file. Mapped shards are not read: this takes
 * milliseconds at any size.
 * @throws NOT_FOUND, INVALID_FILE (also where the file changes meanwhile), INVALID_ARGUMENT, OUT_OF_MEMORY, IO, and what
 *   devices fail with; nothing stays open then
 */
export async function openTable(path: string, options: OpenTableOptions = {}): Promise<ShardedTable> {
  const { tensor, placement = 'mapped', cache, kernels = loadKernels() } = options;
  const name = options.name ?? path.replace(/^.*[/\\]/, '').replace(/\.[^.]*$/, '');
  // Which files there are to watch, the header tells; so it is read again once they are watched.
  const { path: file, scales } = await findRows(path, tensor);
  const watch = await FileWatch.of([...new Set([path, file, ...(scales ? [scales.path] : [])])]);
  const origin = await findTable(path, tensor);
  const found = origin.rows;
  const parts = placeParts(name, found, placement);
  const shards: Shard[] = [];
  const devices: DevicePart[] = [];
  let table: ShardedTable | null = null;
  try {
    await openParts(found, parts, kernels, shards, devices);
    await watch.check(name, 'it is being written; wait until that is done');
    const format = { ...found, groupDims: found.scales?.groupDims ?? 0 };
    const watched = parts.some(({ home }) => (typeof home === 'string' ? home : home.kind) === 'mapped');
    table = new ShardedTable(name, shards, kernels, {
      format,
      devices,
      cache,
      watch: watched ? watch : undefined,
      origin,
    });
    if (cache?.counts) await table.fillCache(cache.counts);
    // Later there may be no time to wait for devices.
    if (table.needsFetch) await table.computeFingerprint();
    return table;
  } catch (error) {
    table?.close();
    for (const { store } of shards) store.close();
    for (const { device } of devices) device.close();
    throw error;
  }
}

async function openParts(
  file: FileRows,
  parts: readonly PlacedPart[],
  kernels: Kernels,
  shards: Shard[],
  devices: DevicePart[],
): Promise<void> {
  for (const { home, ...part } of parts) {
    if (typeof home === 'string') {
      const { firstRow, firstColumn } = part;
      shards.push({ store: kernels.openRows(file, home, part), firstRow, firstColumn });
      continue;
    }
    const device = await home.openRows(file, part);
    devices.push({ ...part, device, name: home.name });
    const { rows, dim, dtype } = device;
    if (rows !== part.rows || dim !== part.columns || dtype !== file.dtype) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `device "${home.name}" opened [${rows}, ${dim}] ${dtype}; asked for [${part.rows}, ${part.columns}] ${file.dtype}`,
        { device: home.name },
      );
    }
  }
}

/** A table of given values, copied into RAM. For small tables and tests. @param values `[V, D]` */
export function createTable(
  name: string,
  values: Matrix,
  options: { dtype?: RowDtype; groupDims?: number; kernels?: Kernels } = {},
): ShardedTable {
  const kernels = options.kernels ?? loadKernels();
  const store = kernels.createRows(values.rows, values.cols, options.dtype ?? 'f32', options.groupDims);
  kernels.scatterRows(store, range(values.rows), values);
  return new ShardedTable(name, [{ store, firstRow: 0 }], kernels);
}
