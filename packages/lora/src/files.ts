/** Adapters to and from folders: the sparse format, and PEFT's. See `@finetable/formats` for the bytes. */
import { FinetableError, matrix, range } from '@finetable/core';
import {
  loadAdapter,
  savePeftAdapter,
  saveSparseAdapter,
  type AdapterTensors,
  type SavePeftOptions,
} from '@finetable/formats';
import type { ShardedTable } from '@finetable/placement';
import { Adapter } from './adapter.ts';

/** An adapter as named arrays, rows ascending; copies. */
export function adapterTensors(adapter: Adapter): AdapterTensors {
  const { table, kind, rank, alpha, rsLora, b } = adapter;
  adapter.settle();
  const rowOf = adapter.slots.rows;
  const slots = range(adapter.touchedRows).sort((x, y) => rowOf[x]! - rowOf[y]!);
  const a = matrix(slots.length, rank);
  table.kernels.gatherRows(adapter.factors, slots, a);
  return {
    table: table.name,
    base: { rows: table.rows, dim: table.dim, dtype: table.dtype, fingerprint: table.fingerprint },
    kind,
    rank,
    alpha,
    rsLora,
    rows: slots.map((slot) => rowOf[slot]!),
    a: a.data,
    b: b && b.data.slice(),
  };
}

export interface SaveAdaptersOptions extends SavePeftOptions {
  /** `sparse` (default) holds touched rows only; `peft` is what Python's PEFT loads, with a dense A. */
  readonly format?: 'sparse' | 'peft';
}

/** Writes adapters, one per table, into a folder, whole or not at all. @throws EXISTS, NON_FINITE, UNSUPPORTED, IO */
export async function saveAdapters(
  folder: string,
  adapters: readonly Adapter[],
  options: SaveAdaptersOptions = {},
): Promise<void> {
  const tensors = adapters.map(adapterTensors);
  await (options.format === 'peft' ? savePeftAdapter : saveSparseAdapter)(folder, tensors, options);
}

/**
 * Reads a sparse or PEFT adapter folder onto its tables.
 * @param tables by the names in the folder; a folder with one adapter fits one table of any name
 * @throws MISMATCH where rows, dims or fingerprint say that the adapter was made for another table; INVALID_FILE, NOT_FOUND
 */
export async function loadAdapters(folder: string, tables: readonly ShardedTable[]): Promise<Adapter[]> {
  const loaded = await loadAdapter(folder);
  const adapters: Adapter[] = [];
  try {
    for (const tensors of loaded) {
      const only = loaded.length === 1 && tables.length === 1 ? tables[0] : undefined;
      const table = tables.find(({ name }) => name === tensors.table) ?? only;
      if (!table) {
        const names = tables.map(({ name }) => name).join(', ');
        throw new FinetableError(
          'MISMATCH',
          `${folder}: it adapts a table "${tensors.table}"; the tables given are ${names || 'none'}`,
          { file: folder },
        );
      }
      adapters.push(fromTensors(folder, table, tensors));
    }
    return adapters;
  } catch (error) {
    for (const adapter of adapters) adapter.close();
    throw error;
  }
}

function fromTensors(folder: string, table: ShardedTable, tensors: AdapterTensors): Adapter {
  const { base } = tensors;
  const mismatch = (what: string, theirs: unknown, ours: unknown): never => {
    throw new FinetableError(
      'MISMATCH',
      `${folder}: the adapter was made for a table with ${what} ${String(theirs)}; "${table.name}" has ${String(ours)}`,
      { file: folder, table: table.name },
    );
  };
  if (base.rows !== table.rows) mismatch('rows', base.rows, table.rows);
  if (base.dim !== table.dim) mismatch('dims', base.dim, table.dim);
  if (base.fingerprint !== null && base.fingerprint !== table.fingerprint) {
    mismatch('fingerprint', base.fingerprint, table.fingerprint);
  }
  const { rank, alpha, rsLora } = tensors;
  const adapter = new Adapter(table, tensors.kind === 'dense' ? { kind: 'dense' } : { rank, alpha, rsLora });
  if (adapter.b && tensors.b) adapter.b.data.set(tensors.b);
  adapter.reset(tensors.rows, 0);
  const count = tensors.rows.length;
  table.kernels.scatterRows(adapter.factors, range(count), matrix(count, adapter.rank, tensors.a));
  return adapter;
}
