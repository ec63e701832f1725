/** Matrices on a tfjs device. */
import type { Tensor2D } from '@tensorflow/tfjs';
import type { Matrix } from '@finetable/core';
import type { DeviceMatrix } from '@finetable/placement';
import { tf } from '../load.ts';
import { Traffic } from './traffic.ts';

/** A matrix that is a tensor. */
export class TfjsMatrix implements DeviceMatrix {
  readonly rows: number;
  readonly cols: number;
  /** `[rows, cols] f32`. Owned by the matrix. */
  readonly tensor: Tensor2D;
  readonly #traffic: Traffic;

  /** @param tensor held by `tf.keep` */
  constructor(tensor: Tensor2D, traffic = new Traffic()) {
    [this.rows, this.cols] = tensor.shape;
    this.tensor = tensor;
    this.#traffic = traffic;
  }

  async read(out: Matrix): Promise<void> {
    if (this.tensor.size > 0) out.data.set((await this.#traffic.download(this.tensor)) as Float32Array);
  }

  rowsOf(first: number, count: number): TfjsMatrix {
    return new TfjsMatrix(tf.keep(tf.slice(this.tensor, [first, 0], [count, this.cols])), this.#traffic);
  }

  dispose(): void {
    this.tensor.dispose();
  }
}
