// How long a training job at full speed waits for its loader: classification on words, or on ids, whose steps are as short as steps get.
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadKernels } from '@finetable/kernels';
import { adamw, createAdapter } from '@finetable/lora';
import { openLoader } from '@finetable/data';
import { classification, Trainer } from '@finetable/trainer';
import { RandomStream } from '@finetable/core';
import { makeTable, rank } from './tables.mjs';

const V = 1_000_000;
const D = 64;
const batchSize = 1024;
const wordsPerText = 12;
const classes = Array.from({ length: 20 }, (_, c) => `class ${c}`);
const epochBatches = 150;
const epochs = 5;
/** The default of a job. */
const cacheBytes = 2 ** 28;

/** Words as frequent as in texts: the k-th about 1 / k as often as the first. */
function writeData(folder) {
  const vocabulary = join(folder, 'words.txt');
  writeFileSync(vocabulary, Array.from({ length: V }, (_, v) => `word${v}\n`).join(''));
  const files = { words: join(folder, 'words.jsonl'), ids: join(folder, 'ids.jsonl') };
  const random = new RandomStream(1, 'texts');
  const [words, ids] = [openSync(files.words, 'w'), openSync(files.ids, 'w')];
  for (let i = 0, at = 0; i < epochBatches; i++) {
    let [texts, lists] = ['', ''];
    for (let j = 0; j < batchSize; j++) {
      const rows = Array.from({ length: wordsPerText }, () => Math.floor(V ** (random.below(at++, 2 ** 24) / 2 ** 24)));
      const label = classes[(i + j) % classes.length];
      texts += `${JSON.stringify({ text: rows.map((row) => `word${row}`).join(' '), label })}\n`;
      lists += `${JSON.stringify({ ids: rows, label })}\n`;
    }
    writeSync(words, texts);
    writeSync(ids, lists);
  }
  for (const fd of [words, ids]) closeSync(fd);
  return { vocabulary, files };
}

export async function measureWaiting(report) {
  const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
  try {
    const { vocabulary, files } = writeData(folder);
    const features = {
      words: { table: 'words', column: 'text', tokens: { vocabulary } },
      ids: { table: 'words', column: 'ids' },
    };
    report.section(
      'Waiting for data',
      `Training a classification on words, or on their ids: V = ${V / 1e6}M, D = ${D}, r = ${rank}, batches of ${batchSize} texts of ${wordsPerText} words, JSON Lines, shuffled; lazy AdamW, all threads. ` +
        `Examples are kept between epochs, as in a job: ${epochs} epochs after the first, and the first by itself, which reads and parses.`,
    );
    for (const name of ['words', 'ids']) {
      const data = {
        source: { file: files[name] },
        features: { input: features[name] },
        labels: { label: { column: 'label', classes } },
        tables: { words: { rows: V } },
      };
      for (const workers of [1, 2]) await measure(report, name, data, workers);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function measure(report, name, data, workers) {
  const kernels = loadKernels();
  const table = makeTable(kernels, V, D);
  const loader = await openLoader(data, { batchSize, workers, shuffle: true, cacheBytes });
  const adapter = createAdapter(table, { rank, alpha: 16 });
  const trainer = new Trainer({
    adapters: { words: adapter },
    objective: classification({ input: 'input', label: 'label' }),
    optimizer: adamw({ learningRate: 1e-3, mode: 'lazy' }),
  });
  const first = await trainer.fit(loader, { epochs: 1 });
  const before = loader.statistics;
  const { seconds, waitSeconds, steps } = await trainer.fit(loader, { epochs });
  const after = loader.statistics;
  await loader.close();
  adapter.close();
  table.close();

  const perBatch = (field, of = (statistics) => statistics) =>
    (1000 * (of(after)[field] - of(before)[field])) / (after.batches - before.batches);
  const stage = (field) => perBatch(field, ({ stages }) => stages).toFixed(2);
  const what = `${name}, ${workers} ${workers === 1 ? 'worker' : 'workers'}`;
  const step = (1000 * (seconds - waitSeconds)) / steps;
  report.value(
    `waiting for data: ${what}`,
    'time of training',
    [(100 * waitSeconds) / seconds],
    ' %',
    { atMost: 5 },
    `${steps} steps of ${step.toFixed(2)} ms`,
  );
  report.remark(
    `The first epoch, ${what}: ${((100 * first.waitSeconds) / first.seconds).toFixed(0)} % of its ${first.seconds.toFixed(2)} s. Then a batch: ${perBatch('workSeconds').toFixed(2)} ms of a worker (reading ${stage('readSeconds')}, values to rows ${stage('extractSeconds')}, plan ${stage('planSeconds')}), handed over in ${stage('handoverSeconds')} ms.`,
  );
}
