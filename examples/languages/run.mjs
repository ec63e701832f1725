// The quickstart: which language is a snippet of source text in? Trains the same classifier on a frozen table of 1,000,000
// hashed n-grams and with a LoRA adapter over it, from the files under node_modules, and prints both side by side.
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { evaluateRun, formatBytes, readJob, runJob } from 'finetable';
import { makeExamples, makeTable } from './prepare.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const cache = resolve(root, '.cache/languages');
const job = fileURLToPath(new URL('job.yaml', import.meta.url));
const begun = performance.now();
const seconds = () => `${((performance.now() - begun) / 1000).toFixed(1)} s`.padStart(7);
const say = (text) => console.log(`${seconds()}  ${text}`);

const { sides } = await makeExamples({
  nodeModules: resolve(root, 'node_modules'),
  out: `${cache}/examples`,
  seed: 1,
});
const total = (side) => Object.values(side).reduce((sum, { snippets }) => sum + snippets, 0);
say(`snippets of ${Object.keys(sides.train).length} languages from node_modules, whole packages on one side:`);
say(`${total(sides.train)} to train on, ${total(sides.valid)} to choose by, ${total(sides.test)} held out`);
await makeTable({ out: `${cache}/ngrams.safetensors`, rows: 1_000_000, dim: 64, seed: 1 });
say('a frozen table of 1,000,000 x 64 n-gram vectors');

// The frozen table's job is the same without the adapter; the head's settings suit both (see README.md).
const variants = {
  frozen: ['name=languages-frozen', 'output=../../.cache/languages/runs/frozen', 'adapters={}'],
  LoRA: [],
};
const rows = [];
for (const [name, overrides] of Object.entries(variants)) {
  const loaded = await readJob(job, overrides);
  const folder = resolve(loaded.folder, loaded.job.output);
  const result = await runJob(loaded, {
    existing: 'overwrite',
    onEvent: (event) => {
      if (event.type === 'evaluation')
        say(`${name.padEnd(6)}  epoch ${event.epoch + 1}: validation accuracy ${event.metrics.accuracy.toFixed(3)}`);
    },
  });
  const held = await evaluateRun(folder, `${cache}/examples/test.jsonl`);
  rows.push({ name, result, held });
}

const adapter = rows[1].result.adapters.ngrams;
const table = rows[1].result.tables.ngrams;
const column = (label, show) =>
  console.log(`${label.padEnd(30)}${rows.map((row) => String(show(row)).padStart(14)).join('')}`);
console.log();
column('', ({ name }) => name);
column('accuracy on held-out packages', ({ held }) => held.accuracy.toFixed(3));
column('loss on held-out packages', ({ held }) => held.loss.toFixed(3));
column('milliseconds a step', ({ result }) => result.stepMilliseconds.toFixed(1));
column('examples a second', ({ result }) => Math.round(result.examplesPerSecond).toLocaleString('en'));
column('waiting for data', ({ result }) => `${((100 * result.waitSeconds) / result.seconds).toFixed(1)} %`);
column('peak memory of the process', ({ result }) => formatBytes(result.peakMemoryBytes));
column('touched rows', ({ result }) => result.adapters.ngrams?.touchedRows.toLocaleString('en') ?? '-');
column('adapter', ({ result }) => (result.adapters.ngrams ? formatBytes(result.adapters.ngrams.adapterBytes) : '-'));
console.log(
  `\nThe table has ${formatBytes(table.bytes)} in ${table.rows.toLocaleString('en')} rows and was not changed; the adapter is ${((100 * adapter.adapterBytes) / table.bytes).toFixed(1)} % of it.`,
);
console.log(
  `Kernels: ${rows[0].result.kernels}. The runs are in ${cache}/runs; next: npx finetable inspect ${cache}/runs/lora`,
);
