/** Adapters to and from folders: the sparse format, and PEFT's. See `@finetable/formats` for the bytes. */
import {
  checkOptionNames,
  FinetableError,
  HeUniformRows,
  matrix,
  type Matrix,
  type OptionNames,
  range,
  rowsOf,
} from '@finetable/core';
import {
  loadAdapter,
  savePeftAdapter,
  saveSparseAdapter,
  type AdapterTensors,
  type GroupTensors,
  type SavePeftOptions,
  type UntouchedRows,
} from '@finetable/formats';
import { createTable, growTable, type ShardedTable } from '@finetable/placement';
import { Adapter } from './adapter.ts';
import type { RowGroup } from './group.ts';
import type { FactorOptions, GroupOptions, SharedOptions } from './options.ts';
import { RowSet } from './row-set.ts';

/** An adapter as named arrays, rows ascending; copies. */
export function adapterTensors(adapter: Adapter): AdapterTensors {
  const { table, magnitude, norms } = adapter;
  const { name, dim, dtype, grownFrom } = table;
  adapter.settle();
  // Of a grown table, what its file holds is the base, and the rows that were added go with the adapter.
  const rows = grownFrom ?? table.rows;
  return {
    table: name,
    base: { rows, dim, dtype, fingerprint: table.fingerprintOf(rows) },
    groups: adapter.groups.map(groupTensors),
    magnitude: magnitude && magnitude.slice(),
    baseSquares: norms && norms.baseSquares.slice(),
    maxNorm: adapter.options.maxNorm ?? null,
    grown: table.gatherGrown()?.data ?? null,
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
    untouched: untouched && startOf(untouched, table.rows),
    kind,
    rank,
    alpha,
    rsLora,
    rows: slots.map((slot) => rowOf[slot]!),
    a: a.data,
    b: b && b.data.slice(),
  };
}

function startOf({ seed, stream, tableRows }: HeUniformRows, rows: number): UntouchedRows {
  return tableRows === rows ? { seed, stream } : { seed, stream, rows: tableRows };
}

/** How adapters are saved: `sparse` (the default) or `peft`. */
export interface SaveAdaptersOptions extends SavePeftOptions {
  /** `sparse` (default) holds touched rows only; `peft` is what Python's PEFT loads, with a dense A. */
  readonly format?: 'sparse' | 'peft';
}

const saveNames: OptionNames<SaveAdaptersOptions> = { format: true, overwrite: true, modulePaths: true };

/** Writes adapters, one per table, into a folder, whole or not at all. @throws EXISTS, NON_FINITE, UNSUPPORTED, IO */
export async function saveAdapters(
  folder: string,
  adapters: readonly Adapter[],
  options: SaveAdaptersOptions = {},
): Promise<void> {
  checkOptionNames('saveAdapters', options, saveNames);
  const { format = 'sparse' } = options;
  if (!['sparse', 'peft'].includes(format))
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `saveAdapters: format ${JSON.stringify(format)}; allowed: sparse, peft`,
    );
  if (format === 'sparse' && options.modulePaths !== undefined)
    throw new FinetableError('INVALID_ARGUMENT', 'saveAdapters: modulePaths go with format "peft"');
  const tensors = adapters.map(adapterTensors);
  await (format === 'peft' ? savePeftAdapter : saveSparseAdapter)(folder, tensors, options);
}

/** What training an adapter that was read may be given; all else is in its file. */
export type LoadAdaptersOptions = Pick<SharedOptions, 'dropout' | 'paddingRow' | 'seed'> &
  Pick<FactorOptions, 'learningRate' | 'weightDecay'> & {
    /** Of groups with a B; refused where there is none. */
    readonly learningRateB?: number | undefined;
    /** Likewise. */
    readonly freeze?: 'A' | 'B' | undefined;
  };

const loadNames: OptionNames<LoadAdaptersOptions> = {
  dropout: true,
  paddingRow: true,
  seed: true,
  learningRate: true,
  weightDecay: true,
  learningRateB: true,
  freeze: true,
};

