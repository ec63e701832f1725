/**
 * Bytes <-> named arrays: safetensors, `.npy`, word vectors, PEFT adapters and our sparse adapters; files and folders that are
 * written completely or not at all; checksums.
 *
 * Every reader takes its file for hostile: what is wrong with it is a `FinetableError` that names the file, the place, what was
 * found and what is allowed, and no length in a file makes it take memory that the file does not justify.
 *
 * @example
 * ```ts
 * await writeSafetensors('table.safetensors', [{ name: 'embeddings', dtype: 'F32', shape: [2, 3], data: new Float32Array(6) }]);
 * const header = await readSafetensorsHeader('table.safetensors');
 * header.tensors.get('embeddings'); // { dtype: 'F32', shape: [2, 3], byteOffset: 80, byteLength: 24 }
 * await readTensorF32('table.safetensors', header, 'embeddings'); // Float32Array(6)
 * ```
 * @module
 */
export { ioError, openFile, readChunks, type InputFile, type OpenFile } from './io.ts';
export { type ArrayInfo, type ArraySource, type TensorArray, type TensorData } from './array.ts';
export {
  recoverFolder,
  removeFolderAtomic,
  removeLeftovers,
  withSpool,
  writeFileAtomic,
  writeFolderAtomic,
  type FileContent,
  type Spool,
  type WriteChunk,
} from './atomic.ts';
export { checkOutput } from './output.ts';
export { manifestName, sha256File, verifyManifest, writeManifest, type ManifestEntry } from './checksum.ts';
export { readSafetensorsHeader, type SafetensorsHeader } from './safetensors/header.ts';
export {
  openSafetensors,
  readTensor,
  readTensorF32,
  type SafetensorsModel,
  type TensorInfo,
} from './safetensors/model.ts';
export { isScales, quantizedTable, writeQuantizedTable, type QuantizedTable } from './safetensors/quantized.ts';
export { writeTableBlocks, type BlockWriter, type TableBlock } from './safetensors/table.ts';
export { writeSafetensors, type TensorSource } from './safetensors/write.ts';
export { openKerasFile, type KerasEmbedding, type KerasFile } from './keras/file.ts';
export { type KerasDtype } from './keras/decode.ts';
export { readNpy, readNpyF32, readNpyHeader, writeNpy } from './npy.ts';
export { checkVectorsPath, vectorFormats, writeVectors, type VectorPart, type VectorsOptions } from './vectors.ts';
export { type Duplicates, type WordBlock } from './words/block.ts';
export { readWordVectors, type WordVectors, type WordVectorsOptions } from './words/read.ts';
export { isPlainModule, matchPattern } from './adapter/config.ts';
export { type SaveOptions } from './adapter/folder.ts';
export { adapterFormat, loadAdapter } from './adapter/load.ts';
export { loadPeftAdapter, savePeftAdapter, type SavePeftOptions } from './adapter/peft.ts';
export { loadSparseAdapter, saveSparseAdapter } from './adapter/sparse.ts';
export {
  loraScale,
  type AdapterBase,
  type AdapterTensors,
  type GroupTensors,
  type UntouchedRows,
} from './adapter/tensors.ts';
export { readStaticLayout, type StaticLayout } from './static/layout.ts';
export { saveStaticFolder, type ChangeRows } from './static/save.ts';
