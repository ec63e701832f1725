// What a training step costs as the table grows, and what adapter and optimiser hold as rows are touched.
import { matrix, RandomStream } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { adamw, createAdapter } from '@finetable/lora';
import { takeTurns } from './measure.mjs';
import { makeBatches, makeTable, million, rank } from './tables.mjs';

/** A step as the trainer makes it: lookup with the delta, gradients of A and B, the optimiser. */
export function stepper(table, { mode, ids, rank: r = rank, optimizer = {}, adapter: options = {} }) {
  const adapter = createAdapter(table, { rank: r, alpha: 16, ...options });
  adapter.startTraining(adamw({ learningRate: 1e-3, mode, ...optimizer }));
  const gradient = matrix(ids, table.dim);
  new RandomStream(3, 'gradient').fillNormal(gradient.data, 1e-3);
  const out = matrix(ids, table.dim);
  const step = (plan) => {
    adapter.lookup(plan, out, true);
    adapter.update(plan, adapter.gradients(plan, gradient));
  };
  return { adapter, step };
}

const D = 64;
const ids = 4096;
const warmUp = 20;
const steps = 150;
const sizes = [1, 4, 16];

export async function measureSteps(report) {
  const kernels = loadKernels();
  const tables = sizes.map((size) => makeTable(kernels, size * million, D));
  const batches = tables.map(({ rows }) => makeBatches(rows, { count: warmUp + steps, bags: ids, perBag: 1 }));

  report.section(
    'Training steps',
    `Lookup with the delta, gradients of A and B, AdamW; ${ids} uniform unpooled ids, f32, D = ${D}, r = ${rank}, all threads.`,
  );
  for (const mode of ['exact', 'lazy']) {
    const subjects = tables.map((table) => stepper(table, { mode, ids }));
    const times = await takeTurns(
      subjects.map(
        ({ step }, t) =>
          (round) =>
            step(batches[t][round].plan),
      ),
      { rounds: steps, warmUp },
    );
    sizes.slice(1).forEach((size, i) => {
      report.timeRatio(`a step at V = ${size}M, ${mode} AdamW`, 'at V = 1M', times[i + 1], times[0], { atMost: 1.5 });
    });
    for (const { adapter } of subjects) adapter.close();
  }
  measureMemory(report, tables.at(-1), batches.at(-1));
  for (const table of tables) table.close();
}

/** At its growing sizes, since slot tables double. */
function measureMemory(report, table, batches) {
  const { adapter, step } = stepper(table, { mode: 'exact', ids });
  const perRow = [];
  for (const { plan } of batches) {
    step(plan);
    const { adapterBytes, slotBytes, optimizerBytes } = adapter.memory;
    if (adapter.touchedRows >= 10 * ids) perRow.push((adapterBytes + slotBytes + optimizerBytes) / adapter.touchedRows);
  }
  const wanted = rank * 4 * 3 + 16;
  report.value(
    'adapter + optimiser, exact AdamW',
    `touched rows x (r x 4 x 3 + 16) bytes, up to ${adapter.touchedRows.toLocaleString('en')} rows`,
    perRow.map((bytes) => bytes / wanted),
    'x',
    { atMost: 1.25 },
    `most: ${(Math.max(...perRow) / wanted).toFixed(2)}x`,
  );
  adapter.close();
}
