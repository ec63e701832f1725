/** What crosses between host and device, counted: all but the tables themselves goes through here. */
import type { Tensor, Tensor1D, TypedArray } from '@tensorflow/tfjs';
import { tf } from '../load.ts';

export class Traffic {
  uploadedBytes = 0;
  downloadedBytes = 0;

  /** `[n] i32`. The array is the tensor's from now on. */
  ints(values: Int32Array): Tensor1D {
    this.uploadedBytes += values.byteLength;
    return tf.tensor1d(values, 'int32');
  }

  /** The array is the tensor's from now on. */
  floats(values: Float32Array, shape: readonly number[]): Tensor {
    this.uploadedBytes += values.byteLength;
    return tf.tensor(values, [...shape], 'float32');
  }

  async download(tensor: Tensor): Promise<TypedArray> {
    const values = await tensor.data();
    this.downloadedBytes += values.byteLength;
    return values;
  }
}
