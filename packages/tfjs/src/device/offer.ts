/** The device that jobs get: the best backend of TensorFlow.js. */
import type { DevicePackage } from '@finetable/placement';
import { useBestBackend } from '../backend.ts';
import { tfjsDevice } from './device.ts';

/** The device of the best installed backend; `software` changes nothing here. @throws UNSUPPORTED where TensorFlow.js is not installed */
export const offerDevice: DevicePackage['offerDevice'] = async ({ memoryBytes }) => {
  const { backend, problems } = await useBestBackend();
  const device = await tfjsDevice({ memoryBytes });
  const why = problems.map((problem) => `${problem.package}: ${problem.message}`);
  return {
    device,
    gpu: device.isGpu,
    note: `${backend} backend, ${device.note}`,
    instead: `TensorFlow.js computes on its ${backend} backend${why.length === 0 ? '' : ` (${why.join('; ')})`}`,
  };
};
