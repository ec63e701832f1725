/**
 * Last stage: how many rows go where. Devices are filled from the fastest on; where several tables want the same room, the
 * rows that save the most time a byte come first, which is the best possible but for the last row that has no room.
 */
import type { Option } from './enumerate.ts';
import {
  layoutLoadSeconds,
  layoutSeconds,
  fetchSeconds,
  partRowBytes,
  type Device,
  type Layout,
  type Part,
  type Table,
} from './estimate.ts';
import type { AccessCurve } from './frequencies.ts';
import { cacheEntryBytes, columnStep } from './types.ts';

export interface Problem {
  readonly tables: readonly Table[];
  /** Fastest first. */
  readonly devices: readonly Device[];
  /** Index of the device with working memory and caches. */
  readonly ram: number;
  readonly reservedBytes: number;
  readonly cacheBytes: number;
  /** Bytes per second in which rows come out of the tables' files. */
  readonly sourceBandwidth: number;
  /** That the time of loading is spread over. */
  readonly steps: number;
}

export interface Candidate {
  readonly layouts: readonly Layout[];
  /** By device. */
  readonly usedBytes: readonly number[];
  /** Bytes over the budgets; 0 where the plan fits. */
  readonly shortBytes: number;
  /** Of a step. */
  readonly seconds: number;
  readonly loadSeconds: number;
  /** A step with its share of the loading: what plans are compared by. */
  readonly cost: number;
}

/** Rows of a table that would be read faster here than where they would lie otherwise. */
interface Claim {
  readonly table: number;
  readonly cache: boolean;
  readonly curve: AccessCurve;
  /** Rows before these have a better place already. */
  readonly firstRow: number;
  readonly bytesPerRow: number;
  readonly mostRows: number;
  /** Of fetching one row out of the file; 0 where it comes along anyway. */
  readonly loadSeconds: number;
  /** Saved for each distinct row of a batch. */
  readonly seconds: number;
}

/** Fills the devices with the tables, each placed by its option. */
export function partition(problem: Problem, options: readonly Option[]): Candidate {
  const { tables, devices, ram } = problem;
  const used = devices.map((_, d) => (d === ram ? problem.reservedBytes : 0));
  const parts: Part[][] = tables.map(() => []);
  const placed = tables.map(() => 0);
  const cacheRows = tables.map(() => 0);

  const place = (t: number, device: number, rows: number): void => {
    if (rows === 0) return;
    const { rowBytes, request } = tables[t]!;
    parts[t]!.push({ device, firstRow: placed[t]!, rows, firstColumn: 0, columns: request.dim });
    placed[t]! += rows;
    used[device]! += rows * rowBytes;
  };

  options.forEach((option, t) => {
    if (option.kind === 'fixed') for (const { device, rows } of option.shards) place(t, device, rows);
  });
  for (const [d, device] of devices.entries()) {
    options.forEach((option, t) => {
      const last = option.kind === 'rows' ? option.chain.at(-1) : option.kind === 'cache' ? option.device : -1;
      if (last === d) place(t, d, tables[t]!.request.rows - placed[t]!);
    });
    options.forEach((option, t) => {
      if (option.kind !== 'columns' || option.chain[0] !== d) return;
      parts[t] = columnParts(tables[t]!, option.chain, device.budgetBytes - used[d]!);
      for (const { device, rows, columns } of parts[t]!) used[device]! += rows * partRowBytes(tables[t]!, columns);
    });
    const claims = options.flatMap((option, t) => claimOf(option, t, d, problem, placed[t]!));
    const rows = share(claims, device.budgetBytes - used[d]!, problem);
    claims.forEach(({ table, cache, bytesPerRow }, i) => {
      if (!cache) return place(table, d, rows[i]!);
      cacheRows[table] = rows[i]!;
      used[d]! += rows[i]! * bytesPerRow;
    });
  }
  const layouts = tables.map((_, t) => ({ parts: parts[t]!, cacheRows: cacheRows[t]! }));
  const loadSeconds = layouts.reduce(
    (sum, layout, t) => sum + layoutLoadSeconds(tables[t]!, layout, devices, problem.sourceBandwidth),
    0,
  );
  const seconds = layouts.reduce(
    (sum, layout, t) => sum + layoutSeconds(tables[t]!, layout, devices, devices[ram]!),
    0,
  );
  return {
    layouts,
    usedBytes: used,
    shortBytes: used.reduce((sum, bytes, d) => sum + Math.max(0, bytes - devices[d]!.budgetBytes), 0),
    seconds,
    loadSeconds,
    cost: seconds + loadSeconds / problem.steps,
  };
}

