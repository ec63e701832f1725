// Makes what job.yaml names, in `out`, from a seed: 26 tables in tables.safetensors, and train.jsonl, valid.jsonl, test.jsonl of lines
// {"click": 0 or 1, "n1": number, …, "n13": number, "c1": row, …, "c26": row}.
//   node examples/clicks/generate.mjs [--rows 5000] [--examples 100000]
//
// Rows come by Zipf's law. The tables are what was learnt elsewhere; here, each row has moved in `planted` directions of its table. Whether somebody
// clicks is drawn from the dot products of a few pairs of moved rows, and from the numbers. So the best anybody can do is known.
import { mkdir, writeFile } from 'node:fs/promises';
import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { RandomStream, writeSafetensors } from 'finetable';

export const work = fileURLToPath(new URL('../../.cache/clicks', import.meta.url));
export const columns = Array.from({ length: 26 }, (_, i) => `c${i + 1}`);
const dim = 16;
const planted = 2;
const numbers = 13;
/** By place in `columns`; each column is in one pair. */
const pairs = Array.from({ length: 13 }, (_, i) => [i, i + 13]);
const zipf = 1.2;

/** @param {{ out?: string, rows?: number, examples?: number, seed?: number }} options `rows` of the largest table */
export async function generate({ out = work, rows = 5000, examples = 100_000, seed = 1 } = {}) {
  await mkdir(out, { recursive: true });
  // As of real logs: a few columns with many values, many with few.
  const tables = columns.map((name, i) => makeTable(name, Math.max(20, Math.round(rows * 0.75 ** i)), seed));
  const tensors = tables.map(({ name, rows, base }) => ({ name, dtype: 'F32', shape: [rows, dim], data: base }));
  await writeSafetensors(`${out}/tables.safetensors`, tensors, { made_by: 'examples/clicks', seed: String(seed) });

  const scores = [];
  for (const [part, count] of Object.entries({ train: examples, valid: examples / 10, test: examples / 5 })) {
    const file = createWriteStream(`${out}/${part}.jsonl`);
    const random = new RandomStream(seed, `clicks/${part}`);
    const uniform = (at) => random.uint32(at) / 2 ** 32;
    const perExample = columns.length + 1;
    const dense = new Float32Array(numbers);
    const normal = new RandomStream(seed, `clicks/${part}/numbers`);
    for (let i = 0; i < count; i++) {
      normal.fillNormal(dense, 1, i * numbers);
      const ids = tables.map((table, c) => table.draw(uniform(i * perExample + c)));
      const score = scoreOf(tables, ids, dense);
      const click = Number(uniform(i * perExample + columns.length) < 1 / (1 + Math.exp(-score)));
      if (part === 'test') scores.push({ score, click });
      const fields = [
        `"click":${click}`,
        ...[...dense].map((x, n) => `"n${n + 1}":${x.toFixed(3)}`),
        ...ids.map((id, c) => `"${columns[c]}":${id}`),
      ];
      const line = `{${fields.join(',')}}\n`;
      if (!file.write(line)) await once(file, 'drain');
    }
    file.end();
    await once(file, 'finish');
  }
  const best = { auc: auc(scores), logLoss: logLoss(scores) };
  await writeFile(`${out}/best.json`, JSON.stringify(best));
  return { rows: tables.reduce((sum, table) => sum + table.rows, 0), best };
}

function makeTable(name, rows, seed) {
  const normals = (what, length, deviation) => {
    const values = new Float32Array(length);
    new RandomStream(seed, `clicks/${name}/${what}`).fillNormal(values, deviation);
    return values;
  };
  const base = normals('base', rows * dim, 0.5);
  const moved = base.slice();
  const how = normals('rows', rows * planted, 1);
  const directions = normals('directions', planted * dim, 0.5);
  for (let row = 0; row < rows; row++)
    for (let p = 0; p < planted; p++)
      for (let d = 0; d < dim; d++) moved[row * dim + d] += how[row * planted + p] * directions[p * dim + d];
  // The share of the rows up to each.
  const shares = new Float64Array(rows);
  let total = 0;
  for (let row = 0; row < rows; row++) shares[row] = total += (row + 1) ** -zipf;
  const draw = (share) => {
    let [low, high] = [0, rows - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (shares[middle] < share * total) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return { name, rows, base, moved, draw };
}

function scoreOf(tables, ids, dense) {
  let score = -0.5 + 0.5 * dense[0] - 0.5 * dense[1];
  for (const [a, b] of pairs) {
    let dot = 0;
    for (let d = 0; d < dim; d++) dot += tables[a].moved[ids[a] * dim + d] * tables[b].moved[ids[b] * dim + d];
    score += 0.25 * dot;
  }
  return score;
}

/** The share of pairs of a click and none whose scores are in order. */
function auc(scores) {
  let [clicks, inOrder] = [0, 0];
  const ascending = [...scores].sort((a, b) => a.score - b.score);
  ascending.forEach(({ click }, i) => {
    if (!click) return;
    inOrder += i - clicks;
    clicks++;
  });
  return inOrder / (clicks * (scores.length - clicks));
}

function logLoss(scores) {
  return scores.reduce((sum, { score, click }) => sum + Math.log1p(Math.exp(click ? -score : score)), 0) / scores.length;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { rows: { type: 'string' }, examples: { type: 'string' } } });
  const options = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)]));
  console.log(await generate(options));
}
