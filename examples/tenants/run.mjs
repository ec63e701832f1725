// A hundred tenants on one table: `finetable batch` trains an adapter for each, and then one lookup answers a batch in which every example is another
// tenant's.
//   node examples/tenants/run.mjs [--tenants 100] [--out DIR]
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import {
  AdapterSet,
  formatBytes,
  jagged,
  loadAdapters,
  makePlan,
  matrix,
  openTable,
  readBatch,
  readResult,
  runJobs,
} from 'finetable';
import { prepare, work } from './prepare.mjs';

const { values } = parseArgs({
  options: { tenants: { type: 'string', default: '100' }, out: { type: 'string', default: work } },
});
const { out } = values;
const names = await prepare({ out, tenants: Number(values.tenants) });

// What `finetable batch batch.yaml` does.
const batch = await readBatch(`${out}/batch.yaml`);
const begun = performance.now();
const outcomes = await runJobs(batch.jobs.map(({ loaded }) => loaded), { existing: 'overwrite' });
const failed = outcomes.find(({ error }) => error);
if (failed) throw failed.error;
const seconds = (performance.now() - begun) / 1000;
console.log(`${outcomes.length} jobs in ${seconds.toFixed(1)} s, ${formatBytes(Math.max(...(await Promise.all(outcomes.map(({ folder }) => readResult(folder)))).map(({ peakMemoryBytes }) => peakMemoryBytes)))} of memory at most`); // prettier-ignore

// One table, and all adapters on it.
const table = await openTable(`${out}/items.npy`, { name: 'histories' });
const set = new AdapterSet(table);
let adapterBytes = 0;
for (const { name, folder } of outcomes) {
  const [adapter] = await loadAdapters(`${folder}/adapter`, [table]);
  adapterBytes += adapter.memory.adapterBytes;
  set.add(name, adapter);
}
console.log(`${set.names.length} adapters of ${formatBytes(adapterBytes)} together on a table of ${formatBytes(table.sizeBytes)}`);

// Everybody's questions in one batch, by turns.
const questions = [];
for (const name of names) {
  const lines = (await readFile(`${out}/${name}-test.jsonl`, 'utf8')).trimEnd().split('\n');
  lines.forEach((line, i) => questions.push({ order: i, ...JSON.parse(line) }));
}
questions.sort((a, b) => a.order - b.order);
const plan = makePlan(jagged(questions.map(({ history }) => history)), table.rows, { pooling: 'mean' });
const tenants = questions.map(({ tenant }) => tenant);
const shift = tenants.map((_, i) => tenants[(i + 1) % tenants.length]);

async function recall(lookup) {
  const queries = matrix(questions.length, table.dim);
  lookup(queries);
  const { rows } = await table.nearest(queries, 20);
  const found = questions.filter(({ next }, i) => rows.subarray(20 * i, 20 * (i + 1)).includes(next));
  return (found.length / questions.length).toFixed(3);
}

console.log(`\n| ${questions.length} questions of ${names.length} tenants | recall@20 |`);
console.log('|---|---|');
console.log(`| shared vectors | ${await recall((queries) => table.lookup(plan, queries))} |`);
console.log(`| each with its tenant's adapter | ${await recall((queries) => set.lookupMixed(plan, tenants, queries))} |`);
console.log(`| each with another tenant's | ${await recall((queries) => set.lookupMixed(plan, shift, queries))} |`);

/** Milliseconds: the median of several, in turns. */
const queries = matrix(questions.length, table.dim);
set.activate(names[0]);
const subjects = [() => table.lookup(plan, queries), () => set.lookup(plan, queries), () => set.lookupMixed(plan, tenants, queries)]; // prettier-ignore
const times = subjects.map(() => []);
for (let round = 0; round < 60; round++)
  subjects.forEach((lookup, s) => {
    const start = performance.now();
    lookup();
    times[s].push(performance.now() - start);
  });
const [base, one, mixed] = times.map((series) => series.sort((a, b) => a - b)[30].toFixed(2));
console.log(`\none lookup of ${questions.length} bags: ${base} ms of the base, ${one} ms with one adapter for all, ${mixed} ms with ${names.length}`); // prettier-ignore
set.close();
table.close();
