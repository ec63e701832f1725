/** Tables on a GPU of any vendor: rows in storage buffers, lookups and gradients in compute shaders. */
import { checkOptionNames, FinetableError, formatBytes, type OptionNames } from '@finetable/core';
import type { FileRows, TablePart } from '@finetable/kernels';
import { systemMemory, type Device, type DeviceRows } from '@finetable/placement';
import type { AdapterReport } from './adapters.ts';
import { Gpu } from './gpu.ts';
import { deviceRowBytes, WebgpuRows } from './rows.ts';

/** Which adapter, and how much of it. */
export interface WebgpuDeviceOptions {
  /** For errors; default `webgpu:` and the adapter. */
  readonly name?: string | undefined;
  /** Memory that tables and batches may take. Default: 4 GiB on a GPU, since WebGPU does not tell what it has; half of what the process has left on a software adapter. */
  readonly memoryBytes?: number | undefined;
  /** Most bytes of one buffer of rows; default: the adapter's limits. */
  readonly bufferBytes?: number | undefined;
  /** False: the device only keeps rows, which are fetched and computed on by the kernels. Default true. */
  readonly compute?: boolean | undefined;
  /** True: where there is no GPU, a driver that computes on the processor will do. Default false. */
  readonly software?: boolean | undefined;
}

const optionNames: OptionNames<WebgpuDeviceOptions> = {
  name: true,
  memoryBytes: true,
  bufferBytes: true,
  compute: true,
  software: true,
};

/** What a GPU is taken to have where nothing says so. */
const assumedBytes = 4 * 2 ** 30;

/** Share of the process's memory that is left to the rest of it. */
const spare = 0.5;

/** An open adapter of WebGPU, on which tables may lie. Give it to `openTable` as their placement; one device serves many tables. */
export interface WebgpuDevice extends Device {
  readonly adapter: AdapterReport;
  /** Whether it is a GPU, rather than a driver that computes on the processor. */
  readonly isGpu: boolean;
  /** What parts of a table may take now. */
  readonly capacityBytes: number;
  /** Where `capacityBytes` comes from. */
  readonly note: string;
  /** What tables and batches take now. */
  readonly heldBytes: number;
  /** Bytes between host and device, the tables' own aside, since the device was made. */
  readonly traffic: { readonly uploadedBytes: number; readonly downloadedBytes: number };
  /** Ends the device: what lies on it can no longer be used. Not needed where the process ends. */
  destroy(): void;
}

class OpenDevice implements WebgpuDevice {
  readonly kind = 'gpu';
  readonly name: string;
  readonly adapter: AdapterReport;
  readonly traffic: WebgpuDevice['traffic'];
  readonly #gpu: Gpu;
  readonly #options: WebgpuDeviceOptions;

  constructor(gpu: Gpu, options: WebgpuDeviceOptions) {
    this.name = gpu.name;
    this.adapter = gpu.adapter;
    this.traffic = gpu.traffic;
    this.#gpu = gpu;
    this.#options = options;
  }

  get isGpu(): boolean {
    return !this.adapter.software;
  }

  get heldBytes(): number {
    return this.#gpu.heldBytes;
  }

  get capacityBytes(): number {
    return Math.max(0, this.#totalBytes - this.heldBytes);
  }

  get #totalBytes(): number {
    const { memoryBytes } = this.#options;
    if (memoryBytes !== undefined) return memoryBytes;
    return this.isGpu ? assumedBytes : spare * systemMemory().freeBytes + this.heldBytes;
  }

  get note(): string {
    const { memoryBytes } = this.#options;
    if (memoryBytes === undefined && !this.isGpu) return 'half of what the process has left';
    const total =
      memoryBytes === undefined
        ? `what the GPU has cannot be told: ${formatBytes(assumedBytes)} assumed`
        : `${formatBytes(memoryBytes)} given`;
    return this.heldBytes === 0 ? total : `${total}, ${formatBytes(this.heldBytes)} held`;
  }

  async openRows(file: FileRows, part: TablePart): Promise<DeviceRows> {
    const { name } = this;
    const { bufferBytes = Infinity, compute = true } = this.#options;
    const groupDims = Math.min(file.scales?.groupDims ?? 0, part.columns);
    const sizeBytes = part.rows * deviceRowBytes({ dtype: file.dtype, dim: part.columns, groupDims });
    const { capacityBytes } = this;
    if (sizeBytes > capacityBytes) {
      throw new FinetableError(
        'OUT_OF_MEMORY',
        `device "${name}": ${part.rows} rows take ${formatBytes(sizeBytes)}; there ${capacityBytes === 0 ? 'is nothing' : `are ${formatBytes(capacityBytes)}`} left (${this.note})`,
        { device: name, sizeBytes, capacityBytes },
      );
    }
    return WebgpuRows.open(this.#gpu, file, part, { bufferBytes, computes: compute });
  }

  destroy(): void {
    this.#gpu.destroy();
  }
}

/**
 * A home for tables on the GPU of this machine.
 * @throws INVALID_ARGUMENT; UNSUPPORTED where npm's `webgpu`, a driver or a GPU is not to be had, with what to install
 * @example
 * ```ts
 * const words = await openTable('vectors.safetensors', { placement: await webgpuDevice() });
 * ```
 */
export async function webgpuDevice(options: WebgpuDeviceOptions = {}): Promise<WebgpuDevice> {
  checkOptionNames('webgpuDevice', options, optionNames);
  const { name, memoryBytes, bufferBytes, software = false } = options;
  for (const [field, bytes] of Object.entries({ memoryBytes, bufferBytes })) {
    if (bytes !== undefined && !(bytes >= 1))
      throw new FinetableError('INVALID_ARGUMENT', `webgpuDevice: ${field} ${bytes}; allowed: 1 or more`);
  }
  return new OpenDevice(await Gpu.open(name, software), options);
}
