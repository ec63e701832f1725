export { Embedding, embedding } from './layer.ts';
export type { EmbeddingOptions, LoraOptions, MatrixLike, OutOfRange } from './options.ts';
export type { EmbeddingRows, Ids, LoraStart, QuantizeMode, RowsOptions } from './rows.ts';
