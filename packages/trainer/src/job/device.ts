/**
 * The device that a job asks for. The packages of devices are imported by name and only then, since they are no dependencies of this
 * one; each exports `offerDevice`.
 */
import { FinetableError, isFinetableError, parseBytes } from '@finetable/core';
import type { Device, DevicePackage, DeviceRequest } from '@finetable/placement';
import { devicesAskedFor, type DeviceName, type Job } from './schema.ts';

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

const packages: Readonly<Record<DeviceName, { readonly name: string; readonly install: string }>> = {
  webgpu: { name: '@finetable/webgpu', install: 'npm install @finetable/webgpu webgpu' },
  tfjs: {
    name: '@finetable/tfjs',
    install: 'npm install @finetable/tfjs @tensorflow/tfjs, and @tensorflow/tfjs-node-gpu or @tensorflow/tfjs-node',
  },
};

/** Copies within RAM, by a device that is none: slower than the kernels' own reading. */
const hostBandwidths = { streaming: 6e9, randomRead: 3e9, link: 6e9 };

/** @throws UNSUPPORTED where a table's placement or `placement.device: gpu` asks for what is not to be had */
export async function findDevice(job: Job): Promise<FoundDevice> {
  const { placement, objective } = job;
  const [named] = devicesAskedFor(job);
  const { device: wanted } = placement;
  if (named === undefined && wanted === 'cpu') return { found: null, notes: [] };
  // Vectors and gradients of a tfjs objective stay on a device of tfjs; else WebGPU's shaders are the faster ones.
  const order = objective.type === 'tfjs' ? (['tfjs', 'webgpu'] as const) : (['webgpu', 'tfjs'] as const);
  const reasons: string[] = [];
  for (const name of named ? [named] : order) {
    try {
      const found = await openDevice(name, placement);
      if (found.gpu || (named && wanted !== 'gpu')) return { found, notes: [] };
      reasons.push(found.instead);
    } catch (error) {
      if (!isFinetableError(error) || named) throw error;
      reasons.push(error.message);
    }
  }
  const message = `placement.device: there is no GPU: ${reasons.join('; ')}`;
  if (named || wanted !== 'auto') throw new FinetableError('UNSUPPORTED', message);
  return { found: null, notes: [`${message}. Tables are placed in RAM and files`] };
}

async function openDevice(name: DeviceName, { deviceMemory, software }: Job['placement']): Promise<JobDevice> {
  const { offerDevice } = await importPackage(name);
  const memoryBytes = deviceMemory === undefined ? undefined : parseBytes(deviceMemory, 'placement.deviceMemory');
  const { device, gpu, note, instead } = await offerDevice({ memoryBytes, software });
  const budgetBytes = device.capacityBytes;
  const bandwidths = gpu ? undefined : hostBandwidths;
  return { device, gpu, instead, request: { name, kind: 'gpu', budgetBytes, note, bandwidths } };
}

async function importPackage(device: DeviceName): Promise<DevicePackage> {
  const { name, install } = packages[device];
  try {
    return (await import(name)) as DevicePackage;
  } catch (error) {
    if (isFinetableError(error)) throw error;
    throw new FinetableError('UNSUPPORTED', `tables on "${device}" need ${name}: ${install}`, {}, { cause: error });
  }
}
