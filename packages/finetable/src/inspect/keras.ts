/** Keras models: their embedding layers, and the first rows of each. */
import { stat } from 'node:fs/promises';
import { openKerasFile } from '@finetable/formats';
import type { KerasReport } from './report.ts';
import { rowStatistics } from './tensors.ts';

const shownRows = 3;

export async function inspectKeras(path: string): Promise<KerasReport> {
  const file = await openKerasFile(path);
  try {
    const embeddings = file.embeddings.map((embedding) => {
      const { name, path, rows, dim, dtype, lora } = embedding;
      const first = file.readRows(embedding, 0, Math.min(shownRows, rows));
      return { name, path, rows, dim, dtype, lora, firstRows: rowStatistics(first) };
    });
    return { kind: 'keras', path, sizeBytes: (await stat(path)).size, format: file.format, embeddings };
  } finally {
    file.close();
  }
}
