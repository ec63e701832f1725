/** A kind of device, for the tests that every kind passes. */
import type { RowFormat } from '@finetable/core';
import type { Kernels } from '@finetable/kernels';
import type { Device } from '@finetable/placement';

export interface DeviceSubject {
  /** @param options.arrayBytes the most that one array of rows may take @param options.compute false: rows are kept there, and no more */
  open(options?: { readonly arrayBytes?: number | undefined; readonly compute?: boolean }): Promise<Device>;
  /** What tables and batches hold there now, in bytes or in arrays. */
  held(device: Device): number;
  /** What `held` is of rows that take so many bytes, where that can be told. */
  readonly heldByRows?: (bytes: number) => number;
  /** With so many bytes an array, rows of the format take several of them. */
  arrayBytesOf(format: RowFormat): number;
  /** Of the tables, those on the device too; default: whichever there are. */
  readonly kernels?: Kernels;
}
