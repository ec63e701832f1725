/** A table as it lies on disk: a 2-d tensor of a safetensors file (single or sharded), float or quantised, or a `.npy` file. */
import { FinetableError, type RowDtype, type TensorDtype } from '@finetable/core';
import { isScales, openSafetensors, quantizedTable, readNpyHeader, type SafetensorsModel } from '@finetable/formats';
import type { FileRows } from '@finetable/kernels';

const storable: Partial<Record<TensorDtype, RowDtype>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** Where a table was read from. */
export interface TableOrigin {
  /** What was opened: a table file, or the index of several. */
  readonly path: string;
  /** Every file that belongs to it. */
  readonly files: readonly string[];
  /** The tensor's name; null in a `.npy` file. */
  readonly tensor: string | null;
  /** What the safetensors file says beside its tensors. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly rows: FileRows;
}

/**
 * Finds the rows of a table in a file, reading headers only. Quantised tables are int8 and int4 as docs/guide/12-formats.md has them.
 * @param tensor which tensor of a safetensors file; may be left out where only one is a table
 * @throws NOT_FOUND, INVALID_FILE (hostile, truncated, wrong dims or dtype, scales that do not fit), INVALID_ARGUMENT (no
 * such tensor), UNSUPPORTED (over 2^31 - 1 rows)
 */
export async function findRows(path: string, tensor?: string): Promise<FileRows> {
  return (await findTable(path, tensor)).rows;
}

/** As {@link findRows}, with what else there is to know. */
export async function findTable(path: string, tensor?: string): Promise<TableOrigin> {
  if (path.endsWith('.npy')) {
    if (tensor !== undefined) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `${path}: tensor "${tensor}" was asked for; a .npy file holds one array without a name`,
      );
    }
    const header = await readNpyHeader(path);
    return { path, files: [path], tensor: null, metadata: {}, rows: floatRows(path, path, header) };
  }
  const file = await openSafetensors(path);
  const name = tensor ?? onlyTable(path, file);
  const entry = file.tensors.get(name);
  if (!entry) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${path}: no tensor "${name}"; it has ${list([...file.tensors.keys()])}`,
      { file: path, tensor: name },
    );
  }
  const where = `${path}: tensor "${name}"`;
  const quantized = quantizedTable(file, name);
  const files = [...new Set([path, ...[...file.tensors.values()].map((info) => info.file)])];
  const origin = { path, files, tensor: name, metadata: entry.metadata };
  if (quantized === null) return { ...origin, rows: floatRows(entry.file, where, entry) };
  const { rows, format, scales } = quantized;
  checkRows(entry.file, where, rows);
  return {
    ...origin,
    rows: {
      path: entry.file,
      byteOffset: entry.byteOffset,
      rows,
      dim: format.dim,
      dtype: format.dtype,
      scales: { path: scales.file, byteOffset: scales.byteOffset, groupDims: format.groupDims },
    },
  };
}

interface Located {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly byteOffset: number;
}

function floatRows(path: string, where: string, { dtype, shape, byteOffset }: Located): FileRows {
  const [rows, dim] = shape;
  if (shape.length !== 2 || rows === undefined || dim === undefined || rows === 0 || dim === 0) {
    throw new FinetableError(
      'INVALID_FILE',
      `${where} has shape [${shape.join(', ')}]; a table is [rows, dims], both at least 1`,
      { file: path },
    );
  }
  checkRows(path, where, rows);
  const rowDtype = storable[dtype];
  if (!rowDtype) {
    const allowed = `${Object.keys(storable).join(', ')}, or I8 or U8 with scales as finetable convert writes them`;
    throw new FinetableError('INVALID_FILE', `${where} is ${dtype}; a base table is ${allowed}`, { file: path, dtype });
  }
  return { path, byteOffset, rows, dim, dtype: rowDtype };
}

function checkRows(path: string, where: string, rows: number): void {
  if (rows <= 0x7fffffff) return;
  throw new FinetableError('UNSUPPORTED', `${where} has ${rows} rows; one table holds at most 2147483647`, {
    file: path,
  });
}

function onlyTable(path: string, model: SafetensorsModel): string {
  const { tensors } = model;
  const names = [...tensors]
    .filter(
      ([name, { shape, dtype }]) =>
        shape.length === 2 && !isScales(tensors, name) && (dtype in storable || quantizedTable(model, name) !== null),
    )
    .map(([name]) => name);
  if (names.length === 1) return names[0]!;
  const found =
    names.length === 0
      ? 'no 2-d F32, F16 or BF16 tensor, and none with scales'
      : `several 2-d tensors (${list(names)})`;
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