/**
 * Reads a sparse or PEFT adapter folder onto its tables.
 *
 * An adapter of a table that was grown brings the rows that were added: onto a table without them it is read as an adapter of a
 * grown table (`adapter.table`, which shares the rows of the one given and is closed with the adapter), and a table that has them
 * already must have the same ones. A table may have more rows than the adapter was made for, as long as the first ones are those:
 * the others get no delta, and training gives them one in a dense group of their own; DoRA's norms stay those of the rows it was
 * made for.
 * @param tables by the names in the folder; a folder with one adapter fits one table of any name
 * @throws MISMATCH where rows, dims or fingerprint say that the adapter was made for another table, or for one with other rows
 *   added; INVALID_FILE, NOT_FOUND; what reading rows on devices fails with
 */
export async function loadAdapters(
  folder: string,
  tables: readonly ShardedTable[],
  options: LoadAdaptersOptions = {},
): Promise<Adapter[]> {
  checkOptionNames('loadAdapters', options, loadNames);
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
      adapters.push(await onTable(folder, table, tensors, options));
    }
    return adapters;
  } catch (error) {
    for (const adapter of adapters) adapter.close();
    throw error;
  }
}

/**
 * Reads one adapter of a folder onto a table of any name; see {@link loadAdapters}.
 * @param name of the table that it was made for; may be left out where the folder has one adapter
 * @throws INVALID_ARGUMENT where the folder has several and none is named, or none of that name; else as {@link loadAdapters}
 */
export async function loadAdapterOf(
  folder: string,
  table: ShardedTable,
  name?: string,
  options: LoadAdaptersOptions = {},
): Promise<Adapter> {
  checkOptionNames('loadAdapterOf', options, loadNames);
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
  return onTable(folder, table, found, options);
}

/** The adapter on its table, or on one that is grown from it and closed with the adapter. */
async function onTable(
  folder: string,
  table: ShardedTable,
  tensors: AdapterTensors,
  options: LoadAdaptersOptions,
): Promise<Adapter> {
  const grown = await tableOf(folder, table, tensors);
  try {
    return adapterOf(grown, tensors, options, grown !== table);
  } catch (error) {
    if (grown !== table) grown.close();
    throw error;
  }
}

/** The table, where it is the adapter's base and has the rows that were added to that; else one that is grown from it. */
async function tableOf(folder: string, table: ShardedTable, { base, grown }: AdapterTensors): Promise<ShardedTable> {
  const mismatch = (what: string, theirs: unknown, ours: unknown): never => {
    throw new FinetableError(
      'MISMATCH',
      `${folder}: the adapter was made for a table with ${what} ${String(theirs)}; "${table.name}" has ${String(ours)}`,
      { file: folder, table: table.name },
    );
  };
  if (base.dim !== table.dim) mismatch('dims', base.dim, table.dim);
  // Without a fingerprint, nothing but their number says that the rows are the same.
  const recognised = base.fingerprint !== null && base.rows < table.rows;
  if (base.rows !== table.rows && base.rows !== table.grownFrom && !recognised) mismatch('rows', base.rows, table.rows);
  if (base.fingerprint !== null) {
    const found = await table.computeFingerprint(base.rows);
    const which = base.rows < table.rows ? ` of its first ${base.rows} rows` : '';
    if (base.fingerprint !== found) mismatch(`fingerprint${which}`, base.fingerprint, found);
  }
  if (!grown) return table;
  const added = matrix(grown.length / base.dim, base.dim, grown);
  const present = Math.min(table.rows - base.rows, added.rows);
  if (present > 0) {
    const differs = await firstDifference(table, base.rows, rowsOf(added, 0, present));
    if (differs >= 0)
      mismatch(`other vectors in rows that were added to its ${base.rows}, from row`, differs, 'its own there');
  }
  if (present === added.rows) return table;
  return growTable(table, { vectors: rowsOf(added, present, added.rows - present) });
}

