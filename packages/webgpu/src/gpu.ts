/** A GPU as the rest of this package uses it: buffers that are used again, arrays that go there and come back, shaders that run. */
import { FinetableError, formatBytes } from '@finetable/core';
import { findAdapter, type AdapterReport } from './adapters.ts';
import { Checks, failure, lostDevice } from './failure.ts';

/** Bytes `[offset, offset + size)` of a buffer: what a shader sees as one array. */
export interface Span {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/** Where the arrays of one upload begin, and offsets into buffers: WebGPU's default alignment, which every adapter has at least. */
const alignment = 256;

/** Threads of a workgroup in all shaders; what every adapter has. */
export const groupThreads = 256;

/** Most workgroups along one side. */
const sideGroups = 65535;

// Numbers of the WebGPU specification: its constants come with the package, which is loaded late.
const usage = { mapRead: 0x1, copySrc: 0x4, copyDst: 0x8, storage: 0x80 } as const;
const mapRead = 0x1;

export class Gpu {
  readonly name: string;
  readonly adapter: AdapterReport;
  /** Most bytes of one array. A larger binding would silently read zeros. */
  readonly maxSpanBytes: number;
  /** Between host and device, the tables' own aside. */
  readonly traffic = { uploadedBytes: 0, downloadedBytes: 0 };
  readonly #device: GPUDevice;
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  /** Free ones by usage and size. */
  readonly #free = new Map<string, GPUBuffer[]>();
  #heldBytes = 0;
  #lost: FinetableError | null = null;
  /** False after something has failed: a buffer that could not be made looks like any other. */
  #recycles = true;
  #packed = new Uint8Array(0);

  /** @throws UNSUPPORTED where there is no such adapter; IO where it gives no device */
  static async open(name: string | undefined, software: boolean): Promise<Gpu> {
    const { adapter, report } = await findAdapter(software);
    const names = ['maxStorageBufferBindingSize', 'maxBufferSize', 'maxStorageBuffersPerShaderStage'] as const;
    const requiredLimits = Object.fromEntries(names.map((limit) => [limit, adapter.limits[limit]]));
    try {
      return new Gpu(name ?? `webgpu:${report.name}`, report, await adapter.requestDevice({ requiredLimits }));
    } catch (error) {
      throw failure(report.name, 'the device could not be opened', error);
    }
  }

