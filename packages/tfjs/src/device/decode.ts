/**
 * Rows of 16 bits and less on backends that know 32-bit numbers only: packed in int32 words as they are stored, and decoded where
 * they are looked up, by a table of what every 16 bits stand for (one f16 or bf16, two int8, four int4).
 */
import type { Tensor2D } from '@tensorflow/tfjs';
import { bf16ToF32, f16ToF32, rowBytes, rowScales, type RowDtype, type RowFormat } from '@finetable/core';
import { tf } from '../load.ts';

const halves = 65536;

/** int32 words of a row; its last bytes are filled up. An f32 is a word. */
export const rowWords = ({ dtype, dim }: RowFormat): number => Math.ceil(rowBytes(dtype, dim) / 4);

/** The elements that each 16 bits hold. */
const decoders: Readonly<Record<Exclude<RowDtype, 'f32'>, (bits: number) => number[]>> = {
  f16: (bits) => [f16ToF32(bits)],
  bf16: (bits) => [bf16ToF32(bits)],
  int8: (bits) => [(bits << 24) >> 24, (bits << 16) >> 24],
  int4: (bits) => [(bits << 28) >> 28, (bits << 24) >> 28, (bits << 20) >> 28, (bits << 16) >> 28],
};

/** Decodes rows of one format. Its tables are tensors, kept until it is disposed. */
export class Decoder {
  readonly #format: RowFormat;
  /** `[65536, elements in 16 bits]`; null of f32, which needs none. */
  readonly #values: Tensor2D | null;
  /** `[D] i32`: the scale of each column, where there are several. */
  readonly #groups: ReturnType<typeof tf.tensor1d> | null;

  constructor(format: RowFormat) {
    const { dtype, dim, groupDims } = format;
    this.#format = format;
    this.#values = null;
    if (dtype !== 'f32') {
      const decode = decoders[dtype];
      const each = decode(0).length;
      const values = new Float32Array(halves * each);
      for (let bits = 0; bits < halves; bits++) values.set(decode(bits), bits * each);
      this.#values = tf.keep(tf.tensor2d(values, [halves, each], 'float32'));
    }
    const several = rowScales(format) > 1;
    const groups = Int32Array.from({ length: dim }, (_, column) => Math.floor(column / groupDims));
    this.#groups = several ? tf.keep(tf.tensor1d(groups, 'int32')) : null;
  }

  get sizeBytes(): number {
    return 4 * ((this.#values?.size ?? 0) + (this.#groups?.size ?? 0));
  }

  /** @param elements `[n, rowWords]` @param scales `[n, rowScales]` @returns `[n, D]`; to be called in `tf.tidy` */
  decode(elements: Tensor2D, scales: Tensor2D | null): Tensor2D {
    if (!this.#values) return elements;
    const { dim } = this.#format;
    const n = elements.shape[0];
    // Quotients are rounded down, so the high half is signed and the low one is not.
    const high = tf.floorDiv(elements, tf.scalar(halves, 'int32'));
    const low = tf.sub(elements, tf.mul(high, tf.scalar(halves, 'int32')));
    const sign = tf.floorDiv(high, tf.scalar(halves, 'int32'));
    const unsigned = tf.sub(high, tf.mul(sign, tf.scalar(halves, 'int32')));
    const index = tf.cast(tf.stack([low, unsigned], 2), 'int32');
    const all = tf.reshape(tf.gather(this.#values, tf.reshape(index, [-1])), [n, -1]) as Tensor2D;
    const values = all.shape[1] === dim ? all : tf.slice(all, [0, 0], [n, dim]);
    if (!scales) return values;
    return tf.mul(values, this.#groups ? tf.gather(scales, this.#groups, 1) : scales);
  }

  dispose(): void {
    this.#values?.dispose();
    this.#groups?.dispose();
  }
}
