/**
 * An adapter with its optimiser's state, as one safetensors file: training goes on from it with the same bytes as if it
 * had never stopped. Rows keep the order of their slots.
 */
import { FinetableError, type TensorDtype } from '@finetable/core';
import { readSafetensorsHeader, readTensor, writeSafetensors, type TensorSource } from '@finetable/formats';
import type { RowStore } from '@finetable/kernels';
import type { Adapter } from './adapter.ts';
import type { RowGroup } from './group.ts';
import { RowsSnapshot } from './snapshot.ts';

interface StoredRows {
  readonly name: string;
  readonly group: RowGroup;
  readonly store: RowStore;
  readonly rows: number;
}

interface StoredArray {
  readonly name: string;
  readonly data: Float32Array | Float64Array;
}

/** What tensors of a group are named after. */
const prefix = (group: RowGroup): string => (group.name === 'rest' ? '' : `${group.name}/`);

/** The row stores of an adapter in training, by the names they have in the file. @param rows of each group */
function storesOf(adapter: Adapter, rows: (group: RowGroup) => number): StoredRows[] {
  return adapter.groups.flatMap((group) => {
    const { factors, training } = group;
    if (!training)
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${adapter.table.name}: startTraining comes before its state is saved or loaded`,
      );
    const stores = [{ name: 'A', store: factors }];
    training.rowState.forEach((store, i) => stores.push({ name: `A.state.${i}`, store }));
    if (training.lastSteps) stores.push({ name: 'A.lastSteps', store: training.lastSteps });
    if (adapter.norms) stores.push({ name: 'A.counted', store: adapter.norms.counted(group) });
    return stores.map(({ name, store }) => ({ name: prefix(group) + name, group, store, rows: rows(group) }));
  });
}

/** The small arrays beside the rows. */
function arraysOf({ groups, magnitude, magnitudeState, norms }: Adapter): StoredArray[] {
  const arrays: StoredArray[] = groups.flatMap((group) => {
    const { b, training } = group;
    const own: StoredArray[] = b ? [{ name: 'B', data: b.data }] : [];
    training?.bState.forEach((data, i) => own.push({ name: `B.state.${i}`, data }));
    norms?.arrays(group).forEach((data, i) => own.push({ name: `norms.${i}`, data }));
    return own.map(({ name, data }) => ({ name: prefix(group) + name, data }));
  });
  if (magnitude) arrays.push({ name: 'magnitude', data: magnitude });
  magnitudeState.forEach((data, i) => arrays.push({ name: `magnitude.state.${i}`, data }));
  return arrays;
}

/** What gives the numbers in the file their meaning, by what it is called in errors. */
function settingsOf({ groups }: Adapter): Readonly<Record<string, string>> {
  return Object.fromEntries(
    groups.flatMap((group) => {
      const { name, kind, scale, untouched, training } = group;
      const { rowRule, bRule, optimizer } = training!;
      const { mode = 'exact', schedule = null } = optimizer;
      const start = untouched && [untouched.seed, untouched.stream, untouched.tableRows];
      const settings = { kind, scale, start, optimizer: { A: rowRule, B: bRule, mode, schedule } };
      return Object.entries(settings).map(([key, value]) => [`${key} of ${name}`, JSON.stringify(value)]);
    }),
  );
}

/** The whole state of an adapter at one moment, to be written while training goes on. */
export class AdapterSnapshot {
  readonly #tensors: TensorSource[] = [];
  readonly #metadata: Readonly<Record<string, string>>;
  readonly #rows = new Map<RowGroup, RowsSnapshot>();

  /**
   * Until it is written or let go, the adapter must be neither closed nor loaded into, and every step copies those of its rows that
   * were there, each once.
   */
  constructor(adapter: Adapter) {
    const { kernels, fingerprint } = adapter.table;
    const stores = storesOf(adapter, ({ touchedRows }) => touchedRows);
    for (const group of adapter.groups) {
      // Slots are given out for good, so later ones come after these.
      const { rows } = group.slots;
      this.#tensors.push({ name: `${prefix(group)}rows`, dtype: 'I32', shape: [rows.length], data: rows });
      const own = stores.filter((stored) => stored.group === group);
      const snapshot = new RowsSnapshot(kernels, own.map(({ store }) => store), rows.length); // prettier-ignore
      for (const { name, store } of own)
        this.#tensors.push({
          name,
          dtype: dtypeOf(store),
          shape: [rows.length, store.dim],
          data: snapshot.read(store),
        });
      this.#rows.set(group, snapshot);
      group.snapshots.add(snapshot);
    }
    for (const { name, data } of arraysOf(adapter)) {
      const dtype = data instanceof Float64Array ? 'F64' : 'F32';
      this.#tensors.push({ name, dtype, shape: [data.length], data: data.slice() });
    }
    this.#metadata = { step: String(adapter.step), fingerprint, settings: JSON.stringify(settingsOf(adapter)) };
  }

  /** Writes the state to `path`, atomically, and lets it go. @throws IO */
  async save(path: string): Promise<void> {
    try {
      await writeSafetensors(path, this.#tensors, this.#metadata);
    } finally {
      this.release();
    }
  }

  /** Lets it go: nothing is copied for it any more. Safe to call twice. */
  release(): void {
    for (const [group, rows] of this.#rows) group.snapshots.delete(rows);
  }
}

/** Writes the adapter's whole state as it is now to `path`, atomically; training may go on meanwhile. */
export async function saveAdapterState(path: string, adapter: Adapter): Promise<void> {
  await new AdapterSnapshot(adapter).save(path);
}

/**
 * Reads a saved state into an adapter with the same options and training; what it held before is forgotten.
 * @throws MISMATCH where it was made for another table or other options; INVALID_FILE
 */
export async function loadAdapterState(path: string, adapter: Adapter): Promise<void> {
  const arrays = arraysOf(adapter);
  const header = await readSafetensorsHeader(path);
  if (header.metadata.fingerprint !== adapter.table.fingerprint) {
    throw new FinetableError('MISMATCH', `${path}: it was made for another table than "${adapter.table.name}"`, {
      file: path,
      table: adapter.table.name,
    });
  }
  const expect = (name: string, dtype: TensorDtype, shape: readonly number[]): void => {
    const found = header.tensors.get(name);
    if (found?.shape.join() !== shape.join()) {
      throw new FinetableError(
        'MISMATCH',
        `${path}: tensor "${name}" must have shape [${shape.join(', ')}], found ${found ? `[${found.shape.join(', ')}]` : 'none'}`,
        { file: path, tensor: name },
      );
    }
    if (found.dtype !== dtype) {
      throw new FinetableError('INVALID_FILE', `${path}: tensor "${name}" must be ${dtype}, found ${found.dtype}`, {
        file: path,
        tensor: name,
      });
    }
  };
  const rowsName = (group: RowGroup): string => `${prefix(group)}rows`;
  const rowsIn = (group: RowGroup): number => header.tensors.get(rowsName(group))?.shape[0] ?? -1;
  for (const group of adapter.groups) expect(rowsName(group), 'I32', [rowsIn(group)]);
  const stores = storesOf(adapter, rowsIn);
  for (const { name, store, rows } of stores) expect(name, dtypeOf(store), [rows, store.dim]);
  for (const { name, data } of arrays) expect(name, data instanceof Float64Array ? 'F64' : 'F32', [data.length]);
  if (header.tensors.size !== adapter.groups.length + stores.length + arrays.length) {
    throw new FinetableError('MISMATCH', `${path}: it was made with another optimiser`, { file: path });
  }

  const step = Number(header.metadata.step);
  if (!Number.isSafeInteger(step) || step < 0) {
    throw new FinetableError(
      'INVALID_FILE',
      `${path}: step ${header.metadata.step}; allowed: an integer of 0 or more`,
      { file: path },
    );
  }
  const rowsOf: Int32Array[] = [];
  for (const group of adapter.groups) {
    const rows = (await readTensor(path, header, rowsName(group))).data as Int32Array;
    checkRows(path, rows, group);
    rowsOf.push(rows);
  }
  checkSettings(path, header.metadata.settings, settingsOf(adapter));
  adapter.groups.forEach((group, i) => {
    group.reset(rowsOf[i]!);
    adapter.norms?.rebuild(group);
  });
  adapter.resume(step);
  for (const { name, store } of storesOf(adapter, rowsIn)) {
    const { data } = await readTensor(path, header, name);
    adapter.table.kernels.writeBytes(store, 0, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  for (const { name, data } of arraysOf(adapter)) data.set((await readTensor(path, header, name)).data as Float64Array);
}

function checkSettings(path: string, text: string | undefined, settings: Readonly<Record<string, string>>): void {
  const wrong = (what: string): FinetableError =>
    new FinetableError('INVALID_FILE', `${path}: its settings ${what}; allowed: those that saving a state writes`, {
      file: path,
    });
  if (text === undefined) throw wrong('are missing');
  let found: Partial<Record<string, unknown>> | null;
  try {
    found = JSON.parse(text) as Partial<Record<string, unknown>> | null;
  } catch {
    throw wrong('are not JSON');
  }
  const key = Object.keys(settings).find((name) => found?.[name] !== settings[name]);
  if (key === undefined) return;
  const message = `${path}: it was made with ${key} ${String(found?.[key])}, now it is ${settings[key]}`;
  throw new FinetableError('MISMATCH', message, { file: path, setting: key });
}

const dtypeOf = (store: RowStore): TensorDtype => store.dtype.toUpperCase() as TensorDtype;

/** Rows in the order of their slots: any order, each once. */
function checkRows(path: string, rows: Int32Array, { members, table, name }: RowGroup): void {
  const sorted = rows.slice().sort();
  sorted.forEach((row, i) => {
    if (!members.has(row) || row === sorted[i - 1]) {
      const rowsOf = name === 'rest' ? `the table's 0 to ${table.rows - 1}` : `group "${name}"`;
      const what = row === sorted[i - 1] ? 'is there twice' : `is not in ${rowsOf}`;
      throw new FinetableError('INVALID_FILE', `${path}: row ${row} ${what}`, { file: path, row });
    }
  });
}
