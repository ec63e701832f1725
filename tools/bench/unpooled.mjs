// The fused lookup of sequences, where nothing is pooled, against copying rows of the base.
import { matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { baseOnly, lookups, pooled, rounds, states, V } from './lookup.mjs';
import { takeTurns } from './measure.mjs';
import { makeAdapter, makeBatches, makeTable } from './tables.mjs';

const unpooled = { count: pooled.count, bags: pooled.bags * pooled.perBag, perBag: 1 };

export async function measureUnpooled(report) {
  const kernels = loadKernels({ threads: 1 });
  const table = makeTable(kernels, V, 64);
  report.section(
    'Fused LoRA lookup without pooling',
    `f32, D = 64, V = 4M, ${unpooled.bags} uniform ids in bags of 1, one thread.`,
  );
  const batches = makeBatches(V, unpooled);
  const rows = matrix(unpooled.bags, 64);
  const gather = (round) => kernels.gatherRows(table.shards[0].store, batches[round % batches.length].ids, rows);
  for (const { name, touched } of [...states, baseOnly]) {
    const adapter = touched > 0 ? makeAdapter(table, touched) : null;
    const [ours, plain] = await takeTurns([lookups(kernels, table, batches, adapter), gather], { rounds });
    report.speedRatio(
      `bags of 1, ${name}`,
      'gatherRows of the base',
      ours,
      plain,
      touched > 0 ? { atLeast: 0.75 } : undefined,
    );
    adapter?.close();
  }
  table.close();
}
