// The fused lookup over bases of every dtype, on the native and on the portable kernels.
import { kernelsStatus, loadKernels } from '@finetable/kernels';
import { about, lookups, pooled, rounds, states, V } from './lookup.mjs';
import { takeTurns } from './measure.mjs';
import { makeAdapter, makeBatches, makeTable, million, rank } from './tables.mjs';

export async function measureDtypes(report) {
  const kernels = loadKernels({ threads: 1 });
  const table = makeTable(kernels, V, 64);
  const batches = makeBatches(V, pooled);
  report.section(
    'Fused LoRA lookup: dtypes of the base',
    `D = 64, ${about} 100k rows touched, one thread. Rows a second.`,
  );
  const adapter = makeAdapter(table, states[0].touched);
  const f32 = lookups(kernels, table, batches, adapter);
  for (const dtype of ['f16', 'bf16', 'int8', 'int4']) {
    const coded = makeTable(kernels, V, 64, dtype);
    const [ours, reference] = await takeTurns([lookups(kernels, coded, batches, adapter), f32], { rounds });
    report.speedRatio(`${dtype} base`, 'f32 base', ours, reference, dtype === 'int8' ? { atLeast: 1.5 } : undefined);
    coded.close();
  }
  adapter.close();
  table.close();
}

export async function measurePortable(report) {
  if (!kernelsStatus().native) return; // nothing to compare them with
  const native = loadKernels({ kind: 'native', threads: 1 });
  const portable = loadKernels({ kind: 'portable', threads: 1 });
  const batches = makeBatches(million, { ...pooled, count: 8 });
  report.section(
    'Portable kernels',
    `The fused lookup, one thread, V = 1M, D = 64, r = ${rank}, 100k rows touched, bags of ${pooled.perBag}.`,
  );
  for (const dtype of ['f32', 'f16', 'bf16', 'int8', 'int4']) {
    const tables = [portable, native].map((kernels) => makeTable(kernels, million, 64, dtype));
    const adapters = tables.map((table) => makeAdapter(table, states[0].touched));
    const subjects = tables.map((table, i) => lookups(table.kernels, table, batches, adapters[i]));
    const [slow, fast] = await takeTurns(subjects, { rounds: 25, warmUp: 8 });
    report.timeRatio(`portable, ${dtype}`, 'native', slow, fast, { atMost: 12 });
    for (const it of [...adapters, ...tables]) it.close();
  }
}