  private constructor(name: string, adapter: AdapterReport, device: GPUDevice) {
    this.name = name;
    this.adapter = adapter;
    this.#device = device;
    // WebGPU's bindings have sizes in whole vec4 here.
    this.maxSpanBytes = floorTo(Math.min(adapter.maxBindingBytes, adapter.maxBufferBytes), 16);
    void device.lost.then((info) => (this.#lost = lostDevice(name, info)));
  }

  /** Of all buffers, those that wait to be used again aside. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** @throws IO where the device is lost */
  checkLost(): void {
    if (this.#lost) throw this.#lost;
  }

  /** Ends the device, as the loss of it would. */
  destroy(): void {
    this.#device.destroy();
  }

  /** Does what may fail later, and adds whether it did to `checks`. */
  watch<T>(what: string, checks: Checks, work: () => T): T {
    this.checkLost();
    this.#device.pushErrorScope('out-of-memory');
    this.#device.pushErrorScope('validation');
    try {
      return work();
    } finally {
      checks.add(
        Promise.all([this.#device.popErrorScope(), this.#device.popErrorScope()]).then(
          (errors) => this.#failed(what, errors.find((error) => error !== null)), // prettier-ignore
          (error: unknown) => this.#failed(what, error),
        ),
      );
    }
  }

  #failed(what: string, error: unknown): FinetableError | null {
    if (!error) return null;
    this.#recycles = false;
    return this.#lost ?? failure(this.name, what, error);
  }

  /** A buffer with at least `size` bytes of anything, to be given back. */
  take(size: number): Span {
    return {
      buffer: this.#take(size, usage.storage | usage.copySrc | usage.copyDst),
      offset: 0,
      size: ceilTo(size, 4),
    };
  }

  #take(size: number, use: number): GPUBuffer {
    this.#checkSpan({ size });
    const rounded = Math.min(sizeClass(size), this.maxSpanBytes);
    const free = this.#free.get(`${use}/${rounded}`)?.pop();
    this.#heldBytes += rounded;
    return free ?? this.#device.createBuffer({ size: rounded, usage: use });
  }

  give({ buffer }: Span): void {
    this.#heldBytes -= buffer.size;
    const key = `${buffer.usage}/${buffer.size}`;
    const free = this.#free.get(key) ?? [];
    this.#free.set(key, free);
    if (this.#recycles && free.length < mostFree) free.push(buffer);
    else buffer.destroy();
  }

  /** A buffer of exactly this many bytes, which `drop` frees. */
  make(size: number): Span {
    this.#heldBytes += size;
    const buffer = this.#device.createBuffer({ size, usage: usage.storage | usage.copySrc | usage.copyDst });
    return { buffer, offset: 0, size };
  }

  drop({ buffer }: Span): void {
    this.#heldBytes -= buffer.size;
    buffer.destroy();
  }

  /** Writes bytes of a table, and waits until the GPU has them. */
  async write({ buffer, offset }: Span, at: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#device.queue.writeBuffer(buffer, offset + at, bytes);
    await this.#device.queue.onSubmittedWorkDone();
  }

  /** Arrays in one buffer, which is to be given back. They may be changed as soon as this returns. */
  upload(arrays: readonly (Int32Array | Float32Array)[]): { readonly whole: Span; readonly spans: readonly Span[] } {
    let size = 0;
    const places = arrays.map(({ byteLength }) => {
      const offset = size;
      size = ceilTo(size + Math.max(byteLength, 16), alignment);
      return offset;
    });
    if (this.#packed.length < size) this.#packed = new Uint8Array(sizeClass(size));
    arrays.forEach((array, i) => {
      // Copied first: Dawn crashes on arrays over a SharedArrayBuffer, and one large copy is faster than several.
      this.#packed.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), places[i]);
      this.traffic.uploadedBytes += array.byteLength;
    });
    const whole = this.take(size);
    this.#device.queue.writeBuffer(whole.buffer, 0, this.#packed, 0, size);
    const spans = arrays.map(({ byteLength }, i) => ({ buffer: whole.buffer, offset: places[i]!, size: byteLength }));
    return { whole, spans };
  }

  /** @returns what records work and then has it done, in order, after all that came before */
  begin(): Work {
    return new Work({
      device: this.#device,
      pipeline: (code) => this.#pipeline(code),
      check: (span) => this.#checkSpan(span),
      give: (span) => this.give(span),
    });
  }

  #pipeline(code: string): GPUComputePipeline {
    let pipeline = this.#pipelines.get(code);
    if (!pipeline) {
      const module = this.#device.createShaderModule({ code });
      pipeline = this.#device.createComputePipeline({ layout: 'auto', compute: { module } });
      this.#pipelines.set(code, pipeline);
    }
    return pipeline;
  }

  #checkSpan({ size }: Pick<Span, 'size'>): void {
    if (size <= this.maxSpanBytes) return;
    throw new FinetableError(
      'UNSUPPORTED',
      `device "${this.name}": a batch needs an array of ${formatBytes(size)}; the adapter has at most ${formatBytes(this.maxSpanBytes)}: make batches smaller`,
      { device: this.name, sizeBytes: size },
    );
  }

  /** The bytes of span i go to `use[i]`, which may keep no view of them. @throws what of `checks` has failed */
  async download(spans: readonly Span[], checks: Checks, use: readonly ((bytes: Uint8Array) => void)[]): Promise<void> {
    let size = 0;
    const places = spans.map((span) => {
      const at = size;
      size += span.size;
      return at;
    });
    const read = this.watch('reading back', checks, () => {
      const buffer = this.#take(Math.max(size, 16), usage.mapRead | usage.copyDst);
      const encoder = this.#device.createCommandEncoder();
      spans.forEach((span, i) => encoder.copyBufferToBuffer(span.buffer, span.offset, buffer, places[i]!, span.size));
      this.#device.queue.submit([encoder.finish()]);
      return { buffer, offset: 0, size };
    });
    try {
      await read.buffer.mapAsync(mapRead, 0, ceilTo(Math.max(size, 16), 8));
      await checks.settle();
      const bytes = new Uint8Array(read.buffer.getMappedRange(0, ceilTo(Math.max(size, 16), 8)));
      spans.forEach((span, i) => use[i]!(bytes.subarray(places[i], places[i]! + span.size)));
      this.traffic.downloadedBytes += size;
      read.buffer.unmap();
    } catch (error) {
      this.#recycles = false;
      await checks.settle();
      // What a lost device rejects with may come before the news of its loss.
      await new Promise(setImmediate);
      throw this.#lost ?? failure(this.name, 'reading back', error);
    } finally {
      this.give(read);
    }
  }
}

/** Buffers of one size that wait to be used again: two batches in flight, with several groups of factors each. */
const mostFree = 8;

interface WorkContext {
  readonly device: GPUDevice;
  readonly pipeline: (code: string) => GPUComputePipeline;
  readonly check: (span: Span) => void;
  readonly give: (span: Span) => void;
}

/** Recorded work. */
export class Work {
  readonly #context: WorkContext;
  readonly #encoder: GPUCommandEncoder;
  readonly #spent: Span[] = [];

  constructor(context: WorkContext) {
    this.#context = context;
    this.#encoder = context.device.createCommandEncoder();
  }

  /** @param spans bindings 0, 1, … of the shader @param threads at least this many run, in workgroups of `groupThreads` */
  run(code: string, spans: readonly Span[], threads: number): void {
    const { device, pipeline: make, check } = this.#context;
    spans.forEach(check);
    const pipeline = make(code);
    const groups = Math.ceil(threads / groupThreads);
    const entries = spans.map((resource, binding) => ({ binding, resource: { ...resource } }));
    const pass = this.#encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(Math.min(groups, sideGroups), Math.ceil(groups / sideGroups));
    pass.end();
  }

  copy(from: Span, to: Span, at = 0): void {
    this.#encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset + at, from.size);
  }

  clear({ buffer, offset, size }: Span): void {
    this.#encoder.clearBuffer(buffer, offset, size);
  }

  /** Gives a buffer back once this is submitted. Not before: an upload into it would overtake what is only recorded. */
  release(span: Span): void {
    this.#spent.push(span);
  }

  submit(): void {
    const { device, give } = this.#context;
    device.queue.submit([this.#encoder.finish()]);
    for (const span of this.#spent) give(span);
  }
}

const ceilTo = (size: number, step: number): number => Math.ceil(size / step) * step;
const floorTo = (size: number, step: number): number => Math.floor(size / step) * step;

/** Sizes in steps of a quarter, so that batches of about one size share buffers. */
function sizeClass(size: number): number {
  const step = Math.max(alignment, 2 ** (Math.floor(Math.log2(Math.max(size, 1))) - 2));
  return ceilTo(Math.max(size, 1), step);
}
