/** Nearest rows of an adapted table. */
import { FinetableError, matrix, range, type Matrix } from '@finetable/core';
import type { RowStore, TouchedRows } from '@finetable/kernels';
import { nearestRows, type Nearest, type NearestOptions } from '@finetable/placement';
import type { Adapter } from './adapter.ts';
import type { RowGroup } from './group.ts';

/** Delta rows worked out at a time. */
const blockRows = 4096;

/** @param adapter its rows at the current step */
export async function nearestAdapted(
  adapter: Adapter,
  queries: Matrix,
  k: number,
  options: NearestOptions,
): Promise<Nearest> {
  const { table, groups } = adapter;
  const unsupported = (what: string): never => {
    throw new FinetableError('UNSUPPORTED', `${table.name}: nearest rows ${what}`, {
      table: table.name,
    });
  };
  if (!adapter.addsApart) unsupported('of an adapter with maxNorm are not searched; train without');
  const factors = adapter.columnFactors();
  if (factors && options.metric === 'cosine')
    unsupported('by cosine with dora; allowed: dot, or merge the adapter and search the merged table');
  let scaled = queries;
  if (factors && queries.cols === table.dim) {
    // q · (c ⊙ e) = (c ⊙ q) · e
    scaled = matrix(queries.rows, queries.cols, queries.data.slice());
    table.kernels.scaleColumns(scaled, factors);
  }
  const [only, ...others] = groups.filter((group) => group.untouched !== null || group.touchedRows > 0);
  if (!only) return nearestRows(table, scaled, k, options, null);
  if (others.length === 0 && !only.untouched) {
    return nearestRows(table, scaled, k, options, touchedRows(only));
  }
  const flat = flatten(groups);
  try {
    return await nearestRows(table, scaled, k, options, flat);
  } finally {
    flat.factors.close();
  }
}

function touchedRows({ slots: map, factors, b, scale }: RowGroup): TouchedRows {
  const rows = map.rows.slice().sort();
  const slots = new Int32Array(rows.length);
  map.find(rows, slots);
  return { rows, slots, factors, b, scale };
}

/** Several groups as one dense delta, D-wide for every row that any of them changes: of init `keras`, for every member. The store is the caller's. */
function flatten(groups: readonly RowGroup[]): TouchedRows & { readonly factors: RowStore } {
  const { kernels, dim } = groups[0]!.table;
  const changed = groups.map((group) => ({ group, rows: changedRows(group) }));
  const total = changed.reduce((sum, { rows }) => sum + rows.length, 0);
  const factors = kernels.createRows(Math.max(1, total), dim, 'f32');
  const rows = new Int32Array(total);
  let slot = 0;
  try {
    for (const { group, rows: own } of changed) {
      for (let at = 0; at < own.length; at += blockRows) {
        const block = own.subarray(at, at + blockRows);
        const first = slot;
        kernels.scatterRows(factors, range(block.length).map((i) => first + i), group.deltaOf(block)); // prettier-ignore
        rows.set(block, slot);
        slot += block.length;
      }
    }
  } catch (error) {
    factors.close();
    throw error;
  }
  const order = range(total).sort((x, y) => rows[x]! - rows[y]!);
  return { rows: order.map((i) => rows[i]!), slots: order, factors, b: null, scale: 1 };
}

/** Ascending. */
function changedRows({ untouched, members, slots }: RowGroup): Int32Array {
  if (!untouched) return slots.rows.slice().sort();
  const rows = new Int32Array(members.count);
  let at = 0;
  for (let i = 0; i < members.bounds.length; i += 2) {
    for (let row = members.bounds[i]!; row < members.bounds[i + 1]!; row++) rows[at++] = row;
  }
  return rows;
}
