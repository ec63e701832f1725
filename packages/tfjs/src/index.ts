/**
 * TensorFlow.js in both directions: an embedding layer as Keras has it, tfjs models as objectives, and tables on tfjs devices.
 * @module
 */
export { tf } from './load.ts';
export {
  Embedding,
  embedding,
  type EmbeddingOptions,
  type LoraOptions,
  type MatrixLike,
  type OutOfRange,
  type QuantizeMode,
} from './layer/index.ts';
