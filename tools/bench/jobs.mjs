// Whole jobs: from a file of ids to trained adapters, by `Trainer.fit`. A round is an epoch: records are read and parsed by a loader worker, batches planned,
// looked up, learnt from.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  adamw,
  classification,
  contrastive,
  createAdapter,
  openLoader,
  RandomStream,
  ranking,
  Trainer,
} from 'finetable';
import { makeTable, million } from './tables.mjs';

export const shape = { rows: million, dim: 64, rank: 8, batchSize: 256, classes: 20 };
const batches = 40;

/** By objective: how many ids each feature has. */
export const kinds = {
  classification: { widths: { text: 20 }, objective: () => classification({ input: 'text', label: 'label' }) },
  contrastive: {
    widths: { anchor: 10, positive: 10 },
    objective: () => contrastive({ anchor: 'anchor', positive: 'positive' }),
  },
  ranking: {
    widths: { history: 20, next: 1 },
    objective: () =>
      ranking({ query: 'history', target: 'next', frequencies: new Float64Array(shape.rows).fill(1) }),
  },
};

/** `[batches, places]`: of each batch the ids of the first feature's bags, then those of the next one's. */
export function makeIds({ widths }) {
  const places = shape.batchSize * Object.values(widths).reduce((sum, width) => sum + width, 0);
  const random = new RandomStream(11, 'jobs');
  return Array.from({ length: batches }, (_, batch) => ({
    ids: Int32Array.from({ length: places }, (_, i) => random.below(batch * places + i, shape.rows)),
  }));
}

/** The same as JSON Lines. */
export function writeExamples(folder, kind, all) {
  const { widths } = kinds[kind];
  const lines = [];
  for (const { ids } of all)
    for (let i = 0; i < shape.batchSize; i++) {
      let first = 0;
      const example = {};
      for (const [name, width] of Object.entries(widths)) {
        example[name] = [...ids.subarray(first + i * width, first + (i + 1) * width)];
        first += shape.batchSize * width;
      }
      if (kind === 'classification') example.label = `class ${example.text[0] % shape.classes}`;
      lines.push(`${JSON.stringify(example)}\n`);
    }
  const file = join(folder, `${kind}.jsonl`);
  writeFileSync(file, lines.join(''));
  return file;
}

/** An epoch at a time. */
export async function openJob(kernels, kind, file, mode) {
  const { widths, objective } = kinds[kind];
  const table = makeTable(kernels, shape.rows, shape.dim);
  const adapter = createAdapter(table, { rank: shape.rank });
  const features = Object.fromEntries(Object.keys(widths).map((name) => [name, { table: 'items', column: name }]));
  const labels = kind === 'classification' ? { label: { column: 'label' } } : {};
  const loader = await openLoader(
    { source: { file }, features, labels, tables: { items: { rows: shape.rows } } },
    { batchSize: shape.batchSize, workers: 1 },
  );
  const trainer = new Trainer({
    adapters: { items: adapter },
    objective: objective(),
    optimizer: adamw({ learningRate: 1e-3, mode }),
  });
  return {
    /** @returns milliseconds */
    epoch: async () => {
      const begun = performance.now();
      await trainer.fit(loader, { epochs: 1 });
      return performance.now() - begun;
    },
    close: async () => {
      await loader.close();
      adapter.close();
      table.close();
    },
  };
}
