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
    const [low, high] = splitWords(elements);
    const index = tf.stack([low, high], 2);
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

/** The two halves of every word, each in [0, 65536). */
function splitWords(words: Tensor2D): [Tensor2D, Tensor2D] {
  const unit = tf.scalar(halves, 'int32');
  const split = (x: Tensor2D): [Tensor2D, Tensor2D] => {
    const quotient = tf.floorDiv(x, unit) as Tensor2D;
    return [tf.sub(x, tf.mul(quotient, unit)), quotient];
  };
  // Backends may divide in f32, so that the quotient is 1 off; the second time the numbers are small, so it is not.
  const [rest, quotient] = split(words);
  const [low, carry] = split(rest);
  return [low, split(tf.add(quotient, carry))[0]];
}
