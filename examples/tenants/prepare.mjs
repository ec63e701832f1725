// Makes what job.yaml names, in `out`, from a seed: the vectors of 2,000 items, and of each tenant train, valid and test examples of what somebody
// with a history of items wants next; and batch.yaml, with a job for each tenant.
//   node examples/tenants/prepare.mjs [--tenants 100]
//
// What a history leads to differs between tenants: in two directions of its own, a tenant's people go from what they have to something else. So a
// tenant's truth is the shared vectors and a change of low rank.
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { matrix, RandomStream, writeNpy } from 'finetable';

export const work = fileURLToPath(new URL('../../.cache/tenants', import.meta.url));
const items = 2000;
const dim = 32;
const turned = 2;
const strength = 6;
const perHistory = 4;
const counts = { train: 3000, valid: 200, test: 100 };
/** Of the choice of an item by its likeness to what is wanted. */
const candidates = 200;

/** @param {{ out?: string, tenants?: number, seed?: number }} options @returns the tenants' names */
export async function prepare({ out = work, tenants = 100, seed = 1 } = {}) {
  await mkdir(out, { recursive: true });
  const vectors = matrix(items, dim);
  new RandomStream(seed, 'tenants/items').fillNormal(vectors.data);
  await writeNpy(`${out}/items.npy`, { dtype: 'F32', shape: [items, dim], data: vectors.data });

  const names = Array.from({ length: tenants }, (_, i) => `tenant-${String(i + 1).padStart(3, '0')}`);
  for (const name of names) {
    const from = normals(`${name}/from`, seed);
    const to = normals(`${name}/to`, seed);
    for (const [part, count] of Object.entries(counts)) {
      const random = new RandomStream(seed, `tenants/${name}/${part}`);
      const lines = Array.from({ length: count }, (_, i) => {
        const at = i * (perHistory + candidates);
        const history = Array.from({ length: perHistory }, (_, k) => random.below(at + k, items));
        const wanted = turn(meanOf(history, vectors), from, to);
        // The best of some, which are others each time.
        let [next, most] = [0, -Infinity];
        for (let c = 0; c < candidates; c++) {
          const item = random.below(at + perHistory + c, items);
          const likeness = dot(vectors.data, item * dim, wanted);
          if (likeness > most) [next, most] = [item, likeness];
        }
        return `${JSON.stringify({ tenant: name, history, next })}\n`;
      });
      await writeFile(`${out}/${name}-${part}.jsonl`, lines.join(''));
    }
  }
  const jobs = names.map((name) => {
    const files = ['train', 'validation'].map((field) => `data.${field}.file: ${out}/${name}-${field.slice(0, 5)}.jsonl`);
    return `  - { job: *job, name: ${name}, set: { ${files.join(', ')} } }\n`;
  });
  const job = fileURLToPath(new URL('job.yaml', import.meta.url));
  const tables = ['histories', 'items'].map((table) => `tables.${table}.file: ${out}/items.npy`);
  await writeFile(`${out}/batch.yaml`, `output: runs\nset: { ${tables.join(', ')} }\njobs:\n${jobs.join('').replaceAll('*job', job)}`);
  return names;
}

function normals(name, seed) {
  const values = new Float32Array(turned * dim);
  new RandomStream(seed, `tenants/${name}`).fillNormal(values, 1 / Math.sqrt(dim));
  return values;
}

function meanOf(rows, { data }) {
  const mean = new Float32Array(dim);
  for (const row of rows) for (let d = 0; d < dim; d++) mean[d] += data[row * dim + d] / rows.length;
  return mean;
}

/** x, and `strength` times as much of `to` as there is of `from` in it. */
function turn(x, from, to) {
  const out = x.slice();
  for (let k = 0; k < turned; k++) {
    const much = strength * dot(from, k * dim, x);
    for (let d = 0; d < dim; d++) out[d] += much * to[k * dim + d];
  }
  return out;
}

function dot(a, from, b) {
  let sum = 0;
  for (let d = 0; d < dim; d++) sum += a[from + d] * b[d];
  return sum;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { tenants: { type: 'string', default: '100' } } });
  const names = await prepare({ tenants: Number(values.tenants) });
  console.log(`${names.length} tenants, ${names[0]} to ${names.at(-1)}`);
}
