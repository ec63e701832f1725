/**
 * The words of the planner: what goes in, what comes out, and every constant with its unit and origin.
 * Sizes are bytes, times seconds per batch, bandwidths bytes per second.
 */

import { storedRowBytes as bytesOf, type RowDtype } from '@finetable/core';
import type { UpdateRule } from '@finetable/kernels';

/** Bytes of one stored row, its scales included. @param groupDims int4 only; default: the row */
export function storedRowBytes(dtype: RowDtype, dim: number, groupDims: number = dim): number {
  return bytesOf({ dtype, dim, groupDims: dtype === 'int4' ? groupDims : dtype === 'int8' ? dim : 0 });
}

/** How often rows are looked up: the row of rank k in proportion to k^-zipf, or by a count for each row. */
export type Frequencies = { readonly zipf: number } | { readonly counts: ArrayLike<number> };

/** What an adapter needs, for the plan. */
export interface AdapterRequest {
  readonly kind: 'lora' | 'dense';
  /** Of a LoRA adapter. */
  readonly rank?: number | undefined;
  /** Rows that training will touch; default: expected from `trainingIds` and the frequencies, else all rows. */
  readonly touchedRows?: number | undefined;
  /** Ids of all training examples together, duplicates counted. */
  readonly trainingIds?: number | undefined;
  readonly rule: UpdateRule;
  /** Bytes of a number of its rows' state; default 4. */
  readonly stateBytes?: 2 | 4 | undefined;
  readonly mode: 'exact' | 'lazy';
}

/** A table to be placed. */
export interface TableRequest {
  readonly name: string;
  readonly rows: number;
  readonly dim: number;
  readonly dtype: RowDtype;
  /** Dims that share a scale; int4 only. */
  readonly groupDims?: number | undefined;
  /** A batch's bags over this table, and the mean number of ids in one. */
  readonly bags: number;
  readonly idsPerBag: number;
  /** Default: every row equally often. */
  readonly frequencies?: Frequencies | undefined;
  /** Row 0 is the most frequent, and so on: then the first rows may lie in the fastest place. Counts tell it themselves. */
  readonly sortedByFrequency?: boolean | undefined;
  readonly adapter?: AdapterRequest | undefined;
  /** The whole table on the device of this name. */
  readonly device?: string | undefined;
  /** The only devices that it may lie on; default: all. */
  readonly among?: readonly string[] | undefined;
  /** Row-wise shards as given, in order; only the last may leave `rows` out. */
  readonly shards?: readonly { readonly device: string; readonly rows?: number | undefined }[] | undefined;
  /** How the table may be divided over devices: by rows (default), not at all (`table`), or by columns. */
  readonly split?: 'row' | 'table' | 'column' | undefined;
}

/** What a device is: memory, a mapped file, or an accelerator. */
export type DeviceKind = 'ram' | 'mapped' | 'gpu';

/** Measured bytes a second. */
export interface Bandwidths {
  /** Bytes in order. */
  readonly streaming?: number | undefined;
  /** Whole access units (see `accessBytes`) in random order. */
  readonly randomRead?: number | undefined;
  /** Between a GPU and RAM. */
  readonly link?: number | undefined;
}

/** A device and its budget. */
export interface DeviceRequest {
  readonly name: string;
  readonly kind: DeviceKind;
  /** Bytes that may be in use; a mapped file's pages belong to the system, so its budget is usually Infinity. */
  readonly budgetBytes: number;
  /** Measured ones; default `defaultBandwidths`. */
  readonly bandwidths?: Bandwidths | undefined;
  /** What it has room for now, whatever is allowed: no larger budget is a remedy. */
  readonly freeBytes?: number | undefined;
  /** Where the budget comes from, for errors. */
  readonly note?: string | undefined;
}

/** All that {@link planPlacement} needs to know. */
export interface PlanRequest {
  readonly tables: readonly TableRequest[];
  /** At least one of kind `ram`; the first such holds all working memory. */
  readonly devices: readonly DeviceRequest[];
  /** Loader threads and the batches that are made ahead; defaults 0 and 1. */
  readonly workers?: number | undefined;
  readonly prefetchBatches?: number | undefined;
  /** Of the batches that are made ahead; default: not bounded. */
  readonly prefetchBytes?: number | undefined;
  /** Batches that a thread makes before it is known how large they are; default 1. */
  readonly taskBatches?: number | undefined;
  /** Other memory to reserve, by what it is for. */
  readonly otherBytes?: Readonly<Record<string, number>> | undefined;
  /** Steps over which the time of loading rows into RAM is spread; default: so many that it does not matter. */
  readonly steps?: number | undefined;
  /** Most RAM for hot-row caches; default: what is left. 0: no caches. */
  readonly cacheBytes?: number | undefined;
}

