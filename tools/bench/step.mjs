// What a training step costs as the table grows, and what adapter and optimiser hold as rows are touched.
// A step: lookup with the delta, gradients of A and B, AdamW. 4,096 unpooled random ids, D = 64, r = 8, f32.
import { cpus } from 'node:os';
import { makePlan, matrix, RandomStream, formatBytes } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { adamw, createAdapter } from '@finetable/lora';
import { ShardedTable } from '@finetable/placement';

const D = 64;
const rank = 8;
const idsPerStep = 4096;
const warmUp = 20;
const steps = 200;
const million = 2 ** 20;

const kernels = loadKernels();
console.log(`${cpus()[0].model}, Node ${process.version}, kernels: ${kernels.description}\n`);

/** A table in RAM whose every page is really there. */
function makeTable(rows) {
  const store = kernels.createRows(rows, D, 'f32');
  const block = new Float32Array(2 ** 20);
  new RandomStream(1, 'table').fillNormal(block, 0.1);
  const bytes = new Uint8Array(block.buffer);
  for (let at = 0; at < store.sizeBytes; at += bytes.length)
    kernels.writeBytes(store, at, bytes.subarray(0, Math.min(bytes.length, store.sizeBytes - at)));
  return new ShardedTable(`${rows / million}M`, [{ store, firstRow: 0 }], kernels);
}

/** Plans as a loader worker would make them; not part of a step. */
function makePlans(tableRows, below, count) {
  const random = new RandomStream(2, 'ids');
  const offsets = Int32Array.from({ length: idsPerStep + 1 }, (_, i) => i);
  return Array.from({ length: count }, (_, step) => {
    const values = Int32Array.from({ length: idsPerStep }, (_, i) => random.below(step * idsPerStep + i, below));
    return makePlan({ values, offsets }, tableRows);
  });
}

const gradient = matrix(idsPerStep, D);
new RandomStream(3, 'gradient').fillNormal(gradient.data, 1e-3);
const out = matrix(idsPerStep, D);

function subject(table, below, mode) {
  const adapter = createAdapter(table, { rank, alpha: 16 });
  adapter.startTraining(adamw({ learningRate: 1e-3, mode }));
  const plans = makePlans(table.rows, below, warmUp + steps);
  return {
    adapter,
    step: (i) => {
      const begun = performance.now();
      adapter.lookup(plans[i], out, true);
      adapter.update(plans[i], adapter.gradients(plans[i], gradient));
      return performance.now() - begun;
    },
  };
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** Steps of several subjects in turn, so that a slow moment of the machine meets all of them. */
function compare(subjects) {
  const times = subjects.map(() => []);
  for (let i = 0; i < warmUp + steps; i++) {
    subjects.forEach(({ step }, s) => {
      const time = step(i);
      if (i >= warmUp) times[s].push(time);
    });
  }
  return times.map(median);
}

const small = makeTable(million);
const large = makeTable(8 * million);
for (const mode of ['lazy', 'exact']) {
  const subjects = [subject(small, million, mode), subject(large, million, mode), subject(large, 8 * million, mode)];
  const [base, same, spread] = compare(subjects);
  console.log(`step, ${mode} AdamW       V = 1M: ${base.toFixed(3)} ms`);
  console.log(`  V = 8M, the same ids      ${same.toFixed(3)} ms   ${(same / base).toFixed(2)}x`);
  console.log(`  V = 8M, ids over all rows ${spread.toFixed(3)} ms   ${(spread / base).toFixed(2)}x`);
  for (const { adapter } of subjects) adapter.close();
}
console.log();

const { adapter, step } = subject(large, 8 * million, 'lazy');
console.log('touched rows   adapter + optimiser   bytes a row   against r x 4 x 3 + 16');
for (let i = 0, next = 10; i < warmUp + steps; i++) {
  step(i);
  if (i + 1 !== next) continue;
  next *= 2;
  const { adapterBytes, slotBytes, optimizerBytes } = adapter.memory;
  const total = adapterBytes + slotBytes + optimizerBytes;
  const rows = adapter.touchedRows;
  console.log(
    `${rows.toLocaleString('en').padStart(12)}${formatBytes(total).padStart(22)}${(total / rows).toFixed(1).padStart(14)}${(total / rows / (rank * 4 * 3 + 16)).toFixed(2).padStart(20)}x`,
  );
}
