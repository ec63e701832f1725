// `npm run bench:gpu`: tables on a GPU through WebGPU, against copies within its memory and against the kernels on one core, in one run. Where there is
// only a software driver the numbers say nothing about GPUs: sizes are small then, and nothing is written.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makePlan, matrix, RandomStream } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { adamw, createAdapter } from '@finetable/lora';
import { openTable } from '@finetable/placement';
import { normals, writeTable } from '@finetable/placement/testing';
import { webgpuDevice } from '@finetable/webgpu';
// Shaders alone, without what crosses the bus, are not public.
import { Checks } from '../../packages/webgpu/dist/failure.js';
import { Gpu } from '../../packages/webgpu/dist/gpu.js';
import { layoutOf } from '../../packages/webgpu/dist/layout.js';
import { passesOf } from '../../packages/webgpu/dist/rows.js';
import { sumSegments } from '../../packages/webgpu/dist/sums.js';
import { describeMachine, heading } from './machine.mjs';
import { medianOf, takeTurns } from './measure.mjs';
import { Report } from './report.mjs';
import { million, rank } from './tables.mjs';

const begun = performance.now();
const gpu = await Gpu.open(undefined, true);
const { software } = gpu.adapter;
const size = software
  ? { rows: 2 ** 16, places: 2 ** 14, copyBytes: 2 ** 24, repeats: 1, rounds: 3, stepRows: 2 ** 14, bags: 512 }
  : {
      rows: 4 * million,
      places: 2 ** 21,
      copyBytes: 2 ** 28,
      repeats: 50,
      rounds: 15,
      stepRows: million,
      bags: 65_536,
    };
const checks = new Checks();

/** Uniform ids, or such that the row of rank k comes like 1 / k. */
function drawIds(kind, rows, count, seed) {
  const random = new RandomStream(seed, 'ids');
  return Int32Array.from({ length: count }, (_, i) => {
    const id = random.below(i, rows);
    return kind === 'uniform' ? id : Math.floor(rows ** ((id + 0.5) / rows)) - 1;
  });
}

/** Seconds of work that is recorded `repeats` times: from its submission to its end. */
async function secondsOf(record) {
  const begin = performance.now();
  const last = gpu.watch('measuring', checks, () => {
    const work = gpu.begin();
    for (let i = 0; i < size.repeats; i++) record(work, i);
    work.submit();
    return gpu.take(16);
  });
  await gpu.download([last], checks, [() => undefined]);
  gpu.give(last);
  return (performance.now() - begin) / 1000 / size.repeats;
}

async function makeShards(layout) {
  const stride = 4 * layout.rowWords;
  const most = Math.floor(gpu.maxSpanBytes / stride);
  const block = new Uint8Array(Math.min(2 ** 24, size.rows * stride)).map((_, i) => (i * 37) % 61);
  const shards = [];
  for (let first = 0; first < size.rows; first += most) {
    const shard = gpu.watch('a table', checks, () => gpu.make(Math.min(most, size.rows - first) * stride));
    for (let at = 0; at < shard.size; at += block.length)
      await gpu.write(shard, at, block.subarray(0, Math.min(block.length, shard.size - at)));
    shards.push(shard);
  }
  await checks.settle();
  return shards;
}

const perSecond = (bytes, seconds) => `${(bytes / seconds / 1e9).toFixed(1)} GB/s`;

async function measureLookups(report) {
  report.section(
    'Lookup shaders against a copy within device memory',
    `Base rows pooled where they lie, V = ${size.rows.toLocaleString('en')}, ${size.places.toLocaleString('en')} ids a batch, four batches in turn; bytes of the rows that are read and of the vectors that are written, a second, against a copy's, which reads and writes each.`,
  );
  const buffers = [gpu.make(size.copyBytes), gpu.make(size.copyBytes)];
  const copy = () => secondsOf((work) => work.copy(...buffers));
  for (const dtype of ['f32', 'f16', 'int8']) {
    for (const dim of [64, 128, 256]) {
      const layout = layoutOf({ dtype, dim, groupDims: dtype === 'int8' ? dim : 0 });
      const shards = await makeShards(layout);
      const rows = passesOf(layout, shards, gpu.adapter.maxBindings);
      for (const perBag of [1, 20]) {
        const bags = Math.floor(size.places / perBag);
        for (const kind of ['uniform', 'Zipf']) {
          const batches = [1, 2, 3, 4].map((seed) => {
            const offsets = Int32Array.from({ length: bags + 1 }, (_, i) => i * perBag);
            const plan = makePlan({ values: drawIds(kind, size.rows, bags * perBag, seed), offsets }, size.rows);
            const { whole, spans } = gpu.upload([plan.placeUnique, plan.uniqueRows, plan.offsets]);
            return { whole, segments: { list: spans[0], through: spans[1], rounds: [spans[2]] } };
          });
          const lookup = () =>
            secondsOf((work, i) => gpu.give(sumSegments(gpu, work, batches[i % 4].segments, rows, layout.quads)));
          const [ours, copies] = await takeTurns([() => lookup(), () => copy()], { rounds: size.rounds, warmUp: 1 });
          const bytes = bags * (perBag * 4 * layout.rowWords + 4 * dim);
          const goal = !software && dtype === 'f32' && dim === 128 && perBag === 20 && kind === 'uniform';
          report.value(
            `${dtype}, D = ${dim}, bags of ${perBag}, ${kind} ids`,
            'copy bandwidth',
            ours.map((seconds, i) => bytes / seconds / ((2 * size.copyBytes) / copies[i])),
            'x',
            goal ? { atLeast: 0.6 } : undefined,
            `${perSecond(bytes, medianOf(ours))} : ${perSecond(2 * size.copyBytes, medianOf(copies))}`,
          );
          for (const { whole } of batches) gpu.give(whole);
        }
      }
      for (const shard of shards) gpu.drop(shard);
    }
  }
  for (const buffer of buffers) gpu.drop(buffer);
}

