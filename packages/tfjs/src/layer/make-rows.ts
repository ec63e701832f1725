/** Which rows a layer gets. */
import { FinetableError } from '@finetable/core';
import type { EmbeddingRows, RowsOptions } from './rows.ts';
import { VariableRows } from './variable-rows.ts';

/** @param thresholdBytes the size of an f32 table from which it lives in a row store */
export function makeRows(options: RowsOptions, thresholdBytes: number): EmbeddingRows {
  const { table, inputDim, outputDim, layerName } = options;
  if (table === null && inputDim * outputDim * 4 <= thresholdBytes) return new VariableRows(options);
  throw new FinetableError(
    'UNSUPPORTED',
    `${layerName}: row stores are not there yet; without \`table\`, a higher \`threshold\` keeps the rows in tfjs variables`,
  );
}
