/** Adapters to and from folders: the sparse format, and PEFT's. See `@finetable/formats` for the bytes. */
import { FinetableError, HeUniformRows, matrix, range } from '@finetable/core';
import {
  loadAdapter,
  savePeftAdapter,
  saveSparseAdapter,
  type AdapterTensors,
  type GroupTensors,
  type SavePeftOptions,
} from '@finetable/formats';
import type { ShardedTable } from '@finetable/placement';
import { Adapter } from './adapter.ts';
import type { RowGroup } from './group.ts';
import type { FactorOptions, SharedOptions } from './options.ts';
import { RowSet } from './row-set.ts';

/** An adapter as named arrays, rows ascending; copies. */
export function adapterTensors(adapter: Adapter): AdapterTensors {
  const { table, magnitude, norms } = adapter;
  adapter.settle();
  return {
    table: table.name,
    base: { rows: table.rows, dim: table.dim, dtype: table.dtype, fingerprint: table.fingerprint },
    groups: adapter.groups.map(groupTensors),
    magnitude: magnitude && magnitude.slice(),
    baseSquares: norms && norms.baseSquares.slice(),
    grown: null,
  };
}

function groupTensors(group: RowGroup): GroupTensors {
  const { table, name, members, untouched, kind, rank, alpha, rsLora, b } = group;
  const rowOf = group.slots.rows;
  const slots = range(group.touchedRows).sort((x, y) => rowOf[x]! - rowOf[y]!);
  const a = matrix(slots.length, rank);
  table.kernels.gatherRows(group.factors, slots, a);
  return {
    name,
    members: name === 'rest' && members.count === table.rows ? null : members.bounds.slice(),
    untouched: untouched && { seed: untouched.seed, stream: untouched.stream },
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

/** What training an adapter that was read may be given; all else is in its file. */
export type LoadAdaptersOptions = Pick<SharedOptions, 'dropout' | 'maxNorm' | 'paddingRow' | 'seed'> &
  Pick<FactorOptions, 'learningRate' | 'weightDecay'> & {
    readonly learningRateB?: number | undefined;
    readonly freeze?: 'A' | 'B' | undefined;
  };

/**
 * Reads a sparse or PEFT adapter folder onto its tables.
 * @param tables by the names in the folder; a folder with one adapter fits one table of any name
 * @throws MISMATCH where rows, dims or fingerprint say that the adapter was made for another table; INVALID_FILE, NOT_FOUND
 */
export async function loadAdapters(
  folder: string,
  tables: readonly ShardedTable[],
  options: LoadAdaptersOptions = {},
): Promise<Adapter[]> {
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
      checkBase(folder, table, tensors);
      adapters.push(adapterOf(table, tensors, options));
    }
    return adapters;
  } catch (error) {
    for (const adapter of adapters) adapter.close();
    throw error;
  }
}

/**
 * Reads one adapter of a folder onto a table of any name.
 * @param name of the table that it was made for; may be left out where the folder has one adapter
 * @throws INVALID_ARGUMENT where the folder has several and none is named, or none of that name; else as {@link loadAdapters}
 */
export async function loadAdapterOf(
  folder: string,
  table: ShardedTable,
  name?: string,
  options: LoadAdaptersOptions = {},
): Promise<Adapter> {
  const loaded = await loadAdapter(folder);
  const found =
    name === undefined && loaded.length === 1 ? loaded[0] : loaded.find((tensors) => tensors.table === name);
  if (!found) {
    const names = loaded.map((tensors) => tensors.table);
    const problem = name === undefined ? 'adapts several tables; name one' : `adapts no table "${name}"`;
    throw new FinetableError('INVALID_ARGUMENT', `${folder}: ${problem}; allowed: ${names.join(', ')}`, {
      file: folder,
      ...(name === undefined && { tables: names }),
    });
  }
  checkBase(folder, table, found);
  return adapterOf(table, found, options);
}

function checkBase(folder: string, table: ShardedTable, { base }: AdapterTensors): void {
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
}

/** The adapter that these arrays describe, with memory of its own. The base is not looked at. */
export function adapterOf(table: ShardedTable, tensors: AdapterTensors, options: LoadAdaptersOptions = {}): Adapter {
  const [rest, ...groups] = tensors.groups;
  const { learningRateB, freeze, ...shared } = options;
  const { learningRate, weightDecay } = options;
  const factors = ({ kind, rank, alpha, rsLora, untouched }: GroupTensors): FactorOptions => {
    if (kind === 'dense') return { kind, learningRate, weightDecay };
    const init = untouched ? new HeUniformRows(untouched.seed, untouched.stream, table.rows, rank) : 'sparse';
    return { rank, alpha, rsLora, learningRate, weightDecay, learningRateB, freeze, init };
  };
  const adapter = new Adapter(
    table,
    {
      ...shared,
      ...factors(rest!),
      rows: rest!.members ? new RowSet(rest!.members) : undefined,
      groups: groups.map((group) => ({ ...factors(group), name: group.name, rows: new RowSet(group.members!) })),
      dora: tensors.magnitude !== null,
    },
    { baseSquares: tensors.baseSquares },
  );
  tensors.groups.forEach(({ rows, a, b }, i) => {
    const group = adapter.groups[i]!;
    if (group.b && b) group.b.data.set(b);
    group.reset(rows);
    table.kernels.scatterRows(group.factors, range(rows.length), matrix(rows.length, group.rank, a));
    adapter.norms?.rebuild(group);
  });
  if (tensors.magnitude) adapter.magnitude!.set(tensors.magnitude);
  return adapter;
}
