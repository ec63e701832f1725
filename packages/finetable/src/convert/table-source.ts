/** A table of a safetensors or npy file: what it is and where it lies. */
import { FinetableError, type TensorDtype } from '@finetable/core';
import { isScales, openSafetensors, quantizedTable, readNpyHeader, type QuantizedTable } from '@finetable/formats';
import type { FileRows } from '@finetable/kernels';

export interface TableSource {
  readonly file: string;
  /** Null for the one array of a `.npy` file. */
  readonly tensor: string | null;
  /** Of the elements. */
  readonly dtype: TensorDtype;
  /** Of the elements. */
  readonly shape: readonly number[];
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly quantized: QuantizedTable | null;
}

export function isTableFile(path: string): boolean {
  return /\.(npy|safetensors|index\.json)$/.test(path);
}

/** @throws INVALID_FILE, INVALID_ARGUMENT (no such tensor, or several and none named) */
export async function openTableSource(path: string, tensor: string | undefined): Promise<TableSource> {
  const source = await locate(path, tensor);
  if (source.byteLength === 0) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${path}: shape [${source.shape.join(', ')}] holds nothing to convert`,
      { file: path },
    );
  }
  return source;
}

const floats = { F32: 'f32', F16: 'f16', BF16: 'bf16' } as const;

/** As rows of numbers: dimensions after the first are taken together. Null for what is neither float nor quantised. */
export function rowsOfSource({ file: path, dtype, shape, byteOffset, quantized }: TableSource): FileRows | null {
  if (quantized) {
    const { rows, format, scales } = quantized;
    const { dim, groupDims } = format;
    return {
      path,
      byteOffset,
      rows,
      dim,
      dtype: format.dtype,
      scales: { path: scales.file, byteOffset: scales.byteOffset, groupDims },
    };
  }
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') return null;
  const dim = shape.slice(1).reduce((product, n) => product * n, 1);
  return { path, byteOffset, rows: shape[0] ?? 1, dim, dtype: floats[dtype] };
}

async function locate(path: string, tensor: string | undefined): Promise<TableSource> {
  if (path.endsWith('.npy')) return { file: path, tensor: null, quantized: null, ...(await readNpyHeader(path)) };
  const model = await openSafetensors(path);
  const { tensors } = model;
  const names = [...tensors.keys()].filter((name) => !isScales(tensors, name));
  const name = tensor ?? (names.length === 1 ? names[0]! : undefined);
  const info = name === undefined ? undefined : tensors.get(name);
  if (name !== undefined && info) return { tensor: name, quantized: quantizedTable(model, name), ...info };
  const problem =
    name === undefined ? `holds ${names.length} tensors; choose one with --tensor` : `has no tensor "${name}"`;
  throw new FinetableError('INVALID_ARGUMENT', `${path}: ${problem}; allowed: ${names.slice(0, 20).join(', ')}`, {
    file: path,
  });
}
