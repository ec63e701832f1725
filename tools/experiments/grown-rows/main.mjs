// What should rows that were added to a table be trained with? Item vectors of a year of baskets, adapted to ten months more in
// which items appear that the table never saw; README.md has the table that this prints.
//   node tools/experiments/grown-rows/main.mjs --data DIR [--settings 6] [--seeds 3] [--epochs 6] [--init mean] [--only METHOD ...]
import { parseArgs } from 'node:util';
import { matrix, permutation, RandomStream, range } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { createAdapter } from '@finetable/lora';
import { createTable, growTable } from '@finetable/placement';
import { findEvents, readBaskets } from './data.mjs';
import { evaluate, examplesOf, train } from './model.mjs';

const { values: flags } = parseArgs({
  options: {
    data: { type: 'string' },
    settings: { type: 'string', default: '6' },
    seeds: { type: 'string', default: '3' },
    epochs: { type: 'string', default: '6' },
    init: { type: 'string', default: 'mean' },
    only: { type: 'string', multiple: true },
  },
});
const [settings, seeds, epochs] = [flags.settings, flags.seeds, flags.epochs].map(Number);
const dim = 48;
const begun = performance.now();
const note = (text) => console.error(`${((performance.now() - begun) / 1000).toFixed(0).padStart(5)} s  ${text}`);

const { known, rows, base, adapt, ...held } = readBaskets(findEvents(flags.data));
const validation = examplesOf(held.validation, 1, 'validation');
const test = examplesOf(held.test, 1, 'test');
const kernels = loadKernels();

// The base: every vector trained from random ones, on the first year.
const start = matrix(known, dim);
new RandomStream(0, 'start').fillNormal(start.data, 0.1);
const random = createTable('items', start, { kernels });
const maker = createAdapter(random, { kind: 'dense' });
train(maker, base, { epochs: 10, learningRate: 0.01, seed: 0 });
const items = createTable('items', maker.vectors(range(known)), { kernels });
maker.close();
random.close();
const table = await growTable(items, { count: rows - known, init: flags.init });
items.close();
const newTargets = test.filter(({ target }) => target >= known).length;
note(
  `${known} items known, ${rows - known} added; ${adapt.length} baskets to adapt on; ${newTargets} of ${test.length} test items are new`,
);

/** By what they do with old rows, and with new ones; of two learning rates. */
const methods = {
  'rank 4, tied': (old) => ({ rank: 4, grown: 'tied', learningRate: old }),
  'rank 16, tied': (old) => ({ rank: 16, grown: 'tied', learningRate: old }),
  'rank 4, new: own rank 4': (old, added) => ({ rank: 4, learningRate: old, grown: { rank: 4, learningRate: added } }),
  'rank 4, new: own rank 16': (old, added) => ({
    rank: 4,
    learningRate: old,
    grown: { rank: 16, learningRate: added },
  }),
  'rank 4, new: dense': (old, added) => ({ rank: 4, learningRate: old, grown: { kind: 'dense', learningRate: added } }),
  'rank 16, new: own rank 16': (old, added) => ({
    rank: 16,
    learningRate: old,
    grown: { rank: 16, learningRate: added },
  }),
  'rank 16, new: dense': (old, added) => ({
    rank: 16,
    learningRate: old,
    grown: { kind: 'dense', learningRate: added },
  }),
  'frozen, new: rank 4': (_, added) => ({ rank: 4, learningRate: added, rows: { from: known } }),
  'frozen, new: dense': (_, added) => ({ kind: 'dense', learningRate: added, rows: { from: known } }),
  'all dense': (old) => ({ kind: 'dense', learningRate: old }),
};

/** Trained with these settings: metrics of the epoch that validation likes best. */
function attempt(method, [old, added], seed, withTest) {
  const adapter = createAdapter(table, { ...methods[method](old, added), seed });
  let best = null;
  train(adapter, adapt, { epochs, learningRate: old, seed }, (epoch) => {
    const found = evaluate(adapter, validation, known);
    if (best && found.all.ndcg <= best.validation.all.ndcg) return;
    best = { epoch: epoch + 1, validation: found, test: withTest ? evaluate(adapter, test, known) : null };
  });
  adapter.close();
  return best;
}

/** The same pairs of learning rates for every method: a Latin square of 0.001 to 0.1 on a logarithmic scale. */
const order = permutation(settings, 7, 'rates');
const rates = Array.from({ length: settings }, (_, i) =>
  [i, order[i]].map((stratum) => Number((0.001 * 100 ** ((stratum + 0.5) / settings)).toPrecision(2))),
);

const show = (found) =>
  ['all', 'old', 'new'].map((part) => `${found[part].hr.toFixed(3)} / ${found[part].ndcg.toFixed(3)}`);
const spread = (found, part) => {
  const values = found.map((test) => test[part].hr);
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
};
const mean = (found) =>
  Object.fromEntries(
    ['all', 'old', 'new'].map((part) => {
      const of = (name) => found.reduce((sum, test) => sum + test[part][name], 0) / found.length;
      return [part, { hr: of('hr'), ndcg: of('ndcg') }];
    }),
  );

console.log(
  '| old rows, new rows | learning rates | HR@10 / NDCG@10, all | old items | new items | spread of HR@10, all |',
);
console.log('|---|---|---|---|---|---|');
const frozen = createAdapter(table, { rank: 1 });
console.log(`| frozen | | ${show(evaluate(frozen, test, known)).join(' | ')} | |`);
note(`frozen: validation ${show(evaluate(frozen, validation, known)).join(', ')}`);
frozen.close();
for (const method of flags.only ?? Object.keys(methods)) {
  let chosen = null;
  for (const pair of rates) {
    const best = attempt(method, pair, 0, false);
    note(`${method}: ${pair.join(', ')}: epoch ${best.epoch}, validation ${show(best.validation).join(', ')}`);
    if (!chosen || best.validation.all.ndcg > chosen.ndcg) chosen = { pair, ndcg: best.validation.all.ndcg };
  }
  const tests = Array.from({ length: seeds }, (_, seed) => attempt(method, chosen.pair, seed + 1, true).test);
  const used =
    method.includes('new: own') || /^rank.*dense/.test(method)
      ? chosen.pair.join(', ')
      : chosen.pair[method.startsWith('frozen') ? 1 : 0];
  console.log(`| ${method} | ${used} | ${show(mean(tests)).join(' | ')} | ${spread(tests, 'all').toFixed(3)} |`);
}
note('done');
