// How long the loop stands still for a checkpoint, and how large the loop's own part of a training is.
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatBytes, matrix, RandomStream } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';
import { adamw, createAdapter } from '@finetable/lora';
import { openLoader } from '@finetable/data';
import { classification, Trainer } from '@finetable/trainer';
import { medianOf } from './measure.mjs';
import { makeTable, million, rank } from './tables.mjs';

const V = 4 * million;
const D = 16;
const touched = 3_300_000;
const batchSize = 256;
const idsPerExample = 16;
const batchesPerEpoch = 390;
const everySteps = 200;
const updateRows = 2 ** 16;

function writeData(path) {
  const random = new RandomStream(1, 'ids');
  let text = '';
  for (let i = 0, at = 0; i < batchSize * batchesPerEpoch; i++) {
    const ids = Array.from({ length: idsPerExample }, () => random.below(at++, touched));
    text += `${JSON.stringify({ ids, label: `class ${i % 10}` })}\n`;
  }
  writeFileSync(path, text);
}

/** One whose first rows have all been trained once. */
function makeTouched(table, optimizer) {
  const adapter = createAdapter(table, { rank, alpha: 16 });
  adapter.startTraining(optimizer);
  const rows = matrix(updateRows, rank);
  new RandomStream(3, 'gradient').fillNormal(rows.data, 1e-3);
  for (let first = 0; first < touched; first += updateRows) {
    const uniqueRows = Int32Array.from({ length: Math.min(updateRows, touched - first) }, (_, i) => first + i);
    const own = matrix(uniqueRows.length, rank, rows.data.subarray(0, uniqueRows.length * rank));
    adapter.update({ uniqueRows }, { groups: [{ members: null, rows: own, b: null }], magnitude: null });
  }
  return adapter;
}

const sizeOf = (folder) => readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);

export async function measureCheckpoints(report) {
  const folder = mkdtempSync(join(tmpdir(), 'finetable-bench-'));
  const table = makeTable(loadKernels(), V, D);
  const optimizer = adamw({ learningRate: 1e-3 });
  const adapter = makeTouched(table, optimizer);
  try {
    const path = join(folder, 'train.jsonl');
    writeData(path);
    const loader = await openLoader(
      {
        source: { file: path },
        features: { ids: { table: 'words', column: 'ids' } },
        labels: { label: { column: 'label' } },
        tables: { words: { rows: V } },
      },
      { batchSize, workers: 1, shuffle: false },
    );
    const trainer = new Trainer({
      adapters: { words: adapter },
      objective: classification({ input: 'ids', label: 'label' }),
      optimizer,
    });
    /** Milliseconds from step to step: of those while a checkpoint was written, and of the others. */
    const steps = async (checkpoints) => {
      const [saving, others] = [[], []];
      let last = 0;
      let lastCpu = process.cpuUsage();
      let mostCpu = 0;
      let written = 0;
      let folderBytes = 0;
      await trainer.fit(loader, {
        checkpoints,
        onEvent(event) {
          if (event.type === 'checkpoint') {
            written = event.step;
            folderBytes = sizeOf(event.folder);
          }
          if (event.type !== 'tick') return;
          const now = performance.now();
          const begun = everySteps * Math.floor((event.step - 1) / everySteps);
          // The first one takes its time to fill queues and caches.
          const isSaving = checkpoints && begun > written;
          if (event.step > 30) (isSaving ? saving : others).push(now - last);
          const { user, system } = process.cpuUsage(lastCpu);
          if (isSaving) mostCpu = Math.max(mostCpu, (user + system) / 1000);
          last = now;
          lastCpu = process.cpuUsage();
        },
      });
      return { saving, others, mostCpu, folderBytes };
    };
    await steps(undefined);
    const { saving, others, mostCpu, folderBytes } = await steps({
      folder: join(folder, 'checkpoints'),
      everySteps,
      keep: 1,
    });
    await loader.close();
    report.section(
      'Checkpoints',
      `Classification on ids, ${batchSize} x ${idsPerExample} uniform ones a step, exact AdamW, r = ${rank}; an adapter of ${formatBytes(adapter.memory.adapterBytes)}, with its optimiser a checkpoint of ${formatBytes(folderBytes)}. From the end of a step to that of the next.`,
    );
    report.value(
      'the longest step while a checkpoint is written',
      `${saving.length} steps, the median ${medianOf(saving).toFixed(1)} ms`,
      [Math.max(...saving)],
      ' ms',
      { atMost: 50 },
      `of the ${others.length} others ${Math.max(...others).toFixed(1)} ms, the median ${medianOf(others).toFixed(1)} ms; at most ${mostCpu.toFixed(1)} ms of all threads' time`,
    );
  } finally {
    adapter.close();
    table.close();
    rmSync(folder, { recursive: true });
  }
}
