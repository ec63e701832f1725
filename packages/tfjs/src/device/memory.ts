/** How much a backend has room for, as far as it can be told from JavaScript. */
import { formatBytes } from '@finetable/core';
import { systemMemory } from '@finetable/placement';
import { tf } from '../load.ts';

export interface BackendMemory {
  /** Of one tensor. */
  readonly tensorBytes: number;
  /** That tables may take, beside what tfjs holds now. */
  readonly freeBytes: number;
  /** Whether it is another's than the process's own memory. */
  readonly gpu: boolean;
  /** Where the number comes from. */
  readonly note: string;
}

const MiB = 2 ** 20;
const GiB = 2 ** 30;

/** What a GPU is taken to have where nothing says so: neither TensorFlow nor WebGPU tell JavaScript. */
const assumedBytes = 4 * GiB;

/** Most of a tensor: it is read from the file into RAM and then handed over. */
const mostTensorBytes = GiB;

/** The WASM backend's heap may grow to this, less a page. */
const wasmBytes = 4 * GiB;

/** Share of the memory that is left to batches, other tensors and the rest of the process. */
const spare = 0.5;

/** @param givenBytes what the device is said to have; @returns of the current backend */
export function backendMemory(givenBytes?: number): BackendMemory {
  const backend = tf.getBackend();
  const gpu = isGpu();
  const heldBytes = tf.memory().numBytes;
  const tensorBytes = mostTensor(backend);
  const left = (totalBytes: number): number => Math.max(0, totalBytes - heldBytes);
  const held = heldBytes === 0 ? '' : `, tfjs holds ${formatBytes(heldBytes)}`;
  if (givenBytes !== undefined)
    return { tensorBytes, gpu, freeBytes: left(givenBytes), note: `${formatBytes(givenBytes)} given${held}` };
  if (gpu) {
    const note = `what the GPU has cannot be told: ${formatBytes(assumedBytes)} assumed${held}`;
    return { tensorBytes, gpu, freeBytes: left(assumedBytes), note };
  }
  const free = systemMemory().freeBytes;
  const own = backend === 'wasm' ? Math.min(left(wasmBytes), free) : free;
  const note = `half of what ${backend === 'wasm' && own < free ? 'the WASM heap' : 'the process'} has left`;
  return { tensorBytes, gpu, freeBytes: spare * own, note };
}

/** Whether the current backend computes on a GPU. */
export function isGpu(): boolean {
  switch (tf.getBackend()) {
    case 'webgpu':
    case 'webgl':
      return true;
    case 'tensorflow':
      return (tf.backend() as { isUsingGpuDevice?: boolean }).isUsingGpuDevice === true;
    default:
      return false;
  }
}

function mostTensor(backend: string): number {
  switch (backend) {
    case 'webgpu': {
      // A binding over the limit reads zeros, without an error.
      const { device } = tf.backend() as unknown as { device: { limits: Record<string, number> } };
      const { maxStorageBufferBindingSize = 128 * MiB, maxBufferSize = 128 * MiB } = device.limits;
      return Math.min(mostTensorBytes, maxStorageBufferBindingSize, maxBufferSize);
    }
    case 'webgl': {
      const side = tf.env().getNumber('WEBGL_MAX_TEXTURE_SIZE');
      return Math.min(mostTensorBytes, 4 * side * side);
    }
    case 'wasm':
      return 256 * MiB;
    default:
      return mostTensorBytes;
  }
}
