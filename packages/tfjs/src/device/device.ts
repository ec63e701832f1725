/**
 * Tables on a tfjs backend: rows in tensors, lookups and gradients as tensor operations. A GPU where the backend has one
 * (`tensorflow` of tfjs-node-gpu); the same on `tensorflow` of tfjs-node, `wasm` and `cpu`, which are in the process's memory.
 */
import { checkOptionNames, FinetableError, formatBytes, type OptionNames } from '@finetable/core';
import type { FileRows, TablePart } from '@finetable/kernels';
import type { Device, DeviceRows } from '@finetable/placement';
import { tf } from '../load.ts';
import { backendMemory } from './memory.ts';
import { TfjsRows, tensorRowBytes } from './rows.ts';
import { Traffic } from './traffic.ts';

/** How much of it tables may take, and whether it computes. */
export interface TfjsDeviceOptions {
  /** For errors; default `tfjs:` and the backend. */
  readonly name?: string | undefined;
  /** Memory that the backend has, all that tfjs holds included. Default: what can be told (see docs/devices.md). */
  readonly memoryBytes?: number | undefined;
  /** Most bytes of one tensor; default: the backend's limit, at most 1 GiB. */
  readonly tensorBytes?: number | undefined;
  /** False: the device only keeps rows, which are fetched and computed on by the kernels. Default true. */
  readonly compute?: boolean | undefined;
}

const optionNames: OptionNames<TfjsDeviceOptions> = { name: true, memoryBytes: true, tensorBytes: true, compute: true };

/** The memory of the TensorFlow.js backend as a device for tables. */
export class TfjsDevice implements Device {
  readonly kind = 'gpu';
  readonly name: string;
  /** Bytes between host and device, the tables' own aside, since the device was made. */
  readonly traffic: { readonly uploadedBytes: number; readonly downloadedBytes: number };
  readonly #traffic = new Traffic();
  readonly #options: TfjsDeviceOptions;

  constructor(options: TfjsDeviceOptions) {
    this.name = options.name ?? `tfjs:${tf.getBackend()}`;
    this.traffic = this.#traffic;
    this.#options = options;
  }

  /** Whether it is a GPU, rather than a backend in the process's own memory. */
  get isGpu(): boolean {
    return backendMemory().gpu;
  }

  /** What parts of a table may take now: the backend's memory less what tfjs holds already. */
  get capacityBytes(): number {
    return backendMemory(this.#options.memoryBytes).freeBytes;
  }

  /** Where `capacityBytes` comes from. */
  get note(): string {
    return backendMemory(this.#options.memoryBytes).note;
  }

  async openRows(file: FileRows, part: TablePart): Promise<DeviceRows> {
    const { name } = this;
    const { memoryBytes, tensorBytes, compute = true } = this.#options;
    const memory = backendMemory(memoryBytes);
    const groupDims = Math.min(file.scales?.groupDims ?? 0, part.columns);
    const sizeBytes = part.rows * tensorRowBytes({ dtype: file.dtype, dim: part.columns, groupDims });
    if (sizeBytes > memory.freeBytes) {
      throw new FinetableError(
        'OUT_OF_MEMORY',
        `device "${name}": ${part.rows} rows take ${formatBytes(sizeBytes)} in tensors; there ${memory.freeBytes === 0 ? 'is nothing' : `are ${formatBytes(memory.freeBytes)}`} left (${memory.note})`,
        { device: name, sizeBytes, capacityBytes: memory.freeBytes },
      );
    }
    if (tf.getBackend() === 'webgl' && file.dtype !== 'f32') {
      throw new FinetableError(
        'UNSUPPORTED',
        `device "${name}": the webgl backend holds no 32-bit words, which ${file.dtype} rows are packed in; allowed: f32, or another backend`,
        { device: name },
      );
    }
    return TfjsRows.open(
      name,
      file,
      part,
      Math.min(tensorBytes ?? Infinity, memory.tensorBytes),
      this.#traffic,
      compute,
    );
  }
}

/**
 * A home for tables on the tfjs backend in use (`tf.setBackend` comes before).
 * @throws INVALID_ARGUMENT; UNSUPPORTED where TensorFlow.js has no backend
 * @example
 * ```ts
 * const words = await openTable('vectors.safetensors', { placement: await tfjsDevice() });
 * ```
 */
export async function tfjsDevice(options: TfjsDeviceOptions = {}): Promise<TfjsDevice> {
  checkOptionNames('tfjsDevice', options, optionNames);
  const { memoryBytes, tensorBytes } = options;
  for (const [field, bytes] of Object.entries({ memoryBytes, tensorBytes })) {
    if (bytes !== undefined && !(bytes >= 1))
      throw new FinetableError('INVALID_ARGUMENT', `tfjsDevice: ${field} ${bytes}; allowed: 1 or more`);
  }
  await tf.ready();
  return new TfjsDevice(options);
}
