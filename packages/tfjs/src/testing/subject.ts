/** The tfjs device on the backend in use, for the tests that every kind of device passes. */
import type { DeviceSubject } from '@finetable/lora/testing';
import { tfjsDevice } from '../device/device.ts';
import { tf } from '../load.ts';

export const subject: DeviceSubject = {
  open: ({ arrayBytes, compute } = {}) => tfjsDevice({ tensorBytes: arrayBytes, compute }),
  held: () => tf.memory().numTensors,
  arrayBytesOf: () => 400,
};
