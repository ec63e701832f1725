/** The portable implementation: short, in order, on one thread; what the native one is compared with. */
import { f32ToF16, FinetableError, type Matrix } from '@finetable/core';
import { openSync } from 'node:fs';
import { elementBytes, withPath } from '../check/stores.ts';
import type { Descriptors, Implementation } from '../implementation.ts';
import type { FileRows, LookupArgs, RowStore, TablePart } from '../kernels.ts';
import * as dense from './dense.ts';
import { addDelta, poolBase, segmentSum } from './lookup.ts';
import { FileBackedRows, PortableRows, RamRows } from './rows.ts';
import * as scans from './scans.ts';
import { findSlots, insertSlots } from './slots.ts';
import { replayRows, updateDense, updateRows } from './update.ts';
import { copyRow } from './vectors.ts';

/** @param threads kept for `Kernels.threads`; the work is done on the calling thread whatever it says */
export function portableKernels(threads = 1): Implementation {
  return {
    name: 'portable',
    description: 'portable (TypeScript), 1 thread',
    threads,
    withThreads: portableKernels,
    owns: (store) => store instanceof PortableRows,
    createRows: (rows, dim, dtype, groupDims) => new RamRows(rows, dim, dtype, groupDims),
    openRows,
    gatherRows,
    scatterRows,
    readBytes: (store, byteOffset, out) => (store as PortableRows).readBytes(byteOffset, out),
    writeBytes: (store, byteOffset, bytes) => (store as RamRows).writeBytes(byteOffset, bytes),
    lookup,
    lookupAsync: (args) => Promise.resolve(lookup(args)),
    nearest: () => Promise.reject(new FinetableError('UNSUPPORTED', 'nearest: not yet')),
    addDelta: ({ plan, delta, out, pooledFactors }) => addDelta(plan, delta, out, pooledFactors ?? null),
    segmentSum,
    findSlots,
    insertSlots,
    updateRows,
    replayRows,
    updateDense,
    ...dense,
    ...scans,
  };
}

function openRows(file: FileRows, home: 'ram' | 'mapped', part: TablePart, descriptors: Descriptors): RowStore {
  const rows = {
    ...file,
    rows: part.rows,
    byteOffset: file.byteOffset + part.firstRow * elementBytes(file.dtype, file.dim),
  };
  // The caller closes its descriptor; rows that are read later need their own.
  if (home === 'mapped')
    return new FileBackedRows(
      rows,
      withPath(file.path, () => openSync(file.path, 'r')),
    );
  const store = new RamRows(part.rows, file.dim, file.dtype, 0);
  store.readFile(rows, descriptors.rows);
  return store;
}

function gatherRows(store: RowStore, rows: Int32Array, out: Matrix): void {
  for (let i = 0; i < rows.length; i++) copyRow(out.data, i * out.cols, store as PortableRows, rows[i]!);
}

function scatterRows(store: RowStore, rows: Int32Array, values: Matrix): void {
  const target = store as PortableRows;
  const { data, cols } = values;
  for (let i = 0; i < rows.length; i++) {
    const at = target.seek(rows[i]!);
    const stored = target.data;
    if (target.dtype === 'f16') for (let c = 0; c < cols; c++) stored[at + c] = f32ToF16(data[i * cols + c]!);
    else for (let c = 0; c < cols; c++) stored[at + c] = data[i * cols + c]!;
  }
}

function lookup(args: LookupArgs): void {
  poolBase(args);
  if (args.delta) addDelta(args.plan, args.delta, args.out, args.pooledFactors ?? null);
}
