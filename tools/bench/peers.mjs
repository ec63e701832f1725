// The same work in Python's libraries, in turns with ours; see docs/benchmarks.md. `npm run bench:peers` builds, then runs this. With names of
// parts as arguments it measures those and writes nothing.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makePlan, matrix, RandomStream } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { baseOnly, lookups, pooled, states, V } from './lookup.mjs';
import * as jobs from './jobs.mjs';
import { describeMachine, heading } from './machine.mjs';
import { medianOf, takeTurns } from './measure.mjs';
import { hugePages, PeerFailed, startPeer } from './peers/process.mjs';
import { runParts } from './parts.mjs';
import { Report } from './report.mjs';
import { stepper } from './step.mjs';
import { tf, useBestBackend } from '@finetable/tfjs';
import * as texts from './tfjs.mjs';
import { makeAdapter, makeBatches, makeTable, million, touchedRows } from './tables.mjs';

const begun = performance.now();
const machine = describeMachine();
const setup = fileURLToPath(new URL('../peers/setup.mjs', import.meta.url));
const { stdout } = spawnSync(process.execPath, [setup, '--bench', '--json'], {
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
});
const venv = JSON.parse(stdout);
const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
const threads = availableParallelism();
const report = new Report();

/** Runs body(peer, name) with a warm peer, or adds a row that says why there is none. */
async function beside(what, { against, script, environment: variables }, config, batches, body) {
  let peer;
  try {
    if (!venv.available) throw new PeerFailed(venv.reason);
    const ids = join(folder, 'ids');
    if (batches) writeFileSync(ids, Buffer.concat(batches.map((batch) => Buffer.from(batch.ids.buffer))));
    peer = await startPeer(venv.python, script, { ...config, ids, batches: batches?.length }, variables);
    const versions = Object.entries(peer.versions).map((pair) => pair.join(' '));
    await body(peer, `${against} (${versions.join(', ')}; ${peer.setting})`);
    const tried = Object.entries(peer.tried).map(([setting, time]) => `${setting} ${time.toPrecision(3)} ms`);
    report.remark(`${against}, settings tried: ${[...tried, ...peer.failures].join('; ')}.`);
  } catch (error) {
    if (!(error instanceof PeerFailed)) throw error;
    report.missing(what, against, error.message);
  } finally {
    await peer?.end();
  }
}

const D = 64;
const ids = 4096;

/** Ours in turns with one peer. Ours starts from ids, as the peer does: the plan, which a loader worker makes in training, is made here. */
async function compareSteps(peer, { rows, dim, rank, rounds, burst, warmUp, mode, goal }) {
  const what = `a step at V = ${rows / million}M, D = ${dim}, r = ${rank}, ${mode} AdamW`;
  const batches = makeBatches(rows, { count: (rounds + warmUp) * burst, bags: ids, perBag: 1 });
  const config = { rows, dim, rank, threads, warmUp: warmUp * burst };
  await beside(what, peer, config, batches, async (warm, name) => {
    const table = makeTable(loadKernels(), rows, dim);
    const whole = stepper(table, { mode, ids, rank });
    const planned = stepper(table, { mode, ids, rank });
    const { offsets } = batches[0].plan;
    const own = [
      (i) => whole.step(makePlan({ values: batches[i].ids, offsets }, rows)),
      (i) => planned.step(batches[i].plan),
    ];
    const times = await turnsWith(warm, own, { rounds, burst, warmUp, batches: batches.length });
    report.speedRatio(what, name, times[0], times[2], goal);
    report.speedRatio(`${what}, plan made by a loader worker`, name, times[1], times[2]);
    for (const { adapter } of [whole, planned]) adapter.close();
    table.close();
  });
}

/** Milliseconds a batch, the peer last. A turn is a burst of batches: what another process did before costs both sides some time at first. */
async function turnsWith(peer, own, { rounds, burst, warmUp, batches }) {
  const first = (round) => (round * burst) % batches;
  const bursts = own.map((work) => (round) => {
    for (let i = 0; i < burst; i++) work(first(round) + i);
  });
  const times = await takeTurns([...bursts, (round) => peer.run(first(round), burst)], { rounds, warmUp });
  return times.map((series) => series.map((time) => time / burst));
}

