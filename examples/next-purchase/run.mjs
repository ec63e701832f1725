// Prepares the data, trains the base, runs sweep.yaml and prints what the test says of each variant.
//   node examples/next-purchase/run.mjs [--data DIR] [--out DIR] [--small]      --small: a quick look at a tenth of the invoices
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadAdapters, mergeAdapter, openTable, readJob, runJob } from 'finetable';
import { sweep } from '../sweep.mjs';
import { prepare, work } from './prepare.mjs';

const { values } = parseArgs({
  options: { data: { type: 'string' }, out: { type: 'string' }, small: { type: 'boolean', default: false } },
});
const { data, small } = values;
const out = resolve(values.out ?? (small ? `${work}-small` : work));
const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const { oldRows, newRows, examples } = await prepare({ data, out, ...(small && { invoices: 4000 }) });
console.log(`${oldRows} old and ${newRows} new products; ${Object.entries(examples).map(([part, count]) => `${part} ${count}`).join(', ')}`); // prettier-ignore

// The shop's vectors: `finetable train base.yaml`, `finetable merge`.
const base = await readJob(path('base.yaml'), [
  `tables.items.file=${out}/random.npy`,
  `data.train.file=${out}/base.jsonl`,
  `data.validation.file=${out}/base.jsonl`,
  `objective.frequencies=${out}/counts-base.npy`,
  ...(small ? ['train.epochs=2', 'data.workers=0'] : []),
]);
const { validation } = await runJob(base, { folder: `${out}/base`, existing: 'overwrite' });
console.log(`base: recall@20 ${validation['recall@20'].toFixed(3)} on a tenth of its own invoices\n`);
const random = await openTable(`${out}/random.npy`, { name: 'items' });
const [learnt] = await loadAdapters(`${out}/base/adapter`, [random]);
await mergeAdapter(learnt, `${out}/items.safetensors`, { overwrite: true });
learnt.close();
random.close();

const kinds = ['old', 'new'].flatMap((kind) => ['recall@20', 'ndcg@20'].map((metric) => `${metric}/product=${kind}`));
await sweep(path('sweep.yaml'), {
  test: `${out}/test.jsonl`,
  metrics: ['recall@20', 'ndcg@20', ...kinds],
  label: ({ baseline, 'adapters.items': adapter }) => {
    if (baseline !== 'none') return baseline;
    if (adapter.kind === 'dense') return 'new products in full, the rest frozen';
    return adapter.grown === 'tied' ? 'LoRA, r = 16' : 'LoRA, r = 16, new products in full';
  },
  data: { from: 'next-purchase', to: out },
  small,
});
