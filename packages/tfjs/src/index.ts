/**
 * TensorFlow.js in both directions: an embedding layer as Keras has it, tfjs models as objectives, and tables on tfjs devices.
 *
 *     import { tf, useBestBackend } from '@finetable/tfjs';
 *
 *     const { backend, problems } = await useBestBackend(); // 'tensorflow', 'wasm' or 'cpu'
 * @module
 */
export { tf } from './load.ts';
export { tfjsDevice, type TfjsDevice, type TfjsDeviceOptions } from './device/device.ts';
export { offerDevice } from './device/offer.ts';
export { TfjsMatrix } from './device/matrix.ts';
export { tfjsObjective, type Embeddings, type Loss, type TfjsObjectiveOptions } from './objective/objective.ts';
export { tfjsModel, type TfjsModelOptions } from './objective/model.ts';
export type { TensorBags, TensorBatch } from './objective/batch.ts';
export { useBackend, useBestBackend, type BackendName, type BackendProblem, type BackendReport } from './backend.ts';
export {
  Embedding,
  embedding,
  embeddingFromConfig,
  type EmbeddingOptions,
  type LoraOptions,
  type MatrixLike,
  type OutOfRange,
  type QuantizeMode,
  type Ragged,
  type Sparse,
  type SparseResult,
} from './layer/index.ts';
export { registerTable } from './rows/tables.ts';
