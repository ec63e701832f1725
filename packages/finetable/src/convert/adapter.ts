/** Adapters: sparse to PEFT and back, and those in Keras models. */
import { FinetableError } from '@finetable/core';
import {
  loadAdapter,
  savePeftAdapter,
  saveSparseAdapter,
  type AdapterTensors,
  type GroupTensors,
} from '@finetable/formats';
import { openTable } from '@finetable/placement';
import type { ConvertOptions } from '../program.ts';
import type { Written } from './command.ts';
import { isKerasFile, readKerasAdapter } from './keras.ts';

export async function convertAdapter(
  input: string,
  output: string,
  to: 'sparse' | 'peft',
  options: ConvertOptions,
): Promise<Written[]> {
  let adapters = isKerasFile(input) ? [await readKerasAdapter(input, options.tensor)] : await loadAdapter(input);
  if (options.base !== undefined) adapters = [await withBase(input, adapters, options.base)];
  const overwrite = options.overwrite === true;
  if (to === 'sparse') await saveSparseAdapter(output, adapters, { overwrite });
  else await savePeftAdapter(output, adapters, { overwrite });
  const what = adapters.map(({ table, groups }) => `${table}: ${groups.map(describe).join(', ')}`).join('; ');
  return [{ path: output, what: `${to} adapter, ${what}` }];
}

/** `rank 4, 120 rows`; of a group that is not the rest, `"new" dense, 12 rows`. */
function describe({ name, kind, rank, rows }: GroupTensors): string {
  const factors = kind === 'dense' ? 'dense' : `rank ${rank}`;
  return `${name === 'rest' ? '' : `"${name}" `}${factors}, ${rows.length} rows`;
}

/** The adapter with its table's facts, which a PEFT folder does not have. */
async function withBase(input: string, adapters: readonly AdapterTensors[], path: string): Promise<AdapterTensors> {
  const [adapter] = adapters;
  if (!adapter || adapters.length > 1) {
    const names = adapters.map(({ table }) => table).join(', ');
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `convert: --base names one table, ${input} adapts ${adapters.length} (${names}); leave it out`,
    );
  }
  const table = await openTable(path);
  try {
    const { base } = adapter;
    const { rows, dim, dtype, fingerprint } = table;
    if (base.rows !== rows || base.dim !== dim) {
      throw new FinetableError(
        'MISMATCH',
        `${input}: the adapter was made for a table of [${base.rows}, ${base.dim}]; ${path} is [${rows}, ${dim}]`,
        { file: input },
      );
    }
    if (base.fingerprint !== null && base.fingerprint !== fingerprint) {
      throw new FinetableError(
        'MISMATCH',
        `${input}: the adapter was made for other values than those of ${path} (their fingerprints differ)`,
        { file: input },
      );
    }
    return { ...adapter, base: { rows, dim, dtype, fingerprint } };
  } finally {
    table.close();
  }
}
