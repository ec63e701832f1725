/** A device in memory: asynchronous, counted, and as slow or broken as a test wants it. */
import { readFileSync } from 'node:fs';
import { rowBytes, rowScales } from '@finetable/core';
import type { FileRows, TablePart } from '@finetable/kernels';
import type { Device, DeviceRows } from '../device.ts';

export class FakeDevice implements Device {
  readonly name: string;
  readonly kind = 'remote';
  capacityBytes = 2 ** 30;
  fetches = 0;
  fetchedRows = 0;
  open = 0;
  /** Rows of fetches that have not been answered. */
  waiting = 0;
  /** Called before each answer. */
  before: () => Promise<void> = () => new Promise(setImmediate);

  constructor(name = 'fake:0') {
    this.name = name;
  }

  async openRows(file: FileRows, part: TablePart): Promise<DeviceRows> {
    await new Promise(setImmediate);
    const groupDims = file.scales?.groupDims ?? 0;
    const whole = { dtype: file.dtype, dim: file.dim, groupDims };
    const own = { dtype: file.dtype, dim: part.columns, groupDims: Math.min(groupDims, part.columns) };
    const elements = {
      bytes: readFileSync(file.path).subarray(file.byteOffset),
      stride: rowBytes(file.dtype, file.dim),
      at: rowBytes(file.dtype, part.firstColumn),
      width: rowBytes(file.dtype, part.columns),
    };
    const scales = {
      bytes: file.scales ? readFileSync(file.scales.path).subarray(file.scales.byteOffset) : new Uint8Array(0),
      stride: 4 * rowScales(whole),
      at: groupDims === 0 ? 0 : 4 * Math.floor(part.firstColumn / groupDims),
      width: 4 * rowScales(own),
    };
    this.open++;
    let closed = false;
    return {
      ...own,
      rows: part.rows,
      sizeBytes: part.rows * (elements.width + scales.width),
      fetch: async (rows, out) => {
        this.fetches++;
        this.waiting += rows.length;
        try {
          await this.before();
          if (closed) throw new Error('the rows are closed');
        } finally {
          this.waiting -= rows.length;
        }
        this.fetchedRows += rows.length;
        let to = 0;
        for (const { bytes, stride, at, width } of [elements, scales]) {
          for (const row of rows) {
            const from = (part.firstRow + row) * stride + at;
            out.set(bytes.subarray(from, from + width), to);
            to += width;
          }
        }
      },
      close: () => {
        if (!closed) this.open--;
        closed = true;
      },
    };
  }
}