/** Rows in RAM that are read there instead of in the shard behind them: the shard's most frequent ones. */
export interface PlannedCache {
  readonly device: string;
  readonly rows: number;
  readonly bytes: number;
  /** Share of the table's lookups that it serves. */
  readonly hitRate: number;
}

/** A part of a table, and where it is planned to lie. */
export interface PlannedShard {
  readonly device: string;
  readonly firstRow: number;
  readonly rows: number;
  readonly firstColumn: number;
  readonly columns: number;
  readonly bytes: number;
  /** Expected share of the table's lookups that it serves, its cache aside. */
  readonly hitRate: number;
  /** Expected for a batch, its cache included. */
  readonly seconds: number;
  readonly cache: PlannedCache | null;
}

/** A table as it is planned to lie. */
export interface PlannedTable {
  readonly name: string;
  readonly rows: number;
  readonly dim: number;
  readonly dtype: RowDtype;
  readonly bytes: number;
  /** Of a batch: ids, and the distinct rows expected among them. */
  readonly lookups: number;
  readonly uniqueRows: number;
  /** Rows that the adapter is expected to hold; 0 without one. */
  readonly touchedRows: number;
  readonly shards: readonly PlannedShard[];
  /** Shards, and the adapter's rows with their optimiser state. */
  readonly seconds: number;
}

/** What a plan has on a device. */
export interface DeviceTotal {
  readonly name: string;
  readonly kind: DeviceKind;
  /** null: without a limit. */
  readonly budgetBytes: number | null;
  readonly tableBytes: number;
  readonly cacheBytes: number;
  readonly reservedBytes: number;
  readonly usedBytes: number;
  readonly note: string;
}

/** Plain data. */
export interface PlacementPlan {
  readonly tables: readonly PlannedTable[];
  readonly devices: readonly DeviceTotal[];
  /** Working memory in RAM by what it is for. */
  readonly reserved: Readonly<Record<string, number>>;
  /** Expected time of a step's memory traffic over all tables; arithmetic and the objective are not in it. */
  readonly stepSeconds: number;
  /** Expected time of copying the rows that do not stay in their files. */
  readonly loadSeconds: number;
}

/**
 * Bytes per second, of typical hardware of 2024; measured ones are better. RAM: two channels of DDR4-3200, one thread,
 * prefetching. Mapped: an NVMe drive; random 4 KiB pages fault one after another (about 80 µs each, two threads). GPU: device
 * memory of a data-centre card, PCIe 4.0 x16.
 */
export const defaultBandwidths: Readonly<Record<DeviceKind, { streaming: number; randomRead: number; link: number }>> =
  {
    ram: { streaming: 12e9, randomRead: 6e9, link: Infinity },
    mapped: { streaming: 2e9, randomRead: 100e6, link: Infinity },
    gpu: { streaming: 1000e9, randomRead: 400e9, link: 20e9 },
  };

/** Bytes that one random read moves at least: a cache line, a page, a GPU's memory sector. */
export const accessBytes: Readonly<Record<DeviceKind, number>> = { ram: 64, mapped: 4096, gpu: 32 };

/** Bytes a cached row costs beside its values: its entry in a hash table of 8 bytes an entry, 0.35 to 0.7 full. */
export const cacheEntryBytes = 16;

/** Lookups whose rows are counted before a cache without counts is filled; of `HotRowCache`. */
export const warmUpBatches = 64;

/** Bytes of the process before any table. Origin: a job over 1,000 rows without loader threads peaked at 91 MiB. */
export const processBytes = 96 * 2 ** 20;

/** Bytes of one loader thread before any batch. Origin: each added 12 to 20 MiB to the same job's peak; more where lines are long. */
export const workerBytes = 32 * 2 ** 20;

/** Columns are divided at multiples of a cache line of f32 values, so that no line is read twice. */
export const columnStep = 16;
