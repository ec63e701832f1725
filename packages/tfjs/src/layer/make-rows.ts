/** Which rows a layer gets. */
import { FinetableError } from '@finetable/core';
import { tf } from '../load.ts';
import { AdaptedRows } from '../rows/adapted-rows.ts';
import type { EmbeddingRows, RowsOptions } from './rows.ts';
import { VariableRows } from './variable-rows.ts';

/**
 * @param thresholdBytes the size of an f32 table from which it lives in a row store
 * @throws INVALID_ARGUMENT, UNSUPPORTED for what the rows cannot have
 */
export function makeRows(options: RowsOptions, thresholdBytes: number): EmbeddingRows {
  const { table, inputDim, outputDim } = options;
  if (table !== null || inputDim * outputDim * 4 > thresholdBytes) return new AdaptedRows(options);
  checkVariables(options);
  return new VariableRows(options);
}

/** What is asked of a row store is not dropped without a word where there is none. */
function checkVariables({ layerName, optimizer, device }: RowsOptions): void {
  const remedy = 'a `threshold` below its size puts it into a row store';
  if (optimizer)
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${layerName}: \`optimizer\` is for rows in a row store; this table is small, and the model's optimizer trains it; ${remedy}`,
      { layer: layerName },
    );
  const backend = tf.getBackend();
  const onGpu =
    backend === 'webgl' || backend === 'webgpu' || (tf.backend() as { isUsingGpuDevice?: boolean }).isUsingGpuDevice;
  if (device === 'gpu' && !onGpu)
    throw new FinetableError(
      'UNSUPPORTED',
      `${layerName}: device 'gpu', but the ${backend} backend computes on the CPU`,
    );
  if (device === 'cpu' && onGpu)
    throw new FinetableError(
      'UNSUPPORTED',
      `${layerName}: device 'cpu', but this table is small, and its variables live with the ${backend} backend on the GPU; ${remedy}`,
    );
}
