/**
 * Second stage: expected seconds of a batch for tables in given places. A lookup is bound by memory, so the model counts
 * bytes: each distinct row of a batch is read once at random, in whole access units of its device; its repetitions stream.
 * Shards are read one after another.
 */
import { stateColumns } from '@finetable/kernels';
import { accessCurves, expectedRows, type Expected, type TableCurves } from './frequencies.ts';
import { rankOf, touchedRows } from './reserve.ts';
import {
  accessBytes,
  defaultBandwidths,
  storedRowBytes,
  warmUpBatches,
  type DeviceKind,
  type DeviceRequest,
  type TableRequest,
} from './types.ts';

export interface Device {
  readonly name: string;
  readonly kind: DeviceKind;
  readonly budgetBytes: number;
  readonly streaming: number;
  readonly randomRead: number;
  readonly link: number;
  readonly note: string;
}

export interface Table {
  readonly request: TableRequest;
  readonly lookups: number;
  readonly curves: TableCurves;
  readonly uniqueRows: number;
  readonly touchedRows: number;
  readonly rowBytes: number;
  /** Rows that a cache can come to know of: all by counts, else those of the batches that are counted. */
  readonly cacheableRows: number;
}

/** Where a range of rows and columns lies. */
export interface Part {
  readonly device: number;
  readonly firstRow: number;
  readonly rows: number;
  readonly firstColumn: number;
  readonly columns: number;
}

/** One table's place: parts that cover it, and rows of a cache in front of the only part. */
export interface Layout {
  readonly parts: readonly Part[];
  readonly cacheRows: number;
}

export function prepareDevice({ name, kind, budgetBytes, bandwidths = {}, note = '' }: DeviceRequest): Device {
  const { streaming, randomRead, link } = defaultBandwidths[kind];
  return {
    name,
    kind,
    budgetBytes,
    note,
    streaming: bandwidths.streaming ?? streaming,
    randomRead: bandwidths.randomRead ?? randomRead,
    link: bandwidths.link ?? link,
  };
}

export function prepareTable(request: TableRequest): Table {
  const lookups = request.bags * request.idsPerBag;
  const curves = accessCurves(request, lookups);
  return {
    request,
    lookups,
    curves,
    uniqueRows: curves.byRank.first(request.rows).distinct,
    touchedRows: touchedRows(request),
    rowBytes: storedRowBytes(request.dtype, request.dim, request.groupDims),
    cacheableRows:
      request.frequencies && 'counts' in request.frequencies
        ? request.rows
        : Math.ceil(expectedRows(request, warmUpBatches * lookups)),
  };
}

/** Of one row of `bytes`, read at random. */
export function rowSeconds({ kind, randomRead }: Device, bytes: number): number {
  const unit = accessBytes[kind];
  return (Math.ceil(bytes / unit) * unit) / randomRead;
}

/** As `rowSeconds`, with bringing the row here: a device that has not all rows of a table computes nothing of it. */
export const fetchSeconds = (device: Device, bytes: number): number => rowSeconds(device, bytes) + bytes / device.link;

export const partRowBytes = ({ request }: Table, columns: number): number =>
  storedRowBytes(request.dtype, columns, request.groupDims);

export function partExpected({ curves }: Table, { firstRow, rows }: Part): Expected {
  const [begin, end] = [curves.byRow.first(firstRow), curves.byRow.first(firstRow + rows)];
  return { share: end.share - begin.share, distinct: end.distinct - begin.distinct };
}

/** Of a part and of the cache in front of it. @param ram where caches lie */
export function partSeconds(
  table: Table,
  part: Part,
  cacheRows: number,
  devices: readonly Device[],
  ram: Device,
): number {
  const device = devices[part.device]!;
  const bytes = partRowBytes(table, part.columns);
  const { share, distinct } = partExpected(table, part);
  const cached = cacheRows === 0 ? 0 : table.curves.byRank.first(cacheRows).distinct;
  const { rows, dim, bags, adapter } = table.request;
  const computes = device.kind === 'gpu' && part.rows === rows && part.columns === dim && cacheRows === 0;
  // Pages of a mapped file are in RAM once they have been read, and so are rows that were brought here.
  const repeats = (Math.max(0, share * table.lookups - distinct) * bytes) / (computes ? device : ram).streaming;
  if (computes) {
    // Vectors go one way, their gradients the other.
    const transfer = ((adapter ? 2 : 1) * 4 * bags * dim) / device.link;
    return distinct * rowSeconds(device, bytes) + repeats + transfer;
  }
  return (distinct - cached) * fetchSeconds(device, bytes) + cached * rowSeconds(ram, bytes) + repeats;
}

/** The batch's vectors and gradients, and the adapter's rows with their state, each read and written: the same for every plan. */
function otherSeconds({ request, uniqueRows }: Table, ram: Device): number {
  const { adapter, bags, dim } = request;
  const vectors = (4 * bags * dim * (adapter ? 4 : 2)) / ram.streaming;
  if (!adapter) return vectors;
  const rank = rankOf(adapter, request);
  const { stateBytes = 4 } = adapter;
  const state = stateColumns(adapter.rule, rank).map((columns) => stateBytes * columns);
  const bytes = [4 * rank, ...state, ...(adapter.mode === 'exact' ? [4] : [])];
  return vectors + bytes.reduce((sum, n) => sum + 2 * uniqueRows * rowSeconds(ram, n), 0);
}

/**
 * Of copying rows out of the table's file. Cached rows lie anywhere in it: they are picked one by one, or out of a sweep over
 * the whole file where that is faster.
 */
export function layoutLoadSeconds(
  table: Table,
  { parts, cacheRows }: Layout,
  devices: readonly Device[],
  sourceBandwidth: number,
): number {
  return parts.reduce((sum, { device, rows, columns }) => {
    const sweep = (rows * partRowBytes(table, columns)) / sourceBandwidth;
    if (devices[device]!.kind !== 'mapped') return sum + sweep;
    return sum + Math.min(cacheRows * rowSeconds(devices[device]!, table.rowBytes), sweep);
  }, 0);
}

export function layoutSeconds(
  table: Table,
  { parts, cacheRows }: Layout,
  devices: readonly Device[],
  ram: Device,
): number {
  return parts.reduce((sum, part) => sum + partSeconds(table, part, cacheRows, devices, ram), otherSeconds(table, ram));
}
