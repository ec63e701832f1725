/** How a table is cut into parts, and who holds them. */
import { FinetableError, formatBytes, storedRowBytes, type RowFormat } from '@finetable/core';
import type { FileRows, RowStore, TablePart } from '@finetable/kernels';
import type { Device, DeviceRows } from './device.ts';

/** `mapped`: read in place, opened at once whatever its size. `ram`: copied, in huge pages where the system has them. */
export type Home = 'ram' | 'mapped';

/**
 * A part of a table. A list of them fills the table top to bottom, then left to right: each takes the next `rows` rows of its
 * columns, and when those are full, the next one begins the next columns. So `[{ home, rows: 8 }, { home }]` cuts rows,
 * `[{ home, columns: 32 }, { home }]` cuts columns, and `[{ home, columns: 32, rows: 8 }, { home }, { home }]` both.
 */
export interface ShardSpec {
  readonly home: Home | Device;
  /** Default: all that are left of these columns. */
  readonly rows?: number | undefined;
  /**
   * Default: as the shard above, or, where there is none, all that are left. Those of `int4` begin on an even column, and those of
   * `int8` and `int4` where a scale's do, or lie within a scale's.
   */
  readonly columns?: number | undefined;
}

export interface PlacedPart extends TablePart {
  readonly home: Home | Device;
}

/** Part of an open table: in a store that the kernels read in place, or on a device. */
export type OpenPart = TablePart &
  ({ readonly store: RowStore } | { readonly device: DeviceRows; readonly name: string });

/** A part whose rows are on a device. */
export type DevicePart = Extract<OpenPart, { device: DeviceRows }>;

/** @throws INVALID_ARGUMENT naming the shard; OUT_OF_MEMORY where a device is too small */
export function placeParts(
  name: string,
  file: FileRows,
  placement: Home | Device | readonly ShardSpec[],
): PlacedPart[] {
  const { rows: total, dim, scales } = file;
  const format = { ...file, groupDims: scales?.groupDims ?? 0 };
  const specs = isList(placement) ? placement : [{ home: placement }];
  const parts: PlacedPart[] = [];
  let [firstColumn, columns, firstRow] = [0, 0, total];
  specs.forEach((spec, i) => {
    const refuse = (found: string, allowed: string): never => {
      throw new FinetableError('INVALID_ARGUMENT', `${name}: shard ${i} ${found}; allowed: ${allowed}`, {
        table: name,
        shard: i,
      });
    };
    checkHome(spec.home, refuse);
    if (firstRow < total) {
      if (spec.columns !== undefined && spec.columns !== columns)
        refuse(`has ${spec.columns} columns`, `${columns}, as the shard above it, or leave them out`);
    } else {
      firstColumn += columns;
      if (firstColumn === dim) refuse('has no rows', `no more shards: those before it hold all ${total} rows`);
      columns = spec.columns ?? dim - firstColumn;
      if (!isCount(columns, dim - firstColumn))
        refuse(`has ${columns} columns`, `1 to ${dim - firstColumn}, what the shards before it leave of ${dim}`);
      checkColumns(format, firstColumn, columns, refuse);
      firstRow = 0;
    }
    const rows = spec.rows ?? total - firstRow;
    if (!isCount(rows, total - firstRow))
      refuse(`has ${rows} rows`, `1 to ${total - firstRow}, what the shards above it leave of ${total}`);
    parts.push({ home: spec.home, firstRow, rows, firstColumn, columns });
    firstRow += rows;
  });
  if (firstRow < total || firstColumn + columns < dim) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      specs.length === 0
        ? `${name}: a table needs at least one shard`
        : firstRow < total
          ? `${name}: the shards hold ${firstRow} rows, the table has ${total}`
          : `${name}: the shards hold ${firstColumn + columns} columns, the table has ${dim}`,
      { table: name },
    );
  }
  checkCapacities(name, format, parts);
  return parts;
}

const isList = (placement: Home | Device | readonly ShardSpec[]): placement is readonly ShardSpec[] =>
  Array.isArray(placement);

const isCount = (value: number, limit: number): boolean => Number.isInteger(value) && value >= 1 && value <= limit;

function checkHome(home: Home | Device, refuse: (found: string, allowed: string) => never): void {
  const known = typeof home === 'string' ? home === 'ram' || home === 'mapped' : typeof home?.openRows === 'function';
  if (!known) refuse(`has home ${JSON.stringify(home)}`, 'ram, mapped, or a device');
}

function checkColumns(
  { dtype, groupDims }: RowFormat,
  first: number,
  columns: number,
  refuse: (found: string, allowed: string) => never,
): void {
  if (dtype === 'int4' && first % 2 !== 0)
    refuse(`begins at column ${first}`, 'an even column, since two int4 share a byte');
  if (groupDims === 0 || first % groupDims === 0) return;
  const end = Math.ceil(first / groupDims) * groupDims;
  if (first + columns > end)
    refuse(
      `has columns ${first} to ${first + columns - 1}`,
      `columns up to ${end - 1}, where a group with one scale ends`,
    );
}

function checkCapacities(name: string, format: RowFormat, parts: readonly PlacedPart[]): void {
  const needed = new Map<Device, number>();
  for (const { home, rows, columns } of parts) {
    if (typeof home === 'string') continue;
    const part = { ...format, dim: columns, groupDims: Math.min(format.groupDims, columns) };
    needed.set(home, (needed.get(home) ?? 0) + rows * storedRowBytes(part));
  }
  for (const [device, sizeBytes] of needed) {
    if (sizeBytes <= device.capacityBytes) continue;
    throw new FinetableError(
      'OUT_OF_MEMORY',
      `${name}: its shards on device "${device.name}" take ${formatBytes(sizeBytes)}; the device has ${formatBytes(device.capacityBytes)}`,
      { table: name, device: device.name, sizeBytes, capacityBytes: device.capacityBytes },
    );
  }
}

/** @param parts in order. @returns the rows of the table @throws INVALID_ARGUMENT where they leave a gap or overlap */
export function checkCovered(name: string, dim: number, parts: readonly OpenPart[]): number {
  const refuse = (found: string, allowed: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${name}: ${found}, must ${allowed}`, { table: name });
  };
  let [firstColumn, columns, rows, tableRows] = [0, 0, 0, -1];
  for (const part of parts) {
    if (part.firstColumn !== firstColumn || columns === 0) {
      if (columns > 0 && tableRows >= 0 && rows !== tableRows)
        refuse(`a column of shards has ${rows} rows`, `have ${tableRows}`);
      if (columns > 0) tableRows = rows;
      if (part.firstColumn !== firstColumn + columns)
        refuse(`a shard starts at column ${part.firstColumn}`, `start at ${firstColumn + columns}`);
      [firstColumn, columns, rows] = [part.firstColumn, part.columns, 0];
    }
    if (part.columns !== columns) refuse(`a shard has ${part.columns} columns`, `have ${columns}, as the one above it`);
    if (part.firstRow !== rows) refuse(`a shard starts at row ${part.firstRow}`, `start at ${rows}`);
    rows += part.rows;
  }
  if (tableRows >= 0 && rows !== tableRows) refuse(`a column of shards has ${rows} rows`, `have ${tableRows}`);
  if (firstColumn + columns !== dim) refuse(`the shards have ${firstColumn + columns} columns`, `have ${dim}`);
  return rows;
}
