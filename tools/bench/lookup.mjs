// The fused lookup against what memory gives at best, against itself on two threads, and against a plain gather.
import { spawn } from 'node:child_process';
import { matrix } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { medianOf, takeTurns } from './measure.mjs';
import { hugeShare } from './machine.mjs';
import { fastestReader, loadLimits, variants } from './limits.mjs';
import { deltaOf, makeAdapter, makeBatches, makeTable, million, rank, tableIfBuilt } from './tables.mjs';

const V = 4 * million;
const rounds = 100;
// 16 batches of 20 MiB each at D = 64: by the time one comes again, caches have forgotten its rows.
export const pooled = { count: 16, bags: 4096, perBag: 20 };
const unpooled = { count: 16, bags: pooled.bags * pooled.perBag, perBag: 1 };
const lineBytes = 64;

/** Adapters whose A fits in cache, as after a short run, and whose A does not, as after a long one. */
export const states = [
  { name: '100k rows touched', touched: 100_000 },
  { name: 'every row touched', touched: V },
];

/** Calls body with round i's batch, its outputs ready. */
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

/** Reads the lines that the lookup reads, on one thread, in the fastest way found. */
async function bareLoop(limits, region, factors, table, batches, adapter) {
  const slots =
    adapter &&
    batches.map(({ ids }) => {
      const found = new Int32Array(ids.length);
      adapter.slots.find(ids, found);
      return found;
    });
  const lines = (table.dim * 4) / lineBytes;
  const read = (round, { whole, hint, ahead }, threads = 1) => {
    const i = round % batches.length;
    limits.readRows(
      region,
      lines,
      batches[i].ids,
      slots ? factors : null,
      rank * 4,
      slots ? slots[i] : null,
      whole,
      hint,
      ahead,
      threads,
    );
  };
  const variant = await fastestReader(read);
  return { name: variant.name, run: (round, threads) => read(round, variant, threads) };
}

const about = `V = 4M (2^22) rows in RAM, r = ${rank}, uniform ids, ${pooled.bags} bags of ${pooled.perBag}, ${pooled.count} batches in turn.`;

export async function measureLookups(report) {
  const kernels = loadKernels({ threads: 1 });
  const limits = loadLimits();
  report.section(
    'Fused LoRA lookup against reading the same cache lines',
    `f32, ${about} One thread. The bare loop reads the rows of the base and of A, the touched ones, in the same order and adds nothing up that anybody uses; it is the fastest of ${variants.length} variants on this machine.`,
  );
  for (const dim of [64, 128]) {
    const table = makeTable(kernels, V, dim);
    const batches = makeBatches(V, pooled);
    const region = limits.missing ? null : limits.allocate(table.sizeBytes);
    const factors = limits.missing ? null : limits.allocate(V * rank * 4);
    for (const { name, touched } of [...states, { name: 'base only', touched: 0 }]) {
      const what = `D = ${dim}, ${name}`;
      const goal = touched > 0 ? { atLeast: 0.9 } : undefined;
      if (limits.missing) {
        report.missing(what, 'the random-read limit', limits.missing);
        continue;
      }
      const adapter = touched > 0 ? makeAdapter(table, touched) : null;
      const limit = await bareLoop(limits, region, factors, table, batches, adapter);
      const [ours, bare] = await takeTurns([lookups(kernels, table, batches, adapter), limit.run], { rounds });
      report.speedRatio(what, `the random-read limit (${limit.name})`, ours, bare, goal);
      if (dim === 64 && touched === V) {
        const out = matrix(pooled.bags, dim);
        const whole = (round) => adapter.lookup(batches[round % batches.length].plan, out);
        const [found, again] = await takeTurns([whole, limit.run], { rounds });
        report.speedRatio(`${what}, slots looked up as well`, 'the random-read limit', found, again);
      }
      adapter?.close();
    }
    if (dim === 64) await measureLimits(report, limits, region, table, batches);
    if (!limits.missing) [region, factors].forEach(limits.release);
    table.close();
  }
}

let physical = () => {};

