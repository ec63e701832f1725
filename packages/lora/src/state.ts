/**
 * An adapter with its optimiser's state, as one safetensors file: training goes on from it with the same bytes as if it
 * had never stopped. Rows keep the order of their slots.
 */
import { FinetableError, type TensorDtype } from '@finetable/core';
import { readSafetensorsHeader, readTensor, writeSafetensors, type TensorSource } from '@finetable/formats';
import type { Kernels, RowStore } from '@finetable/kernels';
import type { Adapter } from './adapter.ts';

const chunkBytes = 8 * 2 ** 20;

interface StoredRows {
  readonly name: string;
  readonly store: RowStore;
}

/** The row stores of an adapter in training, by the names they have in the file. */
function storesOf(adapter: Adapter): StoredRows[] {
  const training = adapter.training;
  if (!training)
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${adapter.table.name}: startTraining comes before its state is saved or loaded`,
    );
  const stores = [{ name: 'A', store: adapter.factors }];
  training.rowState.forEach((store, i) => stores.push({ name: `A.state.${i}`, store }));
  if (training.lastSteps) stores.push({ name: 'A.lastSteps', store: training.lastSteps });
  return stores;
}

/** The small arrays beside the rows. */
function arraysOf(adapter: Adapter): { name: string; data: Float32Array }[] {
  const arrays = adapter.b ? [{ name: 'B', data: adapter.b.data }] : [];
  adapter.training?.bState.forEach((data, i) => arrays.push({ name: `B.state.${i}`, data }));
  return arrays;
}

/** Writes the adapter's whole state to `path`, atomically. */
export async function saveAdapterState(path: string, adapter: Adapter): Promise<void> {
  const kernels = adapter.table.kernels;
  const k = adapter.touchedRows;
  const tensors: TensorSource[] = [{ name: 'rows', dtype: 'I32', shape: [k], data: adapter.slots.rows }];
  for (const { name, store } of storesOf(adapter)) {
    tensors.push({
      name,
      dtype: dtypeOf(store),
      shape: [k, store.dim],
      data: chunks(kernels, store, (k * store.sizeBytes) / store.rows),
    });
  }
  for (const { name, data } of arraysOf(adapter)) tensors.push({ name, dtype: 'F32', shape: [data.length], data });
  await writeSafetensors(path, tensors, { step: String(adapter.step), fingerprint: adapter.table.fingerprint });
}

async function* chunks(kernels: Kernels, store: RowStore, bytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes; at += chunkBytes) {
    const chunk = new Uint8Array(Math.min(chunkBytes, bytes - at));
    kernels.readBytes(store, at, chunk);
    yield chunk;
  }
}

/**
 * Reads a saved state into an adapter with the same options and training; what it held before is forgotten.
 * @throws MISMATCH where it was made for another table or other options; INVALID_FILE
 */
export async function loadAdapterState(path: string, adapter: Adapter): Promise<void> {
  const stores = storesOf(adapter);
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
  const k = header.tensors.get('rows')?.shape[0] ?? -1;
  expect('rows', 'I32', [k]);
  for (const { name, store } of stores) expect(name, dtypeOf(store), [k, store.dim]);
  for (const { name, data } of arrays) expect(name, 'F32', [data.length]);
  if (header.tensors.size !== 1 + stores.length + arrays.length) {
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
  const rows = (await readTensor(path, header, 'rows')).data as Int32Array;
  checkRows(path, rows, adapter.table.rows);
  adapter.reset(rows, step);
  for (const { name, store } of storesOf(adapter)) {
    const { data } = await readTensor(path, header, name);
    adapter.table.kernels.writeBytes(store, 0, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  for (const { name, data } of arraysOf(adapter)) data.set((await readTensor(path, header, name)).data as Float32Array);
}

const dtypeOf = (store: RowStore): TensorDtype => store.dtype.toUpperCase() as TensorDtype;

/** Rows in the order of their slots: any order, each once. */
function checkRows(path: string, rows: Int32Array, tableRows: number): void {
  const sorted = rows.slice().sort();
  sorted.forEach((row, i) => {
    if (row < 0 || row >= tableRows || row === sorted[i - 1]) {
      const what = row === sorted[i - 1] ? 'is there twice' : `is not in the table's 0 to ${tableRows - 1}`;
      throw new FinetableError('INVALID_FILE', `${path}: row ${row} ${what}`, { file: path, row });
    }
  });
}
