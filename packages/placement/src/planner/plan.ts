/**
 * Where tables shall lie: the plan with the smallest expected step time (where the number of steps is known, with its share
 * of the loading) that every device has room for, working memory included. Pure: nothing is read, opened or reserved. In stages, after TorchRec's planner: enumerate the ways in which
 * each table may be placed, estimate what a placement costs, propose combinations, partition the devices among them.
 */
import { FinetableError } from '@finetable/core';
import { enumerateOptions } from './enumerate.ts';
import {
  layoutSeconds,
  partExpected,
  partRowBytes,
  partSeconds,
  prepareDevice,
  prepareTable,
  type Layout,
  type Table,
} from './estimate.ts';
import { partition, type Candidate, type Problem } from './partition.ts';
import { search } from './propose.ts';
import { doesNotFit } from './remedies.ts';
import { reservedBytes } from './reserve.ts';
import {
  cacheEntryBytes,
  defaultBandwidths,
  warmUpBatches,
  type DeviceTotal,
  type PlacementPlan,
  type PlannedShard,
  type PlannedTable,
  type PlanRequest,
} from './types.ts';

/**
 * @throws DOES_NOT_FIT naming what is short on which device, with remedies that were planned and do fit;
 *   INVALID_ARGUMENT for sizes, frequencies and constraints that make no sense
 */
export function planPlacement(request: PlanRequest): PlacementPlan {
  // Objects of our own: what is known about frequencies is kept by them, and a caller may count on in his.
  const tables = request.tables.map(({ frequencies, ...table }) => ({
    ...table,
    frequencies: frequencies && { ...frequencies },
  }));
  const own = { ...request, tables };
  const { plan, shortBytes } = bestPlan(own);
  if (shortBytes > 0) throw doesNotFit(own, plan, bestPlan);
  return plan;
}

/** The best plan, and the bytes by which it misses the budgets all the same. */
export interface Attempt {
  readonly plan: PlacementPlan;
  readonly shortBytes: number;
}

function bestPlan(request: PlanRequest): Attempt {
  checkRequest(request);
  const devices = request.devices.map(prepareDevice).sort((a, b) => b.randomRead - a.randomRead);
  const tables = request.tables.map(prepareTable);
  const reserved = reservedBytes(
    request,
    tables.map(({ uniqueRows }) => uniqueRows),
  );
  const cacheBytes = request.cacheBytes ?? Infinity;
  const ramName = request.devices.find(({ kind }) => kind === 'ram')!.name;
  // Rows come from files, whether or not one is among the devices.
  const source = devices.find(({ kind }) => kind === 'mapped')?.streaming ?? defaultBandwidths.mapped.streaming;
  const problem: Problem = {
    tables,
    devices,
    ram: devices.findIndex(({ name }) => name === ramName),
    reservedBytes: Object.values(reserved).reduce((sum, bytes) => sum + bytes, 0),
    cacheBytes,
    sourceBandwidth: source,
    steps: request.steps ?? Infinity,
  };
  const options = tables.map((table) => {
    const counted = table.request.frequencies && 'counts' in table.request.frequencies;
    const caches = cacheBytes > 0 && (counted || problem.steps > warmUpBatches);
    return enumerateOptions(table, devices, caches);
  });
  const best = search(options, (proposal) => partition(problem, proposal));
  return { plan: describe(problem, best, reserved), shortBytes: best.shortBytes };
}

function describe(problem: Problem, best: Candidate, reserved: Record<string, number>): PlacementPlan {
  const { devices, ram } = problem;
  const tables = problem.tables.map((table, t) => describeTable(table, best.layouts[t]!, problem));
  const totals = devices.map(({ name, kind, budgetBytes, note }, d): DeviceTotal => {
    const shards = tables.flatMap((table) => table.shards);
    const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
    return {
      name,
      kind,
      budgetBytes: budgetBytes === Infinity ? null : budgetBytes,
      tableBytes: sum(shards.filter(({ device }) => device === name).map(({ bytes }) => bytes)),
      cacheBytes: sum(shards.map(({ cache }) => (cache?.device === name ? cache.bytes : 0))),
      reservedBytes: d === ram ? problem.reservedBytes : 0,
      usedBytes: best.usedBytes[d]!,
      note,
    };
  });
  return {
    tables,
    devices: totals,
    reserved,
    stepSeconds: best.seconds,
    loadSeconds: best.loadSeconds,
  };
}

function describeTable(table: Table, layout: Layout, { devices, ram }: Problem): PlannedTable {
  const { request, lookups, uniqueRows, touchedRows, rowBytes, curves } = table;
  const { name, rows, dim, dtype } = request;
  const { parts, cacheRows } = layout;
  const cacheHits = curves.byRank.first(cacheRows).share;
  const shards = parts.map(({ device, ...range }): PlannedShard => ({
    device: devices[device]!.name,
    ...range,
    bytes: range.rows * partRowBytes(table, range.columns),
    hitRate: partExpected(table, { device, ...range }).share - cacheHits,
    seconds: partSeconds(table, { device, ...range }, cacheRows, devices, devices[ram]!),
    cache:
      cacheRows === 0
        ? null
        : {
            device: devices[ram]!.name,
            rows: cacheRows,
            bytes: cacheRows * (rowBytes + cacheEntryBytes),
            hitRate: cacheHits,
          },
  }));
  const seconds = layoutSeconds(table, layout, devices, devices[ram]!);
  return { name, rows, dim, dtype, bytes: rows * rowBytes, lookups, uniqueRows, touchedRows, shards, seconds };
}

function checkRequest({ tables, devices }: PlanRequest): void {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', message);
  };
  if (!devices.some(({ kind }) => kind === 'ram')) refuse('devices: none of kind "ram", which working memory needs');
  for (const [what, names] of [
    ['device', devices.map(({ name }) => name)],
    ['table', tables.map(({ name }) => name)],
  ] as const) {
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) refuse(`${what} "${twice}" comes twice`);
  }
  for (const { name, budgetBytes, bandwidths = {} } of devices) {
    if (!(budgetBytes >= 0)) refuse(`${name}: a budget of ${budgetBytes} bytes; allowed: 0 or more`);
    for (const [field, value] of Object.entries(bandwidths)) {
      if (value !== undefined && !(value > 0)) refuse(`${name}: ${field} ${value}; allowed: bytes per second above 0`);
    }
  }
  for (const { name, rows, dim, bags, idsPerBag, groupDims = 1, adapter } of tables) {
    const rank = adapter?.kind === 'lora' ? (adapter.rank ?? NaN) : 1;
    for (const [field, value] of Object.entries({ rows, dim, bags, groupDims, rank })) {
      if (!Number.isSafeInteger(value) || value < 1) refuse(`${name}: ${field} ${value}; allowed: 1, 2, 3 …`);
    }
    const { touchedRows = 0, trainingIds = 0 } = adapter ?? {};
    for (const [field, value] of Object.entries({ idsPerBag, touchedRows, trainingIds })) {
      if (!(value >= 0 && value < Infinity)) refuse(`${name}: ${field} ${value}; allowed: 0 or more`);
    }
  }
}
