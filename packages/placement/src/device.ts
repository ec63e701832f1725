/**
 * Homes for rows that the kernels cannot read in place: a GPU's memory, another machine. Their packages implement `Device`;
 * a table with parts on one is read through copies of the rows that a batch needs (see `ShardedTable.fetch`).
 */
import type { RowDtype } from '@finetable/core';
import type { FileRows, TablePart } from '@finetable/kernels';

export interface Device {
  /** For errors: `cuda:0`, `rows.example:7000`. */
  readonly name: string;
  readonly kind: 'ram' | 'mapped' | 'gpu' | 'remote';
  /** What parts of one table may take together. */
  readonly capacityBytes: number;
  /**
   * Puts part of a file's table on the device, or finds it there.
   * @throws what the device fails with; nothing stays open then
   */
  openRows(file: FileRows, part: TablePart): Promise<DeviceRows>;
}

/** Rows on a device. They never change. */
export interface DeviceRows {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: RowDtype;
  /** As in `RowFormat`; a part of a table that lies within one group of columns has its own columns as its group. */
  readonly groupDims: number;
  /** Elements and scales. */
  readonly sizeBytes: number;
  /**
   * Writes the stored bytes of `rows` (`[n] i32`, each in `[0, this.rows)`) to `out`: the elements of all, row by row, then the
   * scales of all. Both arrays are the device's until the promise settles, or for good where it was aborted meanwhile.
   * @param out `[n * storedRowBytes(this)]`
   * @param signal the bytes are no longer wanted; the device may stop and reject
   */
  fetch(rows: Int32Array, out: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Frees the rows. Safe to call twice. */
  close(): void;
}
