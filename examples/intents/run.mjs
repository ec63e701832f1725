// Trains the three jobs of this folder as they are, evaluates each on the test split, and prints them side by side.
//   node examples/intents/run.mjs [job.yaml ...] [--data DIR]
import { parseArgs } from 'node:util';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { evaluateRun, formatBytes, readJob, runJob } from 'finetable';
import { findData, jobPaths } from './data.mjs';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { data: { type: 'string' } } });
const data = findData(values.data);
const here = fileURLToPath(new URL('.', import.meta.url));
const jobs =
  positionals.length > 0 ? positionals : ['frozen.yaml', 'lora.yaml', 'full.yaml'].map((name) => here + name);

console.log('job                        test accuracy   loss    epochs   examples/s   touched rows   adapter');
for (const path of jobs) {
  const loaded = await readJob(path, jobPaths(data));
  const folder = `${here}runs/${loaded.job.name}`;
  const result = await runJob(loaded, { folder, existing: 'overwrite' });
  const test = await evaluateRun(folder, `${data}/banking77/test.csv`);
  const adapter = result.adapters.words;
  console.log(
    [
      basename(path).padEnd(26),
      test.accuracy.toFixed(3).padStart(13),
      test.loss.toFixed(3).padStart(7),
      String(result.epochs).padStart(9),
      Math.round(result.examplesPerSecond).toLocaleString('en').padStart(12),
      (adapter ? adapter.touchedRows.toLocaleString('en') : '-').padStart(14),
      (adapter ? formatBytes(adapter.adapterBytes) : '-').padStart(9),
    ].join(' '),
  );
}
