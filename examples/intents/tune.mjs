// Tunes the three jobs with the same effort: as many random settings each, all chosen by a validation split of the training
// data; the test split is looked at once, with the chosen setting. Prints Markdown tables.
//   node examples/intents/tune.mjs [--trials 24] [--data DIR] [frozen lora full]
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';
import { evaluateRun, permutation, RandomStream, readJob, runJob } from 'finetable';
import { findData, jobPaths } from './data.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { data: { type: 'string' }, trials: { type: 'string', default: '24' } },
});
const data = findData(values.data);
const here = fileURLToPath(new URL('.', import.meta.url));
const work = fileURLToPath(new URL('../../.cache/intents', import.meta.url));
const validationShare = 0.15;

/** The training data in two files, the same for everybody. */
async function split() {
  await mkdir(work, { recursive: true });
  const rows = parse(await readFile(`${data}/banking77/train.csv`), { columns: true });
  const order = permutation(rows.length, 1, 'intents/validation');
  const count = Math.round(rows.length * validationShare);
  const lines = (indices) => [...indices].map((i) => `${JSON.stringify(rows[i])}\n`).join('');
  await writeFile(`${work}/valid.jsonl`, lines(order.subarray(0, count)));
  await writeFile(`${work}/fit.jsonl`, lines(order.subarray(count)));
}

/** Random settings: a number per name, drawn once per trial. */
const random = new RandomStream(11, 'intents/settings');
let drawn = 0;
const pick = (...choices) => choices[random.below(drawn++, choices.length)];
const logUniform = (low, high) => Number((low * (high / low) ** (random.uint32(drawn++) / 2 ** 32)).toPrecision(2));

const head = () => ({
  'objective.learningRate': logUniform(0.003, 0.1),
  'objective.normalize': pick(true, false),
});
const spaces = {
  frozen: head,
  lora: () => {
    const rate = logUniform(0.00003, 0.003);
    return {
      ...head(),
      'adapters.words.learningRate': rate,
      'adapters.words.learningRateB': pick(0, Number((rate / 10).toPrecision(2)), rate),
      'adapters.words.rank': pick(4, 8, 32, 64),
      'adapters.words.alpha': pick(1, 4, 16, 64),
    };
  },
  full: () => ({ ...head(), 'adapters.words.learningRate': logUniform(0.00003, 0.003) }),
};

await split();
for (const name of positionals.length > 0 ? positionals : Object.keys(spaces)) {
  const trials = [];
  for (let trial = 0; trial < Number(values.trials); trial++) {
    const settings = spaces[name]();
    const loaded = await readJob(`${here}${name}.yaml`, [
      ...jobPaths(data),
      `data.train.file=${work}/fit.jsonl`,
      `data.validation.file=${work}/valid.jsonl`,
      'train.epochs=100',
      'train.patience=10',
      'train.metric=accuracy',
      ...Object.entries(settings).map(([path, value]) => `${path}=${value}`),
    ]);
    const folder = `${work}/${name}-${trial}`;
    const { validation, epochs } = await runJob(loaded, { folder, existing: 'overwrite' });
    trials.push({ settings, validation, epochs, folder });
  }
  trials.sort((a, b) => b.validation.accuracy - a.validation.accuracy);
  const paths = Object.keys(trials[0].settings);
  console.log(`\n### ${name}\n`);
  console.log(
    `| ${paths.map((path) => path.replace(/^(objective|adapters\.words)\./, (_, group) => (group === 'objective' ? 'head ' : ''))).join(' | ')} | epochs | validation | test |`,
  );
  console.log(`|${'---|'.repeat(paths.length + 3)}`);
  for (const [rank, { settings, validation, epochs, folder }] of trials.entries()) {
    const test = rank === 0 ? (await evaluateRun(folder, `${data}/banking77/test.csv`)).accuracy.toFixed(3) : '';
    console.log(`| ${Object.values(settings).join(' | ')} | ${epochs} | ${validation.accuracy.toFixed(3)} | ${test} |`);
    await rm(folder, { recursive: true });
  }
}
