/** Rows of a table, with an adapter or without: an id is its row, a list of ids their mean. */
import type { Loader } from '@finetable/data';
import { loadAdapters } from '@finetable/lora';
import { openTable } from '@finetable/placement';
import { Model } from '../model.ts';
import type { Embedder, EmbedOptions } from './embed.ts';
import { loadedParts, reader } from './loaded.ts';

export async function openTableEmbedder(path: string, options: EmbedOptions): Promise<Embedder> {
  const base = await openTable(path, { tensor: options.tensor });
  try {
    const [adapter] = options.adapter === undefined ? [] : await loadAdapters(options.adapter, [base]);
    const table = adapter?.table ?? base;
    const close = (): Promise<void> => {
      adapter?.close();
      base.close();
      return Promise.resolve();
    };
    const model = adapter ? { adapters: { rows: adapter } } : { tables: { rows: table } };
    const parts = {
      data: {
        features: { id: { table: 'rows', column: 'id' } },
        labels: {},
        tables: { rows: { rows: table.rows } },
      },
      model: ({ data }: Loader) => new Model({ ...model, objective: reader('id') }, data, {}),
      normalize: options.normalize ?? false,
    };
    return {
      dim: table.dim,
      reads: 'id',
      readsFiles: true,
      parts: (input) => loadedParts(parts, input, options),
      close,
    };
  } catch (error) {
    base.close();
    throw error;
  }
}
