// Every native kernel once over small data, in every home and dtype, with stores closed under a lookup that is still running.
// Prints one line when all is done. `--short` leaves out repetitions, for valgrind.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jagged, makePlan, matrix, RandomStream, range, rowDtypes } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { adagrad, adam, adamw, createAdapter, rowwiseAdagrad, rowwiseAdam, sgd } from '@finetable/lora';
import { createTable } from '@finetable/placement';

const rounds = process.argv.includes('--short') ? 1 : 20;
const [V, D, rank] = [200, 37, 5];
const kernels = loadKernels({ kind: 'native', threads: 4 });
const folder = mkdtempSync(join(tmpdir(), 'finetable-exercise-'));
let calls = 0;

function normals(rows, cols, name) {
  const out = matrix(rows, cols);
  new RandomStream(1, name).fillNormal(out.data);
  return out;
}

/** Bags of 0 to 12 ids. */
function plan(round) {
  const random = new RandomStream(round, 'ids');
  let at = 0;
  const bags = Array.from({ length: 300 }, (_, b) => Array.from({ length: b % 13 }, () => random.below(at++, V)));
  return makePlan(jagged(bags), V, { pooling: 'mean' });
}

/** The store's bytes in a file, mapped; elements first, then scales. */
function mapped(store, dtype) {
  const bytes = new Uint8Array(store.sizeBytes);
  kernels.readBytes(store, 0, bytes);
  const path = join(folder, dtype);
  writeFileSync(path, bytes);
  const scaleBytes = store.groupDims === 0 ? 0 : V * 4 * Math.ceil(D / store.groupDims);
  const scales =
    scaleBytes === 0 ? null : { path, byteOffset: store.sizeBytes - scaleBytes, groupDims: store.groupDims };
  return kernels.openRows({ path, byteOffset: 0, rows: V, dim: D, dtype, scales }, 'mapped');
}

async function lookups(dtype, round) {
  const ram = kernels.createRows(V, D, dtype);
  kernels.scatterRows(ram, range(V), normals(V, D, 'rows'));
  const file = mapped(ram, dtype);
  const p = plan(round);
  const out = matrix(300, D);
  for (const store of [ram, file]) {
    kernels.lookup({ base: [{ store, firstRow: 0 }], plan: p, out });
    kernels.gatherRows(store, range(V), matrix(V, D));
    const args = { base: [{ store, firstRow: 0 }], tableRows: V, queries: normals(9, D, 'queries'), metric: 'cosine' };
    await kernels.nearest({ ...args, rows: new Int32Array(9 * 10), scores: matrix(9, 10) });
    const running = kernels.lookupAsync({ base: [{ store, firstRow: 0 }], plan: p, out: matrix(300, D) });
    store.close();
    await running;
    calls += 4;
  }
}

function training(optimizer, options, round) {
  const table = createTable('items', normals(V, D, 'rows'), { kernels });
  const adapter = createAdapter(table, options);
  adapter.startTraining(optimizer);
  const out = matrix(300, D);
  for (let step = 0; step < 3; step++) {
    const p = plan(round + step);
    adapter.lookup(p, out, true);
    adapter.update(p, adapter.gradients(p, out));
    calls += 3;
  }
  adapter.settle();
  adapter.close();
  table.close();
}

function dense() {
  const x = normals(50, D, 'x');
  const weights = normals(D, 7, 'weights');
  const logits = matrix(50, 7);
  kernels.matmul({ a: x, b: weights, out: logits });
  kernels.matmul({ a: x, b: logits, out: matrix(D, 7), transposeA: true });
  kernels.matmul({ a: logits, b: weights, out: matrix(50, D), transposeB: true });
  const labels = Int32Array.from({ length: 50 }, (_, i) => i % 7);
  kernels.softmaxCrossEntropy({ logits, labels, losses: new Float32Array(50), gradient: logits });
  kernels.addToRows(logits, new Float32Array(7));
  kernels.sumRows(logits, new Float32Array(7));
  const norms = new Float32Array(50);
  kernels.normalizeRows(x, norms);
  kernels.normalizeRowsBackward(x, norms, normals(50, D, 'g'));
  kernels.sumSquares(x.data);
  kernels.scaleInPlace(x.data, 0.5);
  kernels.firstNonFinite(x.data);
  calls += 11;
}

try {
  for (let round = 0; round < rounds; round++) {
    for (const dtype of rowDtypes) await lookups(dtype, round);
    for (const optimizer of [sgd, adagrad, rowwiseAdagrad, adam, adamw, rowwiseAdam]) {
      for (const mode of ['exact', 'lazy']) {
        for (const stateDtype of ['f32', 'bf16', 'f16']) {
          const momentum = optimizer === sgd ? { momentum: 0.9 } : {};
          const spec = optimizer({ learningRate: 0.01, mode, stateDtype, weightDecay: 0.01, ...momentum });
          training(spec, { rank }, round);
          training(spec, { kind: 'dense' }, round);
        }
      }
    }
    dense();
  }
} finally {
  rmSync(folder, { recursive: true });
}
console.log(`${calls} calls of ${kernels.description}`);