async function measureSteps(report) {
  const [D, perBag] = [128, 20];
  report.section(
    'Steps against the kernels on one core',
    `f32, D = ${D}, r = ${rank}, V = ${size.stepRows.toLocaleString('en')}, ${size.bags.toLocaleString('en')} bags of ${perBag} uniform ids. All that crosses the bus is in it; a step is lookup, gradients and AdamW, which is the host's.`,
  );
  const folder = await mkdtemp(join(tmpdir(), 'bench-gpu-'));
  const path = join(folder, 'rows.safetensors');
  await writeTable(path, normals(size.stepRows, D));
  const device = await webgpuDevice({ software: true, memoryBytes: 2 ** 36 });
  const tables = [
    await openTable(path, { placement: device }),
    await openTable(path, { placement: 'ram', kernels: loadKernels({ threads: 1 }) }),
  ];
  const [there, here] = tables.map((table) => {
    const adapter = createAdapter(table, { rank, alpha: 16, init: 'keras' });
    adapter.startTraining(adamw({ learningRate: 1e-3 }));
    return adapter;
  });
  const plans = [1, 2, 3, 4].map((seed) => {
    const offsets = Int32Array.from({ length: size.bags + 1 }, (_, i) => i * perBag);
    return makePlan({ values: drawIds('uniform', size.stepRows, size.bags * perBag, seed), offsets }, size.stepRows);
  });
  const [e, gradient] = [matrix(size.bags, D), normals(size.bags, D)];
  /** Milliseconds from `from` to the end: 0 lookup, 1 backward, 2 the whole step. */
  const timed = (from) => async (round) => {
    const plan = plans[round % 4];
    const times = [performance.now()];
    const lookup = there.table.begin(plan);
    const made = there.adapt(lookup, true);
    await made.read(e);
    times.push(performance.now());
    const gradients = await there.deviceGradients(lookup, gradient);
    times.push(performance.now());
    there.update(plan, gradients);
    for (const held of [made, lookup]) held.dispose();
    return from === 2 ? performance.now() - times[0] : times[from + 1] - times[from];
  };
  const timedHere = (from) => (round) => {
    const plan = plans[round % 4];
    const times = [performance.now()];
    here.lookup(plan, e, true);
    times.push(performance.now());
    const gradients = here.gradients(plan, gradient);
    times.push(performance.now());
    here.update(plan, gradients);
    return Promise.resolve(from === 2 ? performance.now() - times[0] : times[from + 1] - times[from]);
  };
  for (const [from, what] of ['lookup with the delta', 'gradients of A and B', 'a whole step'].entries()) {
    const [ours, kernels] = await takeTurns([timed(from), timedHere(from)], { rounds: size.rounds, warmUp: 2 });
    report.speedRatio(what, 'the kernels, one core', ours, kernels, software || from > 0 ? undefined : { atLeast: 10 });
  }
  for (const held of [there, here, ...tables]) held.close();
  await rm(folder, { recursive: true });
}

const machine = [
  ['adapter', `${gpu.adapter.name}; ${gpu.adapter.maxBindingBytes / 2 ** 20} MiB a binding`],
  ...describeMachine(),
];
for (const [name, value] of machine) console.log(`${name.padEnd(12)} ${value}`);
if (software)
  console.log(
    '\nThere is no GPU here: these are the numbers of a driver that computes on the processor. They are not written.',
  );
const report = new Report();
await measureLookups(report);
await measureSteps(report);
if (!software) report.write('gpu', heading('npm run bench:gpu', machine, begun));
