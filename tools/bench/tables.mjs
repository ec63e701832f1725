// Tables, batches and adapters to measure with. Nothing here is timed.
import { makePlan, matrix, permutation, RandomStream } from '@finetable/core';
import { createAdapter } from '@finetable/lora';
import { ShardedTable } from '@finetable/placement';

export const million = 2 ** 20;
export const rank = 8;

const blockRows = 2 ** 14;

/** Writes values into every row, so that every page is really there. */
function fill(kernels, store, deviation) {
  const values = matrix(Math.min(blockRows, store.rows), store.dim);
  new RandomStream(1, 'values').fillNormal(values.data, deviation);
  for (let first = 0; first < store.rows; first += values.rows) {
    const rows = Int32Array.from({ length: Math.min(values.rows, store.rows - first) }, (_, i) => first + i);
    kernels.scatterRows(store, rows, matrix(rows.length, store.dim, values.data.subarray(0, rows.length * store.dim)));
  }
}

export function makeTable(kernels, rows, dim, dtype = 'f32') {
  const store = kernels.createRows(rows, dim, dtype);
  fill(kernels, store, 0.1);
  return new ShardedTable(`${dtype} ${rows} x ${dim}`, [{ store, firstRow: 0 }], kernels);
}

/** Uniform ids in bags of one size, and their plans as a loader worker makes them. */
export function makeBatches(tableRows, { count, bags, perBag, below = tableRows, seed = 2 }) {
  const random = new RandomStream(seed, 'ids');
  const offsets = Int32Array.from({ length: bags + 1 }, (_, i) => i * perBag);
  const places = bags * perBag;
  return Array.from({ length: count }, (_, batch) => {
    const ids = Int32Array.from({ length: places }, (_, i) => random.below(batch * places + i, below));
    return { ids, plan: makePlan({ values: ids, offsets }, tableRows) };
  });
}

/** An adapter that has touched `touched` rows anywhere in the table, in no order. */
export function makeAdapter(table, touched) {
  return withRows(table, Int32Array.from(permutation(table.rows, 4, 'touched').subarray(0, touched)));
}

/** An adapter that has touched these rows. */
export function withRows(table, rows) {
  const touched = rows.length;
  const adapter = createAdapter(table, { rank, alpha: 16 });
  const [group] = adapter.groups;
  group.reset(rows);
  const values = matrix(Math.min(blockRows, touched), rank);
  new RandomStream(5, 'factors').fillNormal(values.data, 0.01);
  for (let first = 0; first < touched; first += values.rows) {
    const slots = Int32Array.from({ length: Math.min(values.rows, touched - first) }, (_, i) => first + i);
    table.kernels.scatterRows(
      group.factors,
      slots,
      matrix(slots.length, rank, values.data.subarray(0, slots.length * rank)),
    );
  }
  return adapter;
}

/** The adapter's delta for a plan, its slots found already. */
export function deltaOf({ groups: [group] }, plan) {
  const { slots, ...delta } = group.delta(plan, 0);
  return { ...delta, slots: slots.slice() };
}

/** All that an adapter has touched, as a search over every row wants it. */
export function touchedRows({ groups: [group] }) {
  const { factors, b, scale } = group;
  const rows = Int32Array.from(group.slots.rows).sort();
  const slots = new Int32Array(rows.length);
  group.slots.find(rows, slots);
  return { factors, b, scale, rows, slots };
}
