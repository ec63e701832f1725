/**
 * Which rows a layer gets. Keras advises to place a table on the CPU by hand where it does not fit the GPU, or where the optimizer has no
 * sparse kernel there; here what the backend has left decides, and is told once.
 */
import { FinetableError, formatBytes } from '@finetable/core';
import { backendMemory, type BackendMemory } from '../device/memory.ts';
import { tf } from '../load.ts';
import { AdaptedRows } from '../rows/adapted-rows.ts';
import type { EmbeddingRows, RowsOptions } from './rows.ts';
import { VariableRows } from './variable-rows.ts';

/** A variable, its gradient, and the two moments of Adam. */
const copies = 4;

/**
 * @param threshold the bytes of an f32 table from which it lives in a row store, and whether the caller chose them
 * @throws INVALID_ARGUMENT, UNSUPPORTED for what the rows cannot have; DOES_NOT_FIT for `device: 'gpu'`
 */
export function makeRows(
  options: RowsOptions,
  threshold: { readonly bytes: number; readonly given: boolean },
  memory: BackendMemory = backendMemory(),
): EmbeddingRows {
  const { layerName, table, device, optimizer, inputDim, outputDim } = options;
  if (table) return new AdaptedRows(options);
  const backend = tf.getBackend();
  if (device === 'gpu' && !memory.gpu) {
    const message = `device 'gpu', but the ${backend} backend computes on the CPU; allowed: 'auto', 'cpu', or another backend`;
    throw new FinetableError('UNSUPPORTED', `${layerName}: ${message}`, { layer: layerName });
  }
  const bytes = inputDim * outputDim * 4;
  const short = shortage(bytes, memory);
  if (device === 'gpu') {
    if (short === null) return new VariableRows(options);
    const message = `device 'gpu': a table of [${inputDim}, ${outputDim}] needs ${short} (${memory.note}); device 'auto' keeps it in RAM`;
    throw new FinetableError('DOES_NOT_FIT', `${layerName}: ${message}`, { layer: layerName, bytes });
  }
  const asked = device === 'cpu' && memory.gpu;
  if (bytes <= threshold.bytes && short === null && !asked) {
    if (!optimizer) return new VariableRows(options);
    // What is asked of a row store is not dropped without a word where there is none.
    const message =
      "`optimizer` is for rows in a row store; this table is small, and the model's optimizer trains it; a `threshold` below its size puts it into a row store";
    throw new FinetableError('INVALID_ARGUMENT', `${layerName}: ${message}`, { layer: layerName });
  }
  const rows = new AdaptedRows(options);
  if (!asked && !(threshold.given && bytes > threshold.bytes)) tell(options, bytes, short);
  return rows;
}

/** What a table in variables lacks; null where it fits. */
function shortage(bytes: number, { tensorBytes, freeBytes }: BackendMemory): string | null {
  if (bytes > tensorBytes)
    return `a tensor of ${formatBytes(bytes)}, and the backend has ${formatBytes(tensorBytes)} for one`;
  const needed = copies * bytes;
  if (needed <= freeBytes) return null;
  return `${formatBytes(needed)} with its gradient and an optimizer's state, and ${formatBytes(freeBytes)} are left`;
}

function tell({ layerName, inputDim, outputDim, optimizer }: RowsOptions, bytes: number, short: string | null): void {
  const why = short === null ? `it takes ${formatBytes(bytes)}` : `as variables it needs ${short}`;
  const trained = optimizer ? '' : ', trained by Adam at 0.001 unless `optimizer` says otherwise';
  process.emitWarning(
    `${layerName}: the table of [${inputDim}, ${outputDim}] is kept in RAM beside tfjs, since ${why}${trained}. This is said once per layer; \`threshold\` or \`device\` choose.`,
    'FinetableWarning',
  );
}
