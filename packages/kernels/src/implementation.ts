/**
 * What `portable/` and `native/` provide. It is `Kernels` without the checks: every argument has passed `check/` before an
 * implementation sees it, so that both refuse the same things in the same words.
 */
import type { ChosenDeltas, FileRows, Kernels, RowStore, SlotTable, StoreDtype, TablePart } from './kernels.ts';

/** `scales` is null where the dtype has none. */
export interface Descriptors {
  readonly rows: number;
  readonly scales: number | null;
}

export interface Implementation extends Omit<Kernels, 'withThreads' | 'createRows' | 'openRows' | 'addChosen'> {
  withThreads(threads: number): Implementation;
  /** Whether `store` was made by this implementation. */
  owns(store: RowStore): boolean;
  createRows(rows: number, dim: number, dtype: StoreDtype, groupDims: number): RowStore;
  /**
   * Descriptors are open for reading and their files known to be long enough; the caller closes them.
   * @throws IO, OUT_OF_MEMORY
   */
  openRows(file: FileRows, home: 'ram' | 'mapped', part: TablePart, descriptors: Descriptors): RowStore;
  /** As `Kernels.addChosen`. @returns false where a table named a slot that `factors` does not have; such places were passed over */
  addChosen(args: ChosenDeltas): boolean;
  /** As `Kernels.insertSlots`, with -1 where the table is full. */
  insertSlots(table: SlotTable, rows: Int32Array, slots: Int32Array, first: number): number;
  /** The first index where `values[i]` is outside `[low, limit)`, or -1. */
  firstOutside(values: Int32Array, low: number, limit: number): number;
  /** The first index `i` with `values[i] < values[i - 1]`, or -1. */
  firstDescent(values: Int32Array): number;
  /** The first index whose value stood before, or -1; entries below 0 are passed over. */
  firstRepeated(values: Int32Array): number;
}
