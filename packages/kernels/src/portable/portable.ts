/** The portable implementation: short, in order, on one thread; what the native one is compared with. */
import { partGroupDims } from '../check/stores.ts';
import type { Descriptors, Implementation } from '../implementation.ts';
import type { FileRows, LookupArgs, RowStore, TablePart } from '../kernels.ts';
import { gatherRows, readRows, scatterRows } from './codec.ts';
import * as dense from './dense.ts';
import { bagDots, bagDotsBackward, pairDots, pairDotsBackward } from './dots.ts';
import { FilePart, openFiles } from './files.ts';
import { addChosen, addDelta, poolBase, segmentSum } from './lookup.ts';
import { nearest } from './nearest.ts';
import { replayRows } from './replay.ts';
import { FileBackedRows, PortableRows, RamRows } from './rows.ts';
import * as scans from './scans.ts';
import { addRowProducts } from './products.ts';
import { findSlots, insertSlots } from './slots.ts';
import { updateDense, updateRows } from './update.ts';

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
    gatherRows: (store, rows, out) => gatherRows(store as PortableRows, rows, out),
    scatterRows: (store, rows, values) => scatterRows(store as PortableRows, rows, values),
    readBytes: (store, byteOffset, out) => (store as PortableRows).readBytes(byteOffset, out),
    readRows: (store, rows, out) => readRows(store as PortableRows, rows, out),
    writeBytes: (store, byteOffset, bytes) => (store as RamRows).writeBytes(byteOffset, bytes),
    lookup,
    lookupAsync: (args) => new Promise((resolve) => resolve(lookup(args))),
    nearest: (args) => new Promise((resolve) => resolve(nearest(args))),
    addChosen,
    addDelta: ({ plan, delta, out, pooledFactors }) => addDelta(plan, delta, out, pooledFactors ?? null),
    segmentSum,
    addRowProducts,
    findSlots,
    insertSlots,
    updateRows(args) {
      updateRows(args);
      const { products, parameters, slots } = args;
      if (products) addRowProducts({ ...products, factors: parameters, slots });
    },
    replayRows,
    updateDense,
    pairDots,
    pairDotsBackward,
    bagDots,
    bagDotsBackward,
    ...dense,
    ...scans,
  };
}

function openRows(file: FileRows, home: 'ram' | 'mapped', part: TablePart, descriptors: Descriptors): RowStore {
  const shape = [part.rows, part.columns, file.dtype, partGroupDims(file, part)] as const;
  // The caller closes its descriptors; rows that are read later need their own.
  if (home === 'mapped') return new FileBackedRows(new FilePart(file, part, openFiles(file)), ...shape);
  const store = new RamRows(...shape);
  store.readFile(new FilePart(file, part, descriptors));
  return store;
}

function lookup(args: LookupArgs): void {
  poolBase(args);
  if (args.delta) addDelta(args.plan, args.delta, args.out, args.pooledFactors ?? null);
}
