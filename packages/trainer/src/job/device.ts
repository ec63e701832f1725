/**
 * The device that a job asks for: the backend of TensorFlow.js, by `@finetable/tfjs`, which is imported by name and only then, since
 * it is no dependency of this package.
 */
import { FinetableError, isFinetableError, parseBytes } from '@finetable/core';
import type { Device, DeviceRequest } from '@finetable/placement';
import { asksForDevice, deviceName, type Job } from './schema.ts';

/** A device as the planner and the tables need it. */
export interface JobDevice {
  readonly device: Device;
  readonly request: DeviceRequest;
  /** Whether it is a GPU: a backend in the process's own memory is used only by tables that say so. */
  readonly gpu: boolean;
  /** What computes instead of one, and why. */
  readonly instead: string;
}

/** The device of a job, where it asks for one and there is one. */
export interface FoundDevice {
  readonly found: JobDevice | null;
  /** Why `placement.device: auto` does without. */
  readonly notes: readonly string[];
}

/** As `@finetable/tfjs` has it. */
interface TfjsPackage {
  useBestBackend(): Promise<{
    readonly backend: string;
    readonly problems: readonly { readonly package: string; readonly message: string }[];
  }>;
  tfjsDevice(options: {
    memoryBytes?: number | undefined;
  }): Promise<Device & { readonly isGpu: boolean; readonly note: string }>;
}

/** Copies within RAM, through tensors: slower than the kernels' own reading. */
const hostBandwidths = { streaming: 6e9, randomRead: 3e9, link: 6e9 };

/** @throws UNSUPPORTED where a table's placement or `placement.device: gpu` asks for what is not to be had */
export async function findDevice({ tables, placement }: Job): Promise<FoundDevice> {
  const table = Object.keys(tables).find((name) => asksForDevice(tables[name]!));
  const { device: wanted } = placement;
  if (table === undefined && wanted === 'cpu') return { found: null, notes: [] };
  const field = wanted === 'cpu' ? `tables.${table}.placement` : 'placement.device';
  try {
    const found = await openDevice(placement.deviceMemory);
    if (found.gpu || (table !== undefined && wanted !== 'gpu')) return { found, notes: [] };
    throw new FinetableError('UNSUPPORTED', `${field}: there is no GPU: ${found.instead}`);
  } catch (error) {
    if (!isFinetableError(error)) throw error;
    if (table === undefined && wanted === 'auto')
      return { found: null, notes: [`${error.message}. Tables are placed in RAM and files`] };
    throw error;
  }
}

async function openDevice(memory: string | number | undefined): Promise<JobDevice> {
  const { useBestBackend, tfjsDevice } = await importPackage();
  const { backend, problems } = await useBestBackend();
  const memoryBytes = memory === undefined ? undefined : parseBytes(memory, 'placement.deviceMemory');
  const device = await tfjsDevice({ memoryBytes });
  const { isGpu, capacityBytes, note } = device;
  const why = problems.map((problem) => `${problem.package}: ${problem.message}`);
  return {
    device,
    gpu: isGpu,
    instead: `TensorFlow.js computes on its ${backend} backend${why.length === 0 ? '' : ` (${why.join('; ')})`}`,
    request: {
      name: deviceName,
      kind: 'gpu',
      budgetBytes: capacityBytes,
      note: `${backend} backend, ${note}`,
      bandwidths: isGpu ? undefined : hostBandwidths,
    },
  };
}

async function importPackage(): Promise<TfjsPackage> {
  const name: string = '@finetable/tfjs';
  try {
    return (await import(name)) as TfjsPackage;
  } catch (error) {
    if (isFinetableError(error)) throw error;
    throw new FinetableError(
      'UNSUPPORTED',
      `tables on devices need ${name} with TensorFlow.js: npm install ${name} @tensorflow/tfjs, and @tensorflow/tfjs-node-gpu or @tensorflow/tfjs-node`,
      {},
      { cause: error },
    );
  }
}