/** The first row from `first` on that is not the one in `rows`, as the table's dtype rounds it; -1 where there is none. */
async function firstDifference(table: ShardedTable, first: number, rows: Matrix): Promise<number> {
  const { dim, dtype, groupDims, kernels } = table;
  const ids = range(rows.rows).map((i) => first + i);
  const [found, rounded] = [await table.gatherAsync(ids), createTable(table.name, rows, { dtype, groupDims, kernels })];
  const expected = rounded.gather(range(rows.rows)).data;
  rounded.close();
  // A scale that is worked out from rounded values may differ in its last bit.
  const differs = expected.findIndex((value, i) => Math.abs(value - found.data[i]!) > 1e-6 * Math.abs(value));
  return differs < 0 ? -1 : first + Math.floor(differs / dim);
}

/**
 * The adapter that these arrays describe, with memory of its own. The base is not looked at, but must have the rows that the
 * arrays are about; what it has more is a group of its own, see `loadAdapters`.
 * @param ownsTable whether the table is closed with the adapter
 * @throws INVALID_ARGUMENT for bad options, such as a `paddingRow` that the adapter changes
 */
export function adapterOf(
  table: ShardedTable,
  tensors: AdapterTensors,
  options: LoadAdaptersOptions = {},
  ownsTable = false,
): Adapter {
  const [rest, ...groups] = tensors.groups;
  const { learningRateB, freeze, ...shared } = options;
  const { learningRate, weightDecay } = options;
  const known = tensors.base.rows + (tensors.grown?.length ?? 0) / tensors.base.dim;
  checkPadding(table, tensors.groups, options.paddingRow);
  if (tensors.groups.every(({ kind }) => kind === 'dense') && (learningRateB ?? freeze) !== undefined) {
    const message = `${table.name}: learningRateB and freeze are about the factors A and B; this adapter is dense`;
    throw new FinetableError('INVALID_ARGUMENT', message, { table: table.name });
  }
  const factors = ({ kind, rank, alpha, rsLora, untouched }: GroupTensors): FactorOptions => {
    if (kind === 'dense') return { kind, learningRate, weightDecay };
    const init = untouched
      ? new HeUniformRows(untouched.seed, untouched.stream, untouched.rows ?? known, rank)
      : 'sparse';
    return { rank, alpha, rsLora, learningRate, weightDecay, learningRateB, freeze, init };
  };
  const named: GroupOptions[] = groups.map((group) => ({
    ...factors(group),
    name: group.name,
    rows: new RowSet(group.members!),
  }));
  if (known < table.rows) {
    const name = tensors.groups.some((group) => group.name === 'grown') ? `grown-${known}` : 'grown';
    named.push({ kind: 'dense', learningRate, weightDecay, name, rows: { from: known } });
  }
  const adapter = new Adapter(
    table,
    {
      maxNorm: tensors.maxNorm ?? undefined,
      ...shared,
      ...factors(rest!),
      rows: new RowSet(rest!.members ?? Int32Array.of(0, known)),
      groups: named,
      dora: tensors.magnitude !== null,
    },
    { baseSquares: tensors.baseSquares, rows: known, ownsTable },
  );
  try {
    tensors.groups.forEach(({ rows, a, b }, i) => {
      const group = adapter.groups[i]!;
      if (group.b && b) group.b.data.set(b);
      group.reset(rows);
      table.kernels.scatterRows(group.factors, range(rows.length), matrix(rows.length, group.rank, a));
      adapter.norms?.rebuild(group);
    });
  } catch (error) {
    adapter.close();
    throw error;
  }
  if (tensors.magnitude) adapter.magnitude!.set(tensors.magnitude);
  return adapter;
}

/** A row that stays its base row cannot be one that the adapter has changed. */
function checkPadding({ name }: ShardedTable, groups: readonly GroupTensors[], paddingRow: number | undefined): void {
  if (paddingRow === undefined) return;
  const changing = groups.find(({ rows, members, untouched }) =>
    untouched ? !members || new RowSet(members).has(paddingRow) : rows.includes(paddingRow),
  );
  if (!changing) return;
  const message = `${name}: paddingRow ${paddingRow} is a row that group "${changing.name}" of the adapter changes; allowed: one that it leaves as it is`;
  throw new FinetableError('INVALID_ARGUMENT', message, { table: name, row: paddingRow });
}
