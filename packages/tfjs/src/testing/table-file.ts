/** Table files of every dtype, with values that tell rows and columns apart. */
import { matrix, RandomStream, range, rowBytes, rowScales, type Matrix, type RowFormat } from '@finetable/core';
import { writeQuantizedTable, writeSafetensors } from '@finetable/formats';
import { loadKernels } from '@finetable/kernels';

export function normals(rows: number, dim: number, seed = 1): Matrix {
  const out = matrix(rows, dim);
  new RandomStream(seed, 'table').fillNormal(out.data);
  return out;
}

export async function writeTable(path: string, values: Matrix, format: RowFormat): Promise<void> {
  const kernels = loadKernels();
  const store = kernels.createRows(values.rows, format.dim, format.dtype, format.groupDims);
  kernels.scatterRows(store, range(values.rows), values);
  const elements = new Uint8Array(values.rows * rowBytes(format.dtype, format.dim));
  const scales = new Uint8Array(values.rows * 4 * rowScales(format));
  kernels.readBytes(store, 0, elements);
  kernels.readBytes(store, elements.length, scales);
  store.close();
  const shape = [values.rows, format.dim];
  switch (format.dtype) {
    case 'f32':
      await writeSafetensors(path, [{ name: 'rows', dtype: 'F32', shape, data: values.data }]);
      break;
    case 'f16':
    case 'bf16': {
      const dtype = format.dtype === 'f16' ? 'F16' : 'BF16';
      await writeSafetensors(path, [{ name: 'rows', dtype, shape, data: new Uint16Array(elements.buffer) }]);
      break;
    }
    default:
      await writeQuantizedTable(
        path,
        { name: 'rows', rows: values.rows, format },
        {
          elements: stream(elements),
          scales: stream(scales),
        },
      );
  }
}

async function* stream(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