/** What an option wants of the room that is left on device `d`. */
function claimOf(option: Option, t: number, d: number, problem: Problem, firstRow: number): Claim[] {
  const { tables, devices, ram, sourceBandwidth } = problem;
  const { curves, rowBytes } = tables[t]!;
  const own = fetchSeconds(devices[d]!, rowBytes);
  if (option.kind === 'cache' && d === ram) {
    const behind = fetchSeconds(devices[option.device]!, rowBytes);
    const bytesPerRow = rowBytes + cacheEntryBytes;
    const loadSeconds = option.fill === 'pick' ? behind : 0;
    const seconds = behind - own;
    const { cacheableRows: mostRows } = tables[t]!;
    return [{ table: t, cache: true, curve: curves.byRank, firstRow: 0, bytesPerRow, mostRows, seconds, loadSeconds }];
  }
  if (option.kind !== 'rows' || !option.chain.includes(d) || option.chain.at(-1) === d) return [];
  const next = option.chain[option.chain.indexOf(d) + 1]!;
  const seconds = fetchSeconds(devices[next]!, rowBytes) - own;
  const loadSeconds = devices[next]!.kind === 'mapped' ? rowBytes / sourceBandwidth : 0;
  const rows = { curve: curves.byRow, firstRow, bytesPerRow: rowBytes, mostRows: Infinity };
  return [{ table: t, cache: false, ...rows, seconds, loadSeconds }];
}

/** Rows for each claim out of `room` bytes, caches out of `cacheRoom` of them: the most seconds a byte first. */
function share(claims: readonly Claim[], room: number, { cacheBytes, steps }: Problem): number[] {
  let cacheRoom = cacheBytes;
  const blocks = claims.flatMap(({ curve, firstRow, bytesPerRow, seconds, loadSeconds }, claim) => {
    const [first, last] = [curve.bounds[0]!, curve.bounds.at(-1)!];
    // Rows in no order of frequency are taken in order all the same: they count by their mean.
    const bounds = curve.hotFirst ? curve.bounds : [first, last];
    const ends = bounds.filter((bound) => bound > firstRow);
    return ends.map((end, i) => {
      const begin = i === 0 ? firstRow : ends[i - 1]!;
      const distinct = curve.first(end).distinct - curve.first(begin).distinct;
      const rows = end - begin;
      return { claim, rows, value: (distinct * seconds - (rows * loadSeconds) / steps) / (rows * bytesPerRow) };
    });
  });
  const rows = claims.map(() => 0);
  for (const { claim, rows: most, value } of blocks.sort((a, b) => b.value - a.value)) {
    if (value <= 0) break;
    const { cache, bytesPerRow, mostRows } = claims[claim]!;
    const bytes = cache ? Math.min(room, cacheRoom) : room;
    const count = Math.max(0, Math.min(most, mostRows - rows[claim]!, Math.floor(bytes / bytesPerRow)));
    rows[claim]! += count;
    room -= count * bytesPerRow;
    if (cache) cacheRoom -= count * bytesPerRow;
  }
  return rows;
}

/** As many columns on the first device as `room` bytes hold, the others on the second. */
function columnParts(table: Table, [first, second]: readonly [number, number], room: number): Part[] {
  const { rows, dim, dtype, groupDims = columnStep } = table.request;
  const step = dtype === 'int4' ? Math.max(groupDims, columnStep) : columnStep;
  let columns = 0;
  while (columns < dim && rows * partRowBytes(table, Math.min(dim, columns + step)) <= room) {
    columns = Math.min(dim, columns + step);
  }
  const whole = { firstRow: 0, rows };
  return [
    { ...whole, device: first, firstColumn: 0, columns },
    { ...whole, device: second, firstColumn: columns, columns: dim - columns },
  ].filter((part) => part.columns > 0);
}
