// The fused lookup against what memory gives at best.
import { matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { loadLimits, readerOf, variants } from './limits.mjs';
import { takeTurns } from './measure.mjs';
import { deltaOf, makeAdapter, makeBatches, makeTable, million, rank } from './tables.mjs';

export const V = 4 * million;
export const rounds = 100;
// 16 batches of 20 MiB each at D = 64: by the time one comes again, caches have forgotten its rows.
export const pooled = { count: 16, bags: 4096, perBag: 20 };
export const about = `V = 4M (2^22) rows in RAM, r = ${rank}, uniform ids, ${pooled.bags} bags of ${pooled.perBag}, ${pooled.count} batches in turn.`;

/** Adapters whose A fits in cache, as after a short run, and whose A does not, as after a long one; then none at all. */
export const states = [
  { name: '100k rows touched', touched: 100_000 },
  { name: 'every row touched', touched: V },
];
export const baseOnly = { name: 'base only', touched: 0 };

/** Looks up round i's batch; outputs and slots are ready. */
export function lookups(kernels, table, batches, adapter) {
  const out = matrix(batches[0].plan.offsets.length - 1, table.dim);
  const args = batches.map(({ plan }) => ({
    base: table.shards,
    plan,
    out,
    delta: adapter ? deltaOf(adapter, plan) : null,
  }));
  return (round) => kernels.lookup(args[round % args.length]);
}

export async function measureLookups(report) {
  report.section(
    'Fused LoRA lookup against reading the same cache lines',
    `f32, ${about} One thread. The bare loop reads the rows of the base and the touched rows of A, in the same order, and adds nothing up that anybody uses; it is the fastest of ${variants.length} ways on this machine, named in each row.`,
  );
  const limits = await loadLimits();
  if (limits.missing) {
    report.missing('fused LoRA lookup', 'the random-read limit', limits.missing);
    return;
  }
  for (const dim of [64, 128]) await measureDim(report, limits, dim);
}

async function measureDim(report, limits, dim) {
  const kernels = loadKernels({ threads: 1 });
  const table = makeTable(kernels, V, dim);
  const batches = makeBatches(V, pooled);
  const regions = { rows: limits.allocate(table.sizeBytes), factors: limits.allocate(V * rank * 4) };
  for (const { name, touched } of [...states, baseOnly]) {
    const what = `D = ${dim}, ${name}`;
    const adapter = touched > 0 ? makeAdapter(table, touched) : null;
    const limit = await readerOf(limits, regions, dim * 4, batches, adapter);
    const [ours, bare] = await takeTurns([lookups(kernels, table, batches, adapter), limit.read], { rounds });
    const goal = adapter ? { atLeast: 0.9 } : undefined;
    report.speedRatio(what, `the random-read limit (${limit.name})`, ours, bare, goal);
    if (adapter) {
      const out = matrix(pooled.bags, dim);
      const whole = (round) => adapter.lookup(batches[round % batches.length].plan, out);
      const [found, again] = await takeTurns([whole, limit.read], { rounds });
      report.speedRatio(`${what}, finding the slots included`, 'the random-read limit', found, again);
    }
    adapter?.close();
  }
  for (const region of Object.values(regions)) limits.release(region);
  table.close();
}
