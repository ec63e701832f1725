/** A device that holds f32 rows of whole width in memory, asynchronous and as slow or broken as a test wants it. */
import type { Matrix } from '@finetable/core';
import type { Device } from '@finetable/placement';

export interface MemoryDevice extends Device {
  fetches: number;
  /** Called before each answer. */
  before: () => Promise<void>;
}

export function memoryDevice({ data, cols }: Matrix): MemoryDevice {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const device: MemoryDevice = {
    name: 'memory:0',
    kind: 'remote',
    capacityBytes: 2 ** 30,
    fetches: 0,
    before: () => new Promise(setImmediate),
    openRows: (_, { firstRow, rows }) =>
      Promise.resolve({
        rows,
        dim: cols,
        dtype: 'f32',
        groupDims: 0,
        sizeBytes: rows * cols * 4,
        fetch: async (wanted, out) => {
          device.fetches++;
          await device.before();
          wanted.forEach((row, i) => {
            out.set(bytes.subarray((firstRow + row) * cols * 4, (firstRow + row + 1) * cols * 4), i * cols * 4);
          });
        },
        close: () => undefined,
      }),
  };
  return device;
}
