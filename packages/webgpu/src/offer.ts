/** The device that jobs get. */
import type { DevicePackage } from '@finetable/placement';
import { webgpuDevice } from './device.ts';

/** The fastest GPU that WebGPU finds, or with `software` a driver that computes on the processor. @throws as `webgpuDevice` */
export const offerDevice: DevicePackage['offerDevice'] = async (options) => {
  const device = await webgpuDevice(options);
  const { adapter, isGpu, note } = device;
  return { device, gpu: isGpu, note: `${adapter.name}, ${note}`, instead: `WebGPU computes on ${adapter.name}` };
};
