/** A table as it lies on disk: a 2-d float tensor of a safetensors file (single or sharded) or a `.npy` file. */
import { FinetableError, type RowDtype, type TensorDtype } from '@finetable/core';
import { openSafetensors, readNpyHeader } from '@finetable/formats';
import type { FileRows } from '@finetable/kernels';

const storable: Partial<Record<TensorDtype, RowDtype>> = { F32: 'f32', F16: 'f16' };

/**
 * Finds the rows of a table in a file, reading headers only.
 * @param tensor which tensor of a safetensors file; may be left out where only one is a 2-d float matrix
 * @throws NOT_FOUND, INVALID_FILE (hostile, truncated, wrong dims or dtype), INVALID_ARGUMENT (no such tensor)
 */
export async function findRows(path: string, tensor?: string): Promise<FileRows> {
  if (path.endsWith('.npy')) {
    if (tensor !== undefined) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${path}: tensor "${tensor}" was asked for; a .npy file holds one array without a name`,
      );
    }
    const header = await readNpyHeader(path);
    return fileRows(path, path, header);
  }
  const file = await openSafetensors(path);
  const name = tensor ?? onlyMatrix(path, file.tensors);
  const entry = file.tensors.get(name);
  if (!entry) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${path}: no tensor "${name}"; it has ${list([...file.tensors.keys()])}`,
      { file: path, tensor: name },
    );
  }
  return fileRows(entry.file, `${path}: tensor "${name}"`, entry);
}

interface Located {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly byteOffset: number;
}

function fileRows(path: string, where: string, { dtype, shape, byteOffset }: Located): FileRows {
  const [rows, dim] = shape;
  if (shape.length !== 2 || rows === undefined || dim === undefined || rows === 0 || dim === 0) {
    throw new FinetableError(
      'INVALID_FILE',
      `${where} has shape [${shape.join(', ')}]; a table is [rows, dims], both at least 1`,
      { file: path },
    );
  }
  if (rows > 0x7fffffff) {
    throw new FinetableError('UNSUPPORTED', `${where} has ${rows} rows; one table holds at most 2147483647`, {
      file: path,
    });
  }
  const rowDtype = storable[dtype];
  if (!rowDtype) {
    throw new FinetableError(
      'INVALID_FILE',
      `${where} is ${dtype}; a base table is ${Object.keys(storable).join(' or ')}`,
      { file: path, dtype },
    );
  }
  return { path, byteOffset, rows, dim, dtype: rowDtype };
}

function onlyMatrix(path: string, tensors: ReadonlyMap<string, Located>): string {
  const names = [...tensors].filter(([, t]) => t.shape.length === 2 && t.dtype in storable).map(([name]) => name);
  if (names.length === 1) return names[0]!;
  const found = names.length === 0 ? 'no 2-d F32 or F16 tensor' : `several 2-d tensors (${list(names)})`;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `${path}: ${found}; name the table's tensor. The file has ${list([...tensors.keys()])}`,
    { file: path },
  );
}

function list(names: readonly string[]): string {
  return names.length > 8
    ? `${names.slice(0, 8).join(', ')} and ${names.length - 8} more`
    : names.join(', ') || 'no tensors';
}
