// What weights of ids are worth for means of word vectors: plain means, smooth inverse frequency, and without the common component.
// README.md has the table that this prints.
//   node tools/experiments/id-weights/main.mjs --data DIR [--sts FILE]
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { matrix } from '@finetable/core';
import { openLoader } from '@finetable/data';
import { openTable } from '@finetable/placement';

const { values: flags } = parseArgs({
  options: { data: { type: 'string', default: 'data' }, sts: { type: 'string' } },
});
const tables = [join(flags.data, 'numberbatch/vectors.f16.npy')];
const weightings = [undefined, ...[1e-2, 1e-3, 1e-4].map((a) => ({ type: 'sif', a }))];

/** Vectors of a column's texts `[n, D]`, made as training makes them; the counts of `like` where it is given. */
async function vectorsOf(table, vocabulary, file, column, weighting, label, like) {
  const features = { text: { table: 't', column, tokens: { vocabulary }, weighting: like ?? weighting } };
  const labels = label ? { label } : {};
  const loader = await openLoader(
    { source: { file }, features, labels, tables: { t: { rows: table.rows } } },
    { batchSize: 1024, workers: 0 },
  );
  const vectors = matrix(loader.examples, table.dim);
  const found = [];
  let at = 0;
  for await (const { plans, size, labels, targets } of loader.batches(0)) {
    table.lookup(plans.t, matrix(size, table.dim, vectors.data.subarray(at * table.dim, (at + size) * table.dim)));
    found.push(...(labels.label ?? targets.label ?? []));
    at += size;
  }
  await loader.close();
  return { vectors, labels: found, weighting: loader.data.features.text.weighting, classes: loader.classes.label };
}

/** The direction that most of the vectors' squared length lies in: the first right singular vector, by power iteration. */
function commonComponent({ data, rows, cols }) {
  let u = Float64Array.from({ length: cols }, (_, d) => Math.cos(d + 1));
  for (let round = 0; round < 50; round++) {
    const next = new Float64Array(cols);
    for (let i = 0; i < rows; i++) {
      let dot = 0;
      for (let d = 0; d < cols; d++) dot += data[i * cols + d] * u[d];
      for (let d = 0; d < cols; d++) next[d] += dot * data[i * cols + d];
    }
    const length = Math.hypot(...next);
    u = next.map((x) => x / length);
  }
  return u;
}

function without({ data, rows, cols }, u) {
  const out = matrix(rows, cols, data.slice());
  for (let i = 0; i < rows; i++) {
    let dot = 0;
    for (let d = 0; d < cols; d++) dot += data[i * cols + d] * u[d];
    for (let d = 0; d < cols; d++) out.data[i * cols + d] -= dot * u[d];
  }
  return out;
}

const row = ({ data, cols }, i) => data.subarray(i * cols, (i + 1) * cols);
const dot = (a, b) => a.reduce((sum, x, d) => sum + x * b[d], 0);
const unit = (a) => {
  const length = Math.sqrt(dot(a, a));
  return length > 0 ? a.map((x) => x / length) : a;
};

/** The share of test texts whose nearest mean of a class (by cosine, of unit vectors) is their class's. */
function centroidAccuracy(train, trainLabels, test, testLabels, classes) {
  const centroids = Array.from({ length: classes }, () => new Float64Array(train.cols));
  trainLabels.forEach((label, i) => unit(row(train, i)).forEach((x, d) => (centroids[label][d] += x)));
  const units = centroids.map(unit);
  const right = testLabels.filter((label, i) => {
    const scores = units.map((centroid) => dot(row(test, i), centroid));
    return scores.indexOf(Math.max(...scores)) === label;
  });
  return right.length / testLabels.length;
}

function ranks(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const out = new Array(values.length);
  for (let begin = 0; begin < order.length;) {
    let end = begin;
    while (end < order.length && values[order[end]] === values[order[begin]]) end++;
    for (let i = begin; i < end; i++) out[order[i]] = (begin + end - 1) / 2;
    begin = end;
  }
  return out;
}

function spearman(a, b) {
  const [x, y] = [ranks(a), ranks(b)];
  const mean = (x.length - 1) / 2;
  const product = (p, q) => p.reduce((sum, value, i) => sum + (value - mean) * (q[i] - mean), 0);
  return product(x, y) / Math.sqrt(product(x, x) * product(y, y));
}

const banking = ['train.csv', 'test.csv'].map((name) => join(flags.data, 'banking77', name));
const absent = [...tables, ...banking, ...(flags.sts ? [flags.sts] : [])].filter((file) => !existsSync(file));
for (const file of absent) console.error(`${file} is not there; what needs it is left out`);
if (!flags.sts) console.error('no --sts FILE (.tsv or .csv with columns score, sentence1, sentence2): no correlations');

const label = { column: 'category' };
for (const file of tables.filter((name) => !absent.includes(name))) {
  const vocabulary = join(file, '../words.txt');
  const table = await openTable(file);
  for (const weighting of weightings) {
    const line = [file.split('/').at(-2), weighting ? `a = ${weighting.a}` : 'plain mean'];
    if (!absent.some((name) => banking.includes(name))) {
      const train = await vectorsOf(table, vocabulary, banking[0], 'text', weighting, label);
      const given = { ...label, classes: train.classes };
      const test = await vectorsOf(table, vocabulary, banking[1], 'text', weighting, given, train.weighting);
      const u = commonComponent(train.vectors);
      const accuracy = (change) =>
        centroidAccuracy(change(train.vectors), train.labels, change(test.vectors), test.labels, train.classes.length);
      line.push(
        `banking77 ${accuracy((v) => v).toFixed(3)}, without the component ${accuracy((v) => without(v, u)).toFixed(3)}`,
      );
    }
    if (flags.sts && !absent.includes(flags.sts)) {
      const score = { column: 'score', type: 'number' };
      const first = await vectorsOf(table, vocabulary, flags.sts, 'sentence1', weighting, score);
      const second = await vectorsOf(table, vocabulary, flags.sts, 'sentence2', weighting, score, first.weighting);
      const u = commonComponent(first.vectors);
      const correlation = (change) => {
        const [a, b] = [change(first.vectors), change(second.vectors)];
        const cosines = first.labels.map((_, i) => dot(unit(row(a, i)), unit(row(b, i))));
        return spearman(cosines, first.labels);
      };
      line.push(
        `STS ${correlation((v) => v).toFixed(3)}, without the component ${correlation((v) => without(v, u)).toFixed(3)}`,
      );
    }
    console.log(line.join(' | '));
  }
  table.close();
}
