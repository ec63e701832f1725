/**
 * `UnsortedSegmentSum` for a backend that lacks it, as the WASM backend does: the gradient of `tf.gather`, so that no embedding trains without it. Rows are added
 * in the order in which they come, so results are the same bytes each time.
 */
import type { DataType, KernelConfig, TensorInfo } from '@tensorflow/tfjs';
import { FinetableError } from '@finetable/core';
import { tf } from './load.ts';

/** What the WASM backend offers its kernels. */
interface HeapBackend {
  makeOutput(shape: number[], dtype: DataType): TensorInfo;
  /** A view of the tensor's memory, until memory is allocated. */
  typedArrayFromHeap(tensor: TensorInfo): Float32Array | Int32Array | Uint8Array;
}

/** Does nothing where the backend has the kernel. */
export function registerSegmentSum(backendName: 'wasm'): void {
  if (tf.getKernel('UnsortedSegmentSum', backendName) as KernelConfig | undefined) return;
  tf.registerKernel({
    kernelName: 'UnsortedSegmentSum',
    backendName,
    kernelFunc: ({ inputs, attrs, backend }) =>
      segmentSum(
        inputs.x as TensorInfo,
        inputs.segmentIds as TensorInfo,
        Number(attrs?.numSegments),
        backend as HeapBackend,
      ),
  });
}

/**
 * @param x [n, …] f32 or i32
 * @param segmentIds [n] i32; negative: the row is left out, as TensorFlow does
 * @returns [numSegments, …]
 */
function segmentSum(x: TensorInfo, segmentIds: TensorInfo, numSegments: number, backend: HeapBackend): TensorInfo {
  if (x.dtype !== 'float32' && x.dtype !== 'int32')
    throw new FinetableError(
      'UNSUPPORTED',
      `unsortedSegmentSum on this backend: found ${x.dtype}; allowed: float32, int32`,
    );
  for (const id of backend.typedArrayFromHeap(segmentIds)) {
    if (id >= numSegments) {
      throw new FinetableError(
        'ID_OUT_OF_RANGE',
        `unsortedSegmentSum: found segment ${id}; allowed: below ${numSegments}`,
        { id },
      );
    }
  }
  const result = backend.makeOutput([numSegments, ...x.shape.slice(segmentIds.shape.length)], x.dtype);
  const sums = backend.typedArrayFromHeap(result);
  const values = backend.typedArrayFromHeap(x);
  const ids = backend.typedArrayFromHeap(segmentIds);
  const width = ids.length === 0 ? 0 : values.length / ids.length;
  sums.fill(0);
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (id < 0) continue;
    for (let to = id * width, from = i * width; from < (i + 1) * width; to++, from++) sums[to]! += values[from]!;
  }
  return result;
}
