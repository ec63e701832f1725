/** What WebGPU can compute on here: a GPU of any vendor, or a driver that computes on the processor. */
import { FinetableError } from '@finetable/core';
import { openDawn } from './dawn.ts';

/** An adapter of WebGPU: a GPU, or a driver that computes on the processor. */
export interface AdapterReport {
  /** As its driver says it: the device, and the driver. */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  /** Whether it computes on the processor. */
  readonly software: boolean;
  /** Most bytes of rows that a shader sees as one array: of a binding, and of a buffer. */
  readonly maxBindingBytes: number;
  readonly maxBufferBytes: number;
  /** Arrays that a shader may see at once. */
  readonly maxBindings: number;
}

/** The order in which adapters are looked for: WebGPU has no list of them. */
const requests: readonly GPURequestAdapterOptions[] = [
  { powerPreference: 'high-performance' },
  { powerPreference: 'low-power' },
  { forceFallbackAdapter: true },
];

interface FoundAdapter {
  readonly adapter: GPUAdapter;
  readonly report: AdapterReport;
}

async function requestAdapters(): Promise<FoundAdapter[]> {
  const { gpu } = await openDawn();
  const found = new Map<string, FoundAdapter>();
  for (const request of requests) {
    const adapter = await gpu.requestAdapter(request);
    if (!adapter) continue;
    const report = describeAdapter(adapter);
    if (!found.has(report.name)) found.set(report.name, { adapter, report });
  }
  return [...found.values()];
}

function describeAdapter({ info, limits }: GPUAdapter): AdapterReport {
  return {
    name: [info.device.replace(/-+$/, ''), info.description].filter(Boolean).join(', ') || info.vendor,
    vendor: info.vendor,
    architecture: info.architecture,
    software: info.isFallbackAdapter,
    maxBindingBytes: limits.maxStorageBufferBindingSize,
    maxBufferBytes: limits.maxBufferSize,
    maxBindings: limits.maxStorageBuffersPerShaderStage,
  };
}

/** What `listAdapters` finds. */
export interface WebgpuReport {
  /** Of npm's `webgpu`. */
  readonly version: string;
  /** The fastest GPU, the one that takes least power, a software one, each once. */
  readonly adapters: readonly AdapterReport[];
  /** What to do where there is no adapter at all. */
  readonly advice: string | null;
}

/**
 * What WebGPU has here. Drivers run for it, in this process: one that is broken may end it.
 * @throws UNSUPPORTED where npm's `webgpu` is not to be had
 */
export async function examineWebgpu(): Promise<WebgpuReport> {
  const { version } = await openDawn();
  const adapters = (await requestAdapters()).map(({ report }) => report);
  return { version, adapters, advice: adapters.length > 0 ? null : noAdapter() };
}

/**
 * @param software whether one that computes on the processor will do, where there is no GPU
 * @throws UNSUPPORTED with what there is instead, and what to do
 */
export async function findAdapter(software: boolean): Promise<FoundAdapter> {
  const adapters = await requestAdapters();
  const hardware = adapters.find(({ report }) => !report.software);
  const chosen = hardware ?? (software ? adapters[0] : undefined);
  if (chosen) return chosen;
  throw new FinetableError(
    'UNSUPPORTED',
    adapters.length > 0
      ? `WebGPU has no GPU here, only ${adapters.map(({ report }) => report.name).join(', ')}, which computes on the processor and is used only when asked for (software: true)`
      : noAdapter(),
    { adapters: adapters.map(({ report }) => report.name) },
  );
}

const noAdapter = (): string => `WebGPU finds no adapter: ${missingDriver()}`;

function missingDriver(): string {
  switch (process.platform) {
    case 'linux':
      return "it needs a Vulkan driver and its loader (libvulkan.so.1): install the GPU's driver with libvulkan1, or mesa-vulkan-drivers 23 or newer";
    case 'darwin':
      return 'it needs Metal';
    default:
      return "it needs Direct3D 12 or Vulkan: install the GPU's driver";
  }
}
