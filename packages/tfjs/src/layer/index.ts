export { Embedding, embedding, embeddingFromConfig } from './layer.ts';
export type { Ragged, Sparse, SparseResult } from './inputs.ts';
export type { EmbeddingOptions, LoraOptions, MatrixLike, OutOfRange } from './options.ts';
export type { EmbeddingRows, Ids, LoraStart, QuantizeMode, RowsOptions } from './rows.ts';
