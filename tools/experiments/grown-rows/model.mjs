// Next item of a basket: the mean of the others' vectors scores every item by its dot product. Trained by a sampled softmax.
import { makePlan, matrix, RandomStream, range, rowsOf } from '@finetable/core';
import { adamw } from '@finetable/lora';

const batchSize = 128;
const negatives = 512;
const mostContext = 20;

/** One item of each basket, and up to 20 others. */
export function examplesOf(baskets, seed, stream) {
  const random = new RandomStream(seed, stream);
  return baskets.map((items, i) => {
    const order = items.slice();
    for (let j = 0; j < Math.min(order.length, mostContext + 1); j++) {
      const other = j + random.below(64 * i + j, order.length - j);
      [order[j], order[other]] = [order[other], order[j]];
    }
    return { target: order[0], context: order.slice(1, mostContext + 1) };
  });
}

function shuffled(values, seed, stream) {
  const random = new RandomStream(seed, stream);
  const order = values.slice();
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i, i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Passes over the baskets; `after` is called behind each. */
export function train(adapter, baskets, { epochs, learningRate, weightDecay = 0, seed }, after = () => {}) {
  const { kernels, rows, dim } = adapter.table;
  adapter.startTraining(adamw({ learningRate, weightDecay, mode: 'lazy' }));
  const correction = Math.log((rows - 1) / negatives);
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = shuffled(examplesOf(baskets, seed, `examples/${epoch}`), seed, `order/${epoch}`);
    const random = new RandomStream(seed, `negatives/${epoch}`);
    for (let first = 0, drawn = 0; first + batchSize <= order.length; first += batchSize, drawn += negatives) {
      const batch = order.slice(first, first + batchSize);
      const sampled = Int32Array.from({ length: negatives }, (_, i) => random.below(drawn + i, rows));
      const bags = [
        ...batch.map(({ context }) => context),
        ...batch.map(({ target }) => [target]),
        ...[...sampled].map((row) => [row]),
      ];
      const offsets = new Int32Array(bags.length + 1);
      bags.forEach((bag, i) => (offsets[i + 1] = offsets[i] + bag.length));
      const plan = makePlan({ values: Int32Array.from(bags.flat()), offsets }, rows, { pooling: 'mean' });
      const out = matrix(bags.length, dim);
      adapter.lookup(plan, out, true);
      const [contexts, targets, others] = [
        rowsOf(out, 0, batchSize),
        rowsOf(out, batchSize, batchSize),
        rowsOf(out, 2 * batchSize, negatives),
      ];
      const scores = matrix(batchSize, negatives);
      kernels.matmul({ a: contexts, b: others, out: scores, transposeB: true });
      const gradient = matrix(bags.length, dim);
      const own = new Float32Array(batchSize);
      for (let i = 0; i < batchSize; i++) {
        let dot = 0;
        for (let j = 0; j < dim; j++) dot += contexts.data[i * dim + j] * targets.data[i * dim + j];
        const row = scores.data.subarray(i * negatives, (i + 1) * negatives);
        let most = dot;
        for (let n = 0; n < negatives; n++) {
          row[n] = sampled[n] === batch[i].target ? -Infinity : row[n] + correction;
          if (row[n] > most) most = row[n];
        }
        let sum = Math.exp(dot - most);
        own[i] = sum;
        for (let n = 0; n < negatives; n++) sum += row[n] = Math.exp(row[n] - most);
        own[i] = (own[i] / sum - 1) / batchSize;
        for (let n = 0; n < negatives; n++) row[n] /= sum * batchSize;
      }
      kernels.matmul({ a: scores, b: others, out: rowsOf(gradient, 0, batchSize) });
      kernels.matmul({ a: scores, b: contexts, out: rowsOf(gradient, 2 * batchSize, negatives), transposeA: true });
      for (let i = 0, at = 0; i < batchSize; i++) {
        for (let j = 0; j < dim; j++, at++) {
          gradient.data[at] += own[i] * targets.data[at];
          gradient.data[batchSize * dim + at] = own[i] * contexts.data[at];
        }
      }
      adapter.update(plan, adapter.gradients(plan, gradient));
    }
    after(epoch);
  }
}

/** HR@10 and NDCG@10 of the items left out of their baskets, among all items that are not in the basket: all, rows below `known`, the others. */
export function evaluate(adapter, examples, known) {
  const { kernels, rows, dim } = adapter.table;
  adapter.settle();
  const items = adapter.vectors(range(rows));
  const sums = { all: [0, 0, 0], old: [0, 0, 0], new: [0, 0, 0] };
  for (let first = 0; first < examples.length; first += 256) {
    const batch = examples.slice(first, first + 256);
    const offsets = new Int32Array(batch.length + 1);
    batch.forEach(({ context }, i) => (offsets[i + 1] = offsets[i] + context.length));
    const plan = makePlan({ values: Int32Array.from(batch.flatMap(({ context }) => context)), offsets }, rows, {
      pooling: 'mean',
    });
    const contexts = matrix(batch.length, dim);
    adapter.lookup(plan, contexts);
    const scores = matrix(batch.length, rows);
    kernels.matmul({ a: contexts, b: items, out: scores, transposeB: true });
    batch.forEach(({ context, target }, i) => {
      const row = scores.data.subarray(i * rows, (i + 1) * rows);
      for (const item of context) row[item] = -Infinity;
      const own = row[target];
      // Items of the same score come first: vectors that are all alike find nothing.
      let rank = 0;
      for (let j = 0; j < rows; j++) if (row[j] >= own) rank++;
      const hit = rank <= 10 ? 1 : 0;
      for (const part of [sums.all, target < known ? sums.old : sums.new]) {
        part[0]++;
        part[1] += hit;
        part[2] += hit / Math.log2(1 + rank);
      }
    });
  }
  return Object.fromEntries(
    Object.entries(sums).map(([name, [count, hits, gains]]) => [
      name,
      { count, hr: hits / count, ndcg: gains / count },
    ]),
  );
}
