/** Which rows a layer gets. */
import { AdaptedRows } from '../rows/adapted-rows.ts';
import type { EmbeddingRows, RowsOptions } from './rows.ts';
import { VariableRows } from './variable-rows.ts';

/** @param thresholdBytes the size of an f32 table from which it lives in a row store */
export function makeRows(options: RowsOptions, thresholdBytes: number): EmbeddingRows {
  const { table, inputDim, outputDim } = options;
  if (table === null && inputDim * outputDim * 4 <= thresholdBytes) return new VariableRows(options);
  return new AdaptedRows(options);
}
