/** The WebGPU device, for the tests that every kind of device passes. */
import { loadKernels } from '@finetable/kernels';
import type { DeviceSubject } from '@finetable/lora/testing';
import { webgpuDevice, type WebgpuDevice } from '../device.ts';
import { deviceRowBytes } from '../rows.ts';

export const subject: DeviceSubject = {
  open: ({ arrayBytes, compute } = {}) => webgpuDevice({ software: true, bufferBytes: arrayBytes, compute }),
  held: (device) => (device as WebgpuDevice).heldBytes,
  heldByRows: (bytes) => bytes,
  // Three buffers, in one pass.
  arrayBytesOf: (format) => 17 * deviceRowBytes(format),
  kernels: loadKernels({ kind: 'portable' }),
};
