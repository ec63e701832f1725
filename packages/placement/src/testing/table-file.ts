/** Table files of every dtype, with values that tell rows and columns apart. */
import { matrix, RandomStream, range, rowBytes, rowScales, type Matrix, type RowFormat } from '@finetable/core';
import { writeQuantizedTable, writeSafetensors } from '@finetable/formats';
import { loadKernels } from '@finetable/kernels';

export function normals(rows: number, dim: number, seed = 1): Matrix {
  const out = matrix(rows, dim);
  new RandomStream(seed, 'table').fillNormal(out.data);
  return out;
}

/** @param format f32 where it is left out */
export async function writeTable(
  path: string,
  values: Matrix,
  format: RowFormat = { dtype: 'f32', dim: values.cols, groupDims: 0 },
  name = 'rows',
): Promise<void> {
  const kernels = loadKernels();
  const store = kernels.createRows(values.rows, format.dim, format.dtype, format.groupDims);
  kernels.scatterRows(store, range(values.rows), values);
  const elements = new Uint8Array(values.rows * rowBytes(format.dtype, format.dim));
  const scales = new Uint8Array(values.rows * 4 * rowScales(format));
  kernels.readBytes(store, 0, elements);
  kernels.readBytes(store, elements.length, scales);
  store.close();
  if (format.groupDims > 0) {
    await writeQuantizedTable(
      path,
      { name, rows: values.rows, format },
      { elements: once(elements), scales: once(scales) },
    );
    return;
  }
  const dtype = ({ f32: 'F32', f16: 'F16', bf16: 'BF16' } as const)[format.dtype as 'f32'];
  await writeSafetensors(path, [{ name, dtype, shape: [values.rows, format.dim], data: elements }], { format: 'pt' });
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