async function compareLookups(dim) {
  const rows = V;
  const kernels = loadKernels({ threads: 1 });
  const batches = makeBatches(rows, pooled);
  const peer = { against: 'FBGEMM, base only', script: 'fbgemm_lookup.py', environment: hugePages.torch };
  const config = { rows, dim, perBag: pooled.perBag, threads: 1, warmUp: batches.length };
  await beside(`fused LoRA lookup, D = ${dim}`, peer, config, batches, async (warm, name) => {
    const table = makeTable(kernels, rows, dim);
    const own = [...states, baseOnly];
    const adapters = own.map(({ touched }) => (touched > 0 ? makeAdapter(table, touched) : null));
    const works = adapters.map((adapter) => lookups(kernels, table, batches, adapter));
    const times = await turnsWith(warm, works, { rounds: 40, burst: 4, warmUp: 4, batches: batches.length });
    own.forEach((state, i) => {
      const goal = state.touched > 0 ? { atLeast: 1.1 } : undefined;
      report.speedRatio(`fused LoRA lookup, D = ${dim}, ${state.name}`, name, times[i], times.at(-1), goal);
    });
    for (const adapter of adapters) adapter?.close();
    table.close();
  });
}

async function compareNearest() {
  const what = 'nearest rows, V = 1M, D = 64, f32, 256 queries, k = 100';
  const config = { rows: million, dim: D, queries: 256, threads, warmUp: 2 };
  const peer = {
    against: 'the matrix product alone in PyTorch',
    script: 'torch_product.py',
    environment: hugePages.torch,
  };
  const kernels = loadKernels();
  await beside(what, peer, config, null, async (warm, name) => {
    const table = makeTable(kernels, config.rows, D);
    const adapter = makeAdapter(table, states[0].touched);
    const queries = matrix(config.queries, D);
    new RandomStream(6, 'queries').fillNormal(queries.data);
    const args = {
      base: table.shards,
      tableRows: table.rows,
      queries,
      metric: 'dot',
      rows: new Int32Array(config.queries * 100),
      scores: matrix(config.queries, 100),
    };
    const nearest = (delta) => async () => {
      const begun = performance.now();
      await kernels.nearest({ ...args, delta });
      return performance.now() - begun;
    };
    const works = [nearest(touchedRows(adapter)), nearest(null)];
    const times = await takeTurns([...works, () => warm.run(0)], { rounds: 15, warmUp: 3 });
    report.timeRatio(`${what}, 100k rows touched`, name, times[0], times[2], { atMost: 2 });
    report.timeRatio(`${what}, base only`, name, times[1], times[2]);
    adapter.close();
    table.close();
  });
}

const handWritten = {
  against: 'PyTorch, frozen table + sparse=True factors + SparseAdam, huge pages',
  script: 'torch_sparse.py',
  environment: hugePages.torch,
};
const kerasModel = { against: 'Keras Embedding', script: 'keras_fit.py', environment: {} };
const keras = { against: 'Keras Embedding(lora_rank=8)', script: 'keras_lora.py', environment: {} };
const kerasHuge = { ...keras, against: `${keras.against}, huge pages`, environment: hugePages.tensorflow };
const peft = { against: 'PEFT LoRA on nn.Embedding', script: 'peft_lora.py', environment: {} };
const peftHuge = { ...peft, against: `${peft.against}, huge pages`, environment: hugePages.torch };

async function measureSteps() {
  report.section(
    'Whole steps',
    `Lookup with the delta, backward from a given ∂L/∂E, optimiser; ${ids} uniform unpooled ids, f32, up to ${threads} threads on both sides. Ours includes making the plan unless said otherwise. exact AdamW ends where the dense optimiser does; lazy is what SparseAdam does. Peers run as they are installed, or with huge pages for their arrays, which they do not use by themselves.`,
  );
  const small = { rows: million, dim: D, rank: 8 };
  const large = { rows: 3 * million, dim: 256, rank: 16 };
  const short = { rounds: 40, burst: 5, warmUp: 4 };
  const long = { rounds: 15, burst: 1, warmUp: 3, mode: 'exact', goal: { atLeast: 200 } };
  await compareSteps(handWritten, { ...small, ...short, mode: 'lazy', goal: { atLeast: 3 } });
  await compareSteps(handWritten, { ...small, ...short, mode: 'exact' });
  for (const peer of [keras, kerasHuge]) await compareSteps(peer, { ...small, ...long });
  for (const peer of [peft, peftHuge]) await compareSteps(peer, { ...large, ...long });
}

async function measureLookups() {
  report.section(
    'Lookups',
    `f32, V = 4M, uniform ids, ${pooled.bags} bags of ${pooled.perBag}, one thread and huge pages on both sides. Ours with the delta, r = 8, theirs without.`,
  );
  for (const dim of [64, 128]) await compareLookups(dim);
}

async function measureNearest() {
  report.section('Nearest rows', `Exact top-k over an adapted table against scoring alone, ${threads} threads.`);
  await compareNearest();
}

