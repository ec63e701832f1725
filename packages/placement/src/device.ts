/**
 * Homes for rows that the kernels cannot read in place: a GPU's memory, another machine. Their packages implement `Device`;
 * a table with parts on one is read through copies of the rows that a batch needs (see `ShardedTable.fetch`). A device that
 * computes needs no copies of a table that it holds whole: see `DeviceLookup`.
 */
import type { LookupPlan, Matrix, RowDtype } from '@finetable/core';
import type { FileRows, NearestArgs, TablePart } from '@finetable/kernels';

/** A memory beside RAM that rows may lie in. Another package, or a program, implements it. */
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
   * Writes the stored bytes of `rows` (`[n] i32`, ascending, each in `[0, this.rows)`) to `out`: the elements of all, row by row, then the
   * scales of all. Both arrays are the device's until the promise settles, or for good where it was aborted meanwhile.
   * @param out `[n * storedRowBytes(this)]`
   * @param signal the bytes are no longer wanted; the device may stop and reject
   */
  fetch(rows: Int32Array, out: Uint8Array, signal?: AbortSignal): Promise<void>;
  /**
   * Begins a lookup of a plan over all of these rows (`plan.tableRows` is `rows`) on the device: the base rows are gathered and
   * pooled from now on, which nobody waits for. A device that does not compute leaves it out.
   * @throws CLOSED, and what the device fails with at once; what it fails with later comes with what is read
   */
  begin?(plan: LookupPlan): DeviceLookup;
  /**
   * Finds the nearest of these rows. Scores are within rounding those of the kernels, and the same bytes every time on the same device; equal
   * ones are in the kernels' order. A device that does not compute leaves it out.
   * @throws CLOSED, and what the device fails with
   */
  nearest?(search: DeviceSearch): Promise<void>;
  /** Frees the rows. Safe to call twice. */
  close(): void;
}

/** As for the kernels; the outputs are whole when it settles, and until then `queries` is not changed. */
export type DeviceSearch = Pick<NearestArgs, 'queries' | 'metric' | 'rows' | 'scores'>;

/**
 * One batch's lookup, computed where the rows are: only the plan's ids and weights, r-wide rows, B, and pooled results cross
 * between host and device. With the letters of the plan:
 *
 *     E = Σ w W[id] + Σ over the deltas of s Ā B       Ā_b = Σ w A[id]
 *     G = s g Bᵀ      ∂L/∂A[j] = Σ over the places of j of w G[bag]      ∂L/∂B = s Āᵀ g
 *
 * The device sums in an order of its own, fixed by the plan: the same bytes every time on the same device, and within rounding
 * those of the kernels.
 */
export interface DeviceLookup {
  readonly plan: LookupPlan;
  /**
   * E (`[b, D]`), the caller's to dispose. Nothing waits: the arrays may be changed as soon as this returns.
   * @param weights `[n]`: those of the deltas, where they are not the plan's
   */
  adapt(deltas: readonly DeviceDelta[], weights?: Float32Array | null): DeviceMatrix;
  /**
   * Gradients of the deltas as they were last given to `adapt`, from ∂L/∂E.
   * @param gradient `[b, D]`, or parts of it on this device that fill it top to bottom
   * @param out one for each delta; overwritten when it settles
   */
  gradients(gradient: Matrix | readonly DeviceMatrix[], out: readonly DeviceGradients[]): Promise<void>;
  /** Frees what the lookup holds; matrices that it made stay. Safe to call twice. */
  dispose(): void;
}

/** What one group of an adapter adds to a lookup. */
export interface DeviceDelta {
  /** `[k] i32`, ascending: the unique rows of the plan that it has, as indices; null: all. */
  readonly members: Int32Array | null;
  /** `[k, r]`: A of these rows, 0 of one that was never touched. */
  readonly factors: Matrix;
  /** `[r, D]`; null: the identity, r = D. */
  readonly b: Matrix | null;
  readonly scale: number;
}

/** Where gradients of a delta go; null: not wanted. */
export interface DeviceGradients {
  /** `[k, r]`. */
  readonly rows: Matrix | null;
  /** `[r, D]`. */
  readonly b: Matrix | null;
}

/** A matrix in a device's memory. */
export interface DeviceMatrix {
  readonly rows: number;
  readonly cols: number;
  /** Copies it to `out`, `[rows, cols]`. */
  read(out: Matrix): Promise<void>;
  /** Rows `[first, first + count)`, to be disposed like the whole. */
  rowsOf(first: number, count: number): DeviceMatrix;
  /** Frees it. Safe to call twice. */
  dispose(): void;
}

/** What a package of devices exports for jobs. */
export interface DevicePackage {
  /**
   * The device that the package would choose here.
   * @param options.memoryBytes the most that tables may take with what else is there
   * @param options.software whether a driver that computes on the processor will do, where that has to be asked for
   * @throws UNSUPPORTED where there is none, with what to install
   */
  offerDevice(options: {
    readonly memoryBytes?: number | undefined;
    readonly software?: boolean | undefined;
  }): Promise<OfferedDevice>;
}

/** A package's device for jobs, and how it is spoken of. */
export interface OfferedDevice {
  readonly device: Device;
  /** Whether it is a GPU: one in the process's own memory is used only by tables that say so. */
  readonly gpu: boolean;
  /** What computes there, and where its capacity comes from. */
  readonly note: string;
  /** Where it is none: what computes instead of a GPU, and why. */
  readonly instead: string;
}