/** Kept for a section of its own, which comes after the lookups that share the region. */
async function measureLimits(report, limits, region, table, batches) {
  if (limits.missing) {
    physical = (r) => r.missing('streaming reads, random reads, memcpy', '-', limits.missing);
    return;
  }
  const { run } = await bareLoop(limits, region, null, table, batches, null);
  const windowBytes = 2 ** 26;
  const windows = table.sizeBytes / windowBytes;
  const stream = (threads) => (round) =>
    limits.readInOrder(region, (round % windows) * windowBytes, windowBytes, threads);
  const copy = (threads) => (round) => {
    const from = (2 * round) % windows;
    limits.copy(region, from * windowBytes, (from + 1) * windowBytes, windowBytes, threads);
  };
  const random = (threads) => (round) => run(round, threads);
  const times = await takeTurns([stream(1), random(1), copy(1), stream(2), random(2), copy(2)], { rounds: 60 });
  const randomBytes = batches[0].ids.length * table.dim * 4;
  const moved = [windowBytes, randomBytes, 2 * windowBytes];
  const perByte = times.map((series, i) => series.map((time) => time / moved[i % 3]));
  const huge = hugeShare();
  physical = (r) => {
    const names = ['streaming reads', 'random reads of rows of 256 bytes', 'memcpy, bytes read and written'];
    names.forEach((name, i) => {
      for (const threads of [1, 2]) {
        const own = perByte[i + 3 * (threads - 1)];
        const note = `${(1e-6 / medianOf(own)).toFixed(1)} GB/s`;
        const ratio = own.map((time, round) => perByte[0][round] / time);
        r.value(
          `${name}, ${threads === 1 ? 'one thread' : 'two threads'}`,
          'streaming reads on one thread, bytes a second',
          ratio,
          'x',
          undefined,
          note,
        );
      }
    });
    if (huge !== null) r.value('anonymous memory in huge pages', 'all of this process', [huge * 100], ' %');
  };
}

export function reportLimits(report) {
  report.section('Physical limits', 'Bytes a second of loops that do nothing else, in memory of 1 GiB in huge pages.');
  physical(report);
}

export async function measureThreads(report) {
  const one = loadKernels({ threads: 1 });
  const two = loadKernels({ threads: 2 });
  const table = makeTable(one, V, 64);
  const batches = makeBatches(V, pooled);
  report.section('Fused LoRA lookup: threads', `f32, D = 64, ${about}`);
  for (const { name, touched } of states) {
    const adapter = makeAdapter(table, touched);
    const subjects = [lookups(one, table, batches, adapter), lookups(two, table, batches, adapter)];
    const [single, both] = await takeTurns(subjects, { rounds });
    report.speedRatio(`two threads, ${name}`, 'one thread', both, single, { atLeast: 1.7 });
    const busy = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' });
    try {
      const [beside, shared] = await takeTurns(subjects, { rounds: 200, warmUp: 50 });
      report.timeRatio(
        `two threads, ${name}, beside a process that keeps a core busy`,
        'one thread beside it',
        shared,
        beside,
        { atMost: 1.1 },
      );
    } finally {
      busy.kill('SIGKILL');
    }
    adapter.close();
  }

  report.section('Fused LoRA lookup without pooling', `f32, D = 64, the same ids in bags of 1, one thread.`);
  const single = makeBatches(V, unpooled);
  const rows = matrix(unpooled.bags, 64);
  const gather = (round) => one.gatherRows(table.shards[0].store, single[round % single.length].ids, rows);
  for (const { name, touched } of [...states, { name: 'base only', touched: 0 }]) {
    const adapter = touched > 0 ? makeAdapter(table, touched) : null;
    const [ours, plain] = await takeTurns([lookups(one, table, single, adapter), gather], { rounds });
    report.speedRatio(
      `bags of 1, ${name}`,
      'gatherRows of the base',
      ours,
      plain,
      touched > 0 ? { atLeast: 0.75 } : undefined,
    );
    adapter?.close();
  }

  report.section(
    'Fused LoRA lookup: dtypes of the base',
    `D = 64, ${about} 100k rows touched, one thread. Rows a second.`,
  );
  const adapter = makeAdapter(table, states[0].touched);
  const f32 = lookups(one, table, batches, adapter);
  for (const dtype of ['f16', 'bf16', 'int8', 'int4']) {
    const coded = tableIfBuilt(one, V, 64, dtype);
    if (!coded) {
      report.missing(`${dtype} base`, 'f32 base', 'not in this build');
      continue;
    }
    const [ours, reference] = await takeTurns([lookups(one, coded, batches, adapter), f32], { rounds });
    report.speedRatio(`${dtype} base`, 'f32 base', ours, reference, dtype === 'int8' ? { atLeast: 1.5 } : undefined);
    coded.close();
  }
  adapter.close();
  table.close();
}

export async function measurePortable(report) {
  const native = loadKernels({ kind: 'native', threads: 1 });
  const portable = loadKernels({ kind: 'portable', threads: 1 });
  const batches = makeBatches(million, { ...pooled, count: 8 });
  report.section(
    'Portable kernels',
    `The fused lookup, one thread, V = 1M, D = 64, r = ${rank}, 100k rows touched, bags of ${pooled.perBag}.`,
  );
  for (const dtype of ['f32', 'f16', 'bf16', 'int8', 'int4']) {
    const tables = [portable, native].map((kernels) => tableIfBuilt(kernels, million, 64, dtype));
    if (tables.includes(null)) {
      report.missing(`portable, ${dtype}`, 'native', 'not in this build');
      continue;
    }
    const subjects = tables.map((table) => lookups(table.kernels, table, batches, makeAdapter(table, 100_000)));
    const [slow, fast] = await takeTurns(subjects, { rounds: 25, warmUp: 8 });
    report.timeRatio(`portable, ${dtype}`, 'native', slow, fast, { atMost: 12 });
    for (const table of tables) table.close();
  }
}
