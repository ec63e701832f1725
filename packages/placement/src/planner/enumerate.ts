/** First stage: the ways in which each table may be placed, as its constraints allow. How many rows go where comes later. */
import { FinetableError } from '@finetable/core';
import type { Device, Table } from './estimate.ts';

export type Option =
  /** Rows in order over these devices; the last takes what the others have no room for. */
  | { readonly kind: 'rows'; readonly chain: readonly number[] }
  /** All rows on one device, the most frequent ones in RAM too: where loading counts, only those that repay it one by one. */
  | { readonly kind: 'cache'; readonly device: number; readonly fill: 'pick' | 'sweep' }
  /** The first columns on one device, the others on the next. */
  | { readonly kind: 'columns'; readonly chain: readonly [number, number] }
  | { readonly kind: 'fixed'; readonly shards: readonly { readonly device: number; readonly rows: number }[] };

/**
 * Whole tables come first: of plans that take equally long, the first is chosen.
 * @param devices fastest first
 * @throws INVALID_ARGUMENT for constraints that name no device or other rows than the table has
 */
export function enumerateOptions(table: Table, devices: readonly Device[], caches: boolean): Option[] {
  const { request } = table;
  if (request.shards) return [{ kind: 'fixed', shards: fixedShards(table, devices) }];
  if (request.device !== undefined) return [{ kind: 'rows', chain: [deviceIndex(table, devices, request.device)] }];
  const indices =
    request.among?.map((name) => deviceIndex(table, devices, name)).sort((a, b) => a - b) ?? devices.map((_, i) => i);
  const options: Option[] = indices.map((device) => ({ kind: 'rows', chain: [device] }));
  if (request.split === 'column') {
    for (const first of indices)
      for (const second of indices) if (first < second) options.push({ kind: 'columns', chain: [first, second] });
  } else if (request.split !== 'table') {
    for (const chain of subsets(indices)) if (chain.length > 1) options.push({ kind: 'rows', chain });
  }
  // Where the first rows are the hot ones, rows in RAM need no second place.
  const inOrder = table.curves.byRow === table.curves.byRank && (request.split ?? 'row') === 'row';
  if (caches && !inOrder) {
    for (const device of indices) {
      if (devices[device]!.kind === 'ram') continue;
      options.push({ kind: 'cache', device, fill: 'sweep' });
      if (devices[device]!.kind === 'mapped') options.push({ kind: 'cache', device, fill: 'pick' });
    }
  }
  return options;
}

/** Every subset, each in ascending order. */
function subsets(indices: readonly number[]): number[][] {
  return indices.reduce<number[][]>((sets, index) => [...sets, ...sets.map((set) => [...set, index])], [[]]);
}

function deviceIndex({ request }: Table, devices: readonly Device[], name: string): number {
  const index = devices.findIndex((device) => device.name === name);
  if (index >= 0) return index;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `${request.name}: no device "${name}"; there are ${devices.map((device) => device.name).join(', ')}`,
    { table: request.name, device: name },
  );
}

function fixedShards(table: Table, devices: readonly Device[]): { device: number; rows: number }[] {
  const { name, rows: total, shards = [] } = table.request;
  let left = total;
  const found = shards.map(({ device, rows }, i) => {
    const count = rows ?? (i === shards.length - 1 ? left : 0);
    if (!Number.isSafeInteger(count) || count < 1) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${name}: shard ${i} has ${rows ?? 'no'} rows; allowed: a positive number, left out only for the last`,
        { table: name },
      );
    }
    left -= count;
    return { device: deviceIndex(table, devices, device), rows: count };
  });
  if (left !== 0) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${name}: the shards hold ${total - left} rows, the table has ${total}`,
      { table: name },
    );
  }
  return found;
}
