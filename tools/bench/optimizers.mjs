// What exact mode costs beside lazy mode where 1 % of the touched rows are in a batch, so that a row skips some 100 steps.
import { loadKernels } from '@finetable/kernels';
import { takeTurns } from './measure.mjs';
import { stepper } from './step.mjs';
import { makeBatches, makeTable, rank } from './tables.mjs';

const D = 64;
const ids = 4096;
const rows = 100 * ids;
// Nearly every row has been touched then.
const warmUp = 300;
const rounds = 200;

const schedule = { type: 'cosine', totalSteps: 10_000, warmupSteps: 100 };
const settings = {
  AdamW: {},
  'AdamW with weight decay': { weightDecay: 0.01 },
  'AdamW with weight decay and a schedule': { weightDecay: 0.01, schedule },
  'AdamW with bf16 state': { stateDtype: 'bf16' },
};

export async function measureOptimizers(report) {
  const table = makeTable(loadKernels(), rows, D);
  const batches = makeBatches(rows, { count: warmUp + rounds, bags: ids, perBag: 1 });
  report.section(
    'Exact and lazy optimisers',
    `Lookup with the delta, gradients of A and B, the optimiser; ${ids} uniform unpooled ids of ${rows.toLocaleString('en')} rows, f32, D = ${D}, r = ${rank}, all threads.`,
  );
  for (const [name, optimizer] of Object.entries(settings)) {
    const subjects = ['exact', 'lazy'].map((mode) => stepper(table, { mode, ids, optimizer }));
    const times = await takeTurns(
      subjects.map(
        ({ step }) =>
          (round) =>
            step(batches[round].plan),
      ),
      { rounds, warmUp },
    );
    report.timeRatio(`a step, exact ${name}`, 'lazy', times[0], times[1], { atMost: 1.5 });
    for (const { adapter } of subjects) adapter.close();
  }
  table.close();
}
