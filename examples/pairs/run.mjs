// Makes the data (200 items with random vectors, in ten groups that nothing tells), trains job.yaml and prints what it has learnt.
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { matrix, permutation, RandomStream } from '@finetable/core';
import { writeNpy } from '@finetable/formats';
import { evaluateRun, readJob, runJob } from 'finetable';

const items = 200;
const groups = 10;
const dim = 16;
const cache = fileURLToPath(new URL('../../.cache/pairs', import.meta.url));
await mkdir(cache, { recursive: true });

const vectors = matrix(items, dim);
new RandomStream(1, 'vectors').fillNormal(vectors.data);
await writeNpy(`${cache}/items.npy`, { dtype: 'F32', shape: [items, dim], data: vectors.data });

// Half of the pairs match: the second item is drawn from the first one's group.
const groupOf = permutation(items, 2, 'groups').map((place) => place % groups);
const random = new RandomStream(3, 'pairs');
const pairs = Array.from({ length: 6000 }, (_, i) => {
  const left = random.below(3 * i, items);
  const own = groupOf.reduce((ids, group, id) => (group === groupOf[left] ? [...ids, id] : ids), []);
  const right = i % 2 === 0 ? own[random.below(3 * i + 1, own.length)] : random.below(3 * i + 1, items);
  return { left, right, match: groupOf[left] === groupOf[right] ? 'yes' : 'no' };
});
const csv = (rows) => ['left,right,match', ...rows.map((row) => Object.values(row).join(','))].join('\n') + '\n';
const splits = { train: pairs.slice(0, 5000), valid: pairs.slice(5000, 5500), test: pairs.slice(5500) };
for (const [name, rows] of Object.entries(splits)) await writeFile(`${cache}/${name}.csv`, csv(rows));

const loaded = await readJob(fileURLToPath(new URL('job.yaml', import.meta.url)));
const folder = `${cache}/run`;
const result = await runJob(loaded, {
  folder,
  existing: 'overwrite',
  onEvent: (event) => {
    if (event.type === 'evaluation')
      console.log(`epoch ${event.epoch + 1}: validation accuracy ${event.metrics.accuracy.toFixed(3)}`);
  },
});
const { accuracy } = await evaluateRun(folder, `${cache}/test.csv`);
console.log(`${result.adapters.items.touchedRows} items touched; test accuracy ${accuracy.toFixed(3)}`);