/** Whole steps, and what a step takes beyond one of the same model over given vectors, here and there in turns. */
async function compareFits(name, layer, kerasRank) {
  const what = `a step of model.fit, ${name}`;
  const [rounds, warmUp, burst] = [12, 2, 4];
  const sets = Array.from({ length: rounds + warmUp }, (_, i) => texts.makeTexts(i, burst));
  const x = tf.randomNormal([burst * texts.texts, texts.tokens, texts.D]);
  const vectors = sets.map(({ y }) => ({ x, y }));
  const lists = sets.map(({ ids }) => ({ ids: ids.subarray(0, ids.length / burst) }));
  const shape = { rows: texts.V, dim: texts.D, tokens: texts.tokens, classes: texts.classes };
  const config = { ...shape, rank: kerasRank, threads, warmUp };
  const peer = { ...kerasModel, against: `${kerasModel.against}${kerasRank ? `(lora_rank=${kerasRank})` : ''}` };
  const embedding = layer();
  const models = [texts.classifier(embedding), texts.classifier(null)];
  // As later in a training: every row has been read.
  embedding.embeddings.dispose();
  await beside(what, peer, { ...config, vectors: false }, lists, async (whole, against) => {
    await beside(what, peer, { ...config, vectors: true }, lists, async (rest) => {
      const times = await takeTurns(
        [
          (round) => texts.timeFit(models[0], sets[round]),
          (round) => texts.timeFit(models[1], vectors[round]),
          (round) => whole.run(round),
          (round) => rest.run(round),
        ],
        { rounds, warmUp },
      );
      report.speedRatio(what, against, times[0], times[2]);
      const [own, ownRest, theirs, theirRest] = times.map(medianOf);
      const shares = [own - ownRest, theirs - theirRest];
      const note = shares.map((time) => `${time.toPrecision(3)} ms`).join(' : ');
      report.value(`${what}, the embedding's share`, against, [shares[1] / shares[0]], 'x', { atLeast: 100 }, note);
    });
  });
  for (const model of models) model.dispose();
}

async function measureTfjs() {
  const { backend } = await useBestBackend();
  report.section(
    'Layers of TensorFlow.js',
    `${texts.about}; ours on the ${backend} backend. The embedding's share is what a step takes beyond one of the same model over given vectors.`,
  );
  const [lora, whole] = Object.entries(texts.ours);
  await compareFits(...lora, texts.rank);
  await compareFits(...whole, null);
}

/** An epoch of ours in turns with the same batches there. */
async function compareJobs(kind) {
  const what = `a ${kind} job`;
  const batches = jobs.makeIds(jobs.kinds[kind]);
  const file = jobs.writeExamples(folder, kind, batches);
  const config = { ...jobs.shape, kind, widths: Object.values(jobs.kinds[kind].widths), threads, warmUp: 20 };
  const peer = {
    against: 'PyTorch, frozen table + sparse=True factors + SparseAdam, huge pages',
    script: 'torch_job.py',
    environment: hugePages.torch,
  };
  await beside(what, peer, config, batches, async (warm, name) => {
    const kernels = loadKernels();
    const own = [];
    for (const mode of ['lazy', 'exact']) own.push(await jobs.openJob(kernels, kind, file, mode));
    const works = [...own.map(({ epoch }) => epoch), () => warm.run(0, batches.length)];
    const times = await takeTurns(works, { rounds: 12, warmUp: 2 });
    report.speedRatio(what, name, times[0], times[2], { atLeast: 1.5 });
    report.speedRatio(`${what}, exact AdamW`, name, times[1], times[2]);
    const examples = (1000 * batches.length * jobs.shape.batchSize) / medianOf(times[0]);
    report.remark(`Ours: ${Math.round(examples).toLocaleString('en')} examples a second.`);
    for (const job of own) await job.close();
  });
}

async function measureJobs() {
  const { rows, dim, rank, batchSize } = jobs.shape;
  report.section(
    'Whole jobs',
    `Examples per second, lazy AdamW: V = ${rows / million}M, D = ${dim}, r = ${rank}, f32, batches of ${batchSize} with uniform ids, up to ${threads} threads on both sides. Ours reads and parses a JSON Lines file in a loader worker, and plans, trains and reports by \`Trainer.fit\`; theirs has all batches as tensors before.`,
  );
  for (const kind of Object.keys(jobs.kinds)) await compareJobs(kind);
}

try {
  const { whole } = await runParts(
    { steps: measureSteps, jobs: measureJobs, lookup: measureLookups, nearest: measureNearest, tfjs: measureTfjs },
    report,
  );
  if (whole) report.write('peers', heading('npm run bench:peers', machine, begun));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
