// Makes the data, runs sweep.yaml and prints what the test says of each variant, beside the best that anybody could do.
//   node examples/clicks/run.mjs [--rows 5000] [--examples 100000] [--out DIR] [--small]      --rows: of the largest of the 26 tables
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { sweep } from '../sweep.mjs';
import { generate, work } from './generate.mjs';

const { values } = parseArgs({
  options: {
    rows: { type: 'string' },
    examples: { type: 'string' },
    out: { type: 'string' },
    small: { type: 'boolean', default: false },
  },
});
const { small } = values;
const out = resolve(values.out ?? (small ? `${work}-small` : work));
const [rows, examples] = [values.rows ?? (small ? 100 : 5000), values.examples ?? (small ? 8000 : 100_000)].map(Number);
const made = await generate({ out, rows, examples });
console.log(`${made.rows.toLocaleString('en')} rows in 26 tables, ${examples.toLocaleString('en')} examples`);
console.log(`the planted model itself: auc ${made.best.auc.toFixed(3)}, log-loss ${made.best.logLoss.toFixed(3)}\n`);

await sweep(fileURLToPath(new URL('sweep.yaml', import.meta.url)), {
  test: `${out}/test.jsonl`,
  metrics: ['auc', 'log-loss', 'normalized-entropy'],
  label: ({ baseline }) => (baseline === 'none' ? 'LoRA, r = 4' : baseline),
  data: { from: 'clicks', to: out },
  small,
});
