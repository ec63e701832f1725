/**
 * Rows as whole numbers with a scale each, as Keras' `quantize('int8')`, and `quantize('int4')` with a scale a row, make them:
 * code = round(x * scale), x = code / scale, scale = top / (max |x| + 1e-7) with top 127 or 7.
 *
 * tfjs has no bytes, so codes are packed into int32 words, four or eight a word, column 0 lowest: on disk and in memory 1 or 1/2
 * byte a number.
 */
import type { LayerVariable, Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { tf } from '../load.ts';
import type { Base } from './base.ts';
import type { QuantizeMode } from './rows.ts';
import { layerVariable } from './variable.ts';

const tops: Readonly<Record<QuantizeMode, number>> = { int8: 127, int4: 7 };
/** Keras' `backend.epsilon()`. */
const epsilon = 1e-7;

export class QuantizedBase implements Base {
  readonly trainable = false;
  readonly mode: QuantizeMode;
  readonly #columns: number;
  readonly #codes: LayerVariable;
  readonly #scales: LayerVariable;

  /** @param w `[V, D]` f32; the caller keeps it */
  constructor(layerName: string, mode: QuantizeMode, w: Tensor2D) {
    this.mode = mode;
    this.#columns = w.shape[1];
    const { codes, scales } = quantizeRows(w, mode);
    this.#codes = layerVariable(layerName, 'embeddings', codes, false);
    this.#scales = layerVariable(layerName, 'embeddings_scale', scales, false);
    tf.dispose([codes, scales]);
  }

  get weights(): readonly LayerVariable[] {
    return [this.#codes, this.#scales];
  }

  /** Only the rows asked for leave the device; what is made of them has no gradient. */
  rows(ids: Tensor1D): Tensor2D {
    return tf.tidy(() =>
      dequantizeRows(
        tf.gather(this.#codes.read() as Tensor2D, ids),
        tf.gather(this.#scales.read() as Tensor1D, ids),
        this.#columns,
        this.mode,
      ),
    );
  }

  table(): Tensor2D {
    return dequantizeRows(this.#codes.read(), this.#scales.read(), this.#columns, this.mode);
  }

  write(w: Tensor): void {
    const { codes, scales } = quantizeRows(w as Tensor2D, this.mode);
    this.#codes.write(codes);
    this.#scales.write(scales);
    tf.dispose([codes, scales]);
  }

  dispose(): void {
    for (const weight of this.weights) weight.dispose();
  }
}

/** Bytes of a row's codes, whole words. */
const strideOf = (columns: number, mode: QuantizeMode): number =>
  4 * Math.ceil((columns * (mode === 'int8' ? 1 : 0.5)) / 4);

function quantizeRows(w: Tensor2D, mode: QuantizeMode): { codes: Tensor2D; scales: Tensor1D } {
  const [v, d] = w.shape;
  const data = w.dataSync<'float32'>();
  const top = tops[mode];
  const stride = strideOf(d, mode);
  const bytes = new Uint8Array(v * stride);
  const scales = new Float32Array(v);
  for (let row = 0; row < v; row++) {
    let largest = 0;
    for (let i = row * d; i < (row + 1) * d; i++) largest = Math.max(largest, Math.abs(data[i]!));
    const scale = Math.fround(top / Math.fround(largest + epsilon));
    scales[row] = scale;
    for (let j = 0; j < d; j++) {
      const code = Math.max(-top, Math.min(top, roundToEven(Math.fround(data[row * d + j]! * scale))));
      if (mode === 'int8') bytes[row * stride + j] = code;
      else bytes[row * stride + (j >> 1)]! |= (code & 15) << (4 * (j & 1));
    }
  }
  return { codes: tf.tensor2d(new Int32Array(bytes.buffer), [v, stride / 4], 'int32'), scales: tf.tensor1d(scales) };
}

function dequantizeRows(codes: Tensor, scales: Tensor, columns: number, mode: QuantizeMode): Tensor2D {
  const words = codes.dataSync<'int32'>() as Int32Array;
  const bytes = new Int8Array(words.buffer, words.byteOffset, words.byteLength);
  const scale = scales.dataSync<'float32'>();
  const stride = strideOf(columns, mode);
  const out = new Float32Array(scale.length * columns);
  for (let row = 0; row < scale.length; row++) {
    for (let j = 0; j < columns; j++) {
      const byte = bytes[row * stride + (mode === 'int8' ? j : j >> 1)]!;
      // The low half is shifted up first, for its sign.
      const code = mode === 'int8' ? byte : j & 1 ? byte >> 4 : (byte << 28) >> 28;
      out[row * columns + j] = code / scale[row]!;
    }
  }
  return tf.tensor2d(out, [scale.length, columns]);
}

/** Ties go to the even number, as in NumPy. */
function roundToEven(x: number): number {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
