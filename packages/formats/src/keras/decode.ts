/** Rows of Keras embeddings as f32, of every dtype in which Keras stores them. */
import { FinetableError, bf16ToF32, f16ToF32, matrix, type Matrix } from '@finetable/core';
import type { Hdf5Dataset, Hdf5File } from './hdf5.ts';
import type { EmbeddingLayer } from './layers.ts';

/** `f64` is read as f32, rounded. */
export type KerasDtype = 'f64' | 'f32' | 'f16' | 'bf16' | 'int8' | 'int4';

/** What is known of a layer's matrix before a row is read. */
export interface MatrixForm {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: KerasDtype;
}

const floatDtypes: Readonly<Record<string, KerasDtype>> = { f8: 'f64', f4: 'f32', f2: 'f16' };

/** @throws INVALID_FILE where parts do not fit each other, UNSUPPORTED for other dtypes */
export function formOf(where: string, file: Hdf5File, layer: EmbeddingLayer): MatrixForm {
  const { matrix, scale, zero, groups, config } = layer;
  const refuse = (found: string): FinetableError => new FinetableError('INVALID_FILE', `${where}: ${found}`);
  const [rows, width] = matrix.shape as [number, number];
  const dtype = floatDtypeOf(file, matrix);
  const told = config?.output_dim;
  if (rows < 1 || width < 1 || rows > 0x7fffffff) throw refuse(`shape [${rows}, ${width}] is no table`);
  if (dtype !== null) {
    if (typeof told === 'number' && told !== width) throw refuse(`has ${width} dims; its configuration says ${told}`);
    return { rows, dim: width, dtype };
  }
  if (matrix.dtype !== 'i1' || !scale) {
    throw new FinetableError(
      'UNSUPPORTED',
      `${where}: elements ${matrix.dtype ?? 'of an unknown type'}${matrix.dtype === 'i1' ? ' without a scale' : ''}; allowed: floats, and int8 and int4 with their scales`,
    );
  }
  const dim = groups?.shape[0] ?? told;
  if (typeof dim !== 'number') {
    throw new FinetableError(
      'UNSUPPORTED',
      `${where}: its weights alone do not tell int8 from int4; read the whole model (.keras, or .h5), whose configuration does`,
    );
  }
  const packed = groups !== undefined || dim !== width;
  if (width !== (packed ? Math.ceil(dim / 2) : dim))
    throw refuse(`${width} bytes a row; ${dim} dims have ${packed ? Math.ceil(dim / 2) : dim}`);
  const perRow = groups ? (scale.shape[1] ?? 0) : 1;
  const fits = (part: Hdf5Dataset | undefined, dtype: string, shape: readonly number[]): boolean =>
    part !== undefined && part.dtype === dtype && part.shape.join() === shape.join();
  if (!fits(scale, 'f4', groups ? [rows, perRow] : [rows]))
    throw refuse(`its scale is ${describe(scale)}; needed: f4 [${rows}${groups ? ', groups' : ''}]`);
  if (groups && !(fits(zero, 'i1', [rows, perRow]) && fits(groups, 'f4', [dim])))
    throw refuse(
      `its zero points are ${describe(zero)} and its groups ${describe(groups)}; needed: i1 [${rows}, ${perRow}] and f4 [${dim}]`,
    );
  return { rows, dim, dtype: packed ? 'int4' : 'int8' };
}

function describe(part: Hdf5Dataset | undefined): string {
  return part ? `${part.dtype ?? 'unknown'} [${part.shape.join(', ')}]` : 'missing';
}

function floatDtypeOf(file: Hdf5File, { dtype, path }: Hdf5Dataset): KerasDtype | null {
  if (dtype === 'V2') return 'bf16'; // numpy knows no bfloat16, and nothing else of Keras is two bytes without a type
  if (dtype === 'u2' && file.attribute(path, 'dtype') === 'bfloat16') return 'bf16';
  return floatDtypes[dtype ?? ''] ?? null;
}

/** Rows [begin, end) as `[end - begin, D] f32`. A new matrix. */
export function readMatrix(
  file: Hdf5File,
  layer: EmbeddingLayer,
  form: MatrixForm,
  begin: number,
  end: number,
): Matrix {
  const { buffer } = file.read(layer.matrix, begin, end);
  const out = (values: Float32Array): Matrix => matrix(end - begin, form.dim, values);
  switch (form.dtype) {
    case 'f32':
      return out(new Float32Array(buffer));
    case 'f64':
      return out(new Float32Array(new Float64Array(buffer)));
    case 'f16':
      return out(Float32Array.from(new Uint16Array(buffer), f16ToF32));
    case 'bf16':
      return out(Float32Array.from(new Uint16Array(buffer), bf16ToF32));
    case 'int8':
    case 'int4':
      return out(dequantize(new Int8Array(buffer), file, layer, form, begin, end));
  }
}

/**
 * Keras divides by the scale of a row, and multiplies by that of a group, after its zero point is taken away. Of int4, column 2j is the low half of byte j,
 * in two's complement.
 */
function dequantize(
  bytes: Int8Array,
  file: Hdf5File,
  { scale, zero, groups }: EmbeddingLayer,
  { dim, dtype }: MatrixForm,
  begin: number,
  end: number,
): Float32Array {
  const scales = new Float32Array(file.read(scale!, begin, end).buffer);
  const zeros = groups && new Int8Array(file.read(zero!, begin, end).buffer);
  const groupOf = groups && new Float32Array(file.read(groups, 0, dim).buffer);
  const perRow = scales.length / (end - begin);
  const width = bytes.length / (end - begin);
  const values = new Float32Array((end - begin) * dim);
  for (let row = 0, i = 0; row < end - begin; row++) {
    for (let j = 0; j < dim; j++, i++) {
      const byte = bytes[row * width + (dtype === 'int4' ? j >> 1 : j)]!;
      const q = dtype === 'int8' ? byte : j % 2 === 0 ? (byte << 28) >> 28 : byte >> 4;
      if (groupOf) {
        const at = row * perRow + groupOf[j]!;
        values[i] = Math.fround(q - zeros![at]!) * scales[at]!; // NaN where a group is none of the row's
      } else values[i] = q / scales[row]!;
    }
  }
  return values;
}
