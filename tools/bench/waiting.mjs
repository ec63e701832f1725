// How long a training job at full speed waits for its loader: classification on words, whose steps are as short as steps get.
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
const epochs = 3;

/** Words as frequent as in texts: the k-th about 1 / k as often as the first. */
function writeData(folder) {
  const vocabulary = join(folder, 'words.txt');
  writeFileSync(vocabulary, Array.from({ length: V }, (_, v) => `word${v}\n`).join(''));
  const file = join(folder, 'texts.jsonl');
  const random = new RandomStream(1, 'texts');
  const fd = openSync(file, 'w');
  for (let i = 0, at = 0; i < epochBatches; i++) {
    let lines = '';
    for (let j = 0; j < batchSize; j++) {
      const words = Array.from(
        { length: wordsPerText },
        () => `word${Math.floor(V ** (random.below(at++, 2 ** 24) / 2 ** 24))}`,
      );
      lines += `${JSON.stringify({ text: words.join(' '), label: classes[(i + j) % classes.length] })}\n`;
    }
    writeSync(fd, lines);
  }
  closeSync(fd);
  return { vocabulary, file };
}

export async function measureWaiting(report) {
  const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
  try {
    const { vocabulary, file } = writeData(folder);
    const data = {
      source: { file },
      features: { text: { table: 'words', column: 'text', tokens: { vocabulary } } },
      labels: { label: { column: 'label', classes } },
      tables: { words: { rows: V } },
    };
    report.section(
      'Waiting for data',
      `Training a classification on words: V = ${V / 1e6}M, D = ${D}, r = ${rank}, batches of ${batchSize} texts of ${wordsPerText} words, JSON Lines, shuffled; lazy AdamW, all threads.`,
    );
    for (const workers of [1, 2]) await measure(report, data, workers);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function measure(report, data, workers) {
  const kernels = loadKernels();
  const table = makeTable(kernels, V, D);
  const loader = await openLoader(data, { batchSize, workers, shuffle: true });
  const adapter = createAdapter(table, { rank, alpha: 16 });
  const trainer = new Trainer({
    adapters: { words: adapter },
    objective: classification({ input: 'text', label: 'label' }),
    optimizer: adamw({ learningRate: 1e-3, mode: 'lazy' }),
  });
  // Its vocabulary is read by then, and V8 has compiled what there is to compile.
  await trainer.fit(loader, { epochs: 1 });
  const before = loader.statistics;
  const { seconds, waitSeconds, steps } = await trainer.fit(loader, { epochs });
  const after = loader.statistics;
  await loader.close();
  adapter.close();
  table.close();

  const perBatch = (name, of = (statistics) => statistics) =>
    (1000 * (of(after)[name] - of(before)[name])) / (after.batches - before.batches);
  const stage = (name) => perBatch(name, ({ stages }) => stages).toFixed(2);
  const step = (1000 * (seconds - waitSeconds)) / steps;
  report.value(
    `waiting for data, ${workers} ${workers === 1 ? 'worker' : 'workers'}`,
    'time of training',
    [(100 * waitSeconds) / seconds],
    ' %',
    { atMost: 5 },
    `${steps} steps of ${step.toFixed(2)} ms`,
  );
  report.remark(
    `A batch, ${workers} ${workers === 1 ? 'worker' : 'workers'}: ${perBatch('workSeconds').toFixed(2)} ms of a worker (reading ${stage('readSeconds')}, words to rows ${stage('extractSeconds')}, plan ${stage('planSeconds')}), handed over in ${stage('handoverSeconds')} ms.`,
  );
}
