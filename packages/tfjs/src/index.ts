/**
 * TensorFlow.js in both directions: an embedding layer as Keras has it, tfjs models as objectives, and tables on tfjs devices.
 * @module
 */
export { tf } from './load.ts';
export { tfjsDevice, type TfjsDevice, type TfjsDeviceOptions } from './device/device.ts';
export { TfjsMatrix } from './device/lookup.ts';
