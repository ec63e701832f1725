// What DoRA costs beside plain LoRA in a training step, and a batch for many adapters beside a batch for one.
import { makePlan, matrix, RandomStream } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { AdapterSet } from '@finetable/lora';
import { takeTurns } from './measure.mjs';
import { stepper } from './step.mjs';
import { makeBatches, makeTable, million, rank, withRows } from './tables.mjs';

const D = 64;
const ids = 4096;
const rounds = 150;
const warmUp = 20;

export async function measureAdapters(report) {
  const table = makeTable(loadKernels(), million, D);
  report.section(
    'DoRA, and many adapters',
    `f32, V = 1M, D = ${D}, r = ${rank}, all threads. DoRA: a step of ${ids} uniform unpooled ids with exact AdamW. Many: ${bags} bags of ${perBag}, half of the ids among the ${rowsEach.toLocaleString('en')} rows that the bag's adapter has touched, half anywhere; the one adapter has touched the rows of all.`,
  );
  await measureDora(report, table);
  await measureMixed(report, table);
  table.close();
}

async function measureDora(report, table) {
  const batches = makeBatches(table.rows, { count: warmUp + rounds, bags: ids, perBag: 1 });
  const subjects = [true, false].map((dora) => stepper(table, { mode: 'exact', ids, adapter: { dora } }));
  const works = subjects.map(
    ({ step }) =>
      (round) =>
        step(batches[round].plan),
  );
  const [dora, plain] = await takeTurns(works, { rounds, warmUp });
  report.timeRatio('a step with DoRA', 'plain LoRA', dora, plain, { atMost: 1.3 });
  for (const { adapter } of subjects) adapter.close();
}

const adapters = 64;
const rowsEach = 5000;
const bags = 4096;
const perBag = 20;

async function measureMixed(report, table) {
  const own = Array.from({ length: adapters }, (_, i) =>
    Int32Array.from({ length: rowsEach }, (_, k) => (i * rowsEach + k) * 3),
  );
  const set = new AdapterSet(table);
  own.forEach((rows, i) => set.add(`tenant ${i}`, withRows(table, rows)));
  const one = withRows(table, Int32Array.from(own.flatMap((rows) => [...rows])));
  const random = new RandomStream(8, 'mixed');
  const names = Array.from({ length: bags }, (_, bag) => `tenant ${random.below(bag, adapters)}`);
  const offsets = Int32Array.from({ length: bags + 1 }, (_, i) => i * perBag);
  const plans = Array.from({ length: warmUp + rounds }, (_, batch) => {
    const values = new Int32Array(bags * perBag);
    for (let p = 0; p < values.length; p++) {
      const at = bags + batch * values.length + p;
      const rows = own[Number(names[Math.floor(p / perBag)].slice(7))];
      values[p] = p % 2 === 0 ? rows[random.below(at, rowsEach)] : random.below(at, table.rows);
    }
    return makePlan({ values, offsets }, table.rows);
  });
  const out = matrix(bags, D);
  const works = [(round) => set.lookupMixed(plans[round], names, out), (round) => one.lookup(plans[round], out)];
  const [mixed, single] = await takeTurns(works, { rounds, warmUp });
  report.timeRatio(`a batch for ${adapters} adapters`, 'for one adapter', mixed, single, { atMost: 1.3 });
  set.close();
  one.close();
}
