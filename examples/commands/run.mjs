// Prepares the data, runs sweep.yaml and prints what the test says of each variant.
//   node examples/commands/run.mjs [--data DIR] [--out DIR] [--small]      --small: a quick look at a tenth of the pages
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { sweep } from '../sweep.mjs';
import { prepare, work } from './prepare.mjs';

const { values } = parseArgs({
  options: { data: { type: 'string' }, out: { type: 'string' }, small: { type: 'boolean', default: false } },
});
const { data, small } = values;
const out = resolve(values.out ?? (small ? `${work}-small` : work));
const counts = await prepare({ data, out, ...(small && { pages: 700 }) });
console.log(
  `${Object.entries(counts)
    .map(([side, count]) => `${side} ${count}`)
    .join(', ')}\n`,
);

await sweep(fileURLToPath(new URL('sweep.yaml', import.meta.url)), {
  test: `${out}/test.jsonl`,
  metrics: ['recall@1', 'recall@10', 'mrr@1000'],
  label: ({ baseline, 'adapters.words.rank': rank }) => (baseline === 'none' ? `LoRA, r = ${rank}` : baseline),
  data: { from: 'commands', to: out },
  small,
});
