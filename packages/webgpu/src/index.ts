/**
 * Tables on GPUs of any vendor, by WebGPU: Vulkan, Metal or Direct3D, and no CUDA toolkit. `webgpu` of npm is an optional peer.
 *
 *     import { webgpuDevice } from '@finetable/webgpu';
 *
 *     const words = await openTable('vectors.safetensors', { placement: await webgpuDevice({ memoryBytes: 12 * 2 ** 30 }) });
 * @module
 */
export { webgpuDevice, type WebgpuDevice, type WebgpuDeviceOptions } from './device.ts';
export { examineWebgpu, type AdapterReport, type WebgpuReport } from './adapters.ts';
export { offerDevice } from './offer.ts';
