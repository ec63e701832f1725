/** Tables from one file format and one dtype to another, in constant memory. */
import { FinetableError, type RowFormat } from '@finetable/core';
import { readChunks, writeNpy, writeQuantizedTable, writeSafetensors } from '@finetable/formats';
import { loadKernels, type FileRows } from '@finetable/kernels';
import type { ConvertOptions } from '../program.ts';
import type { Written } from './command.ts';
import { readRows, untilAborted } from './read-rows.ts';
import { openTableSource, rowsOfSource, type TableSource } from './table-source.ts';
import { chosenFormat, defaultTensor, describeFormat, writeRows, type DecodedRows } from './write-rows.ts';

export async function convertTable(
  input: string,
  output: string,
  to: 'safetensors' | 'npy',
  options: ConvertOptions,
  signal: AbortSignal,
): Promise<Written[]> {
  const source = await openTableSource(input, input.endsWith('.npy') ? undefined : options.tensor);
  const { dtype, group } = options;
  const tensor = source.tensor ?? options.tensor ?? defaultTensor;
  if (dtype === undefined) return [await copy(source, output, to, tensor, signal)];
  const rows = rowsOfSource(source);
  if (!rows) {
    throw new FinetableError(
      'UNSUPPORTED',
      `${input}: ${source.dtype} is not converted to ${dtype}; allowed: F32, F16, BF16, and int8 and int4 with their scales`,
      { file: input, dtype: source.dtype },
    );
  }
  const before: RowFormat = { dtype: rows.dtype, dim: rows.dim, groupDims: rows.scales?.groupDims ?? 0 };
  const format = chosenFormat(dtype, rows.dim, group, before);
  if (format.dtype === before.dtype && format.groupDims === before.groupDims)
    return [await copy(source, output, to, tensor, signal)];
  const shape = source.quantized ? [rows.rows, rows.dim] : source.shape;
  if (format.groupDims > 0 && shape.length !== 2) {
    throw new FinetableError(
      'UNSUPPORTED',
      `${input}: shape [${shape.join(', ')}] cannot become ${dtype}; allowed: [rows, dims]`,
      { file: input },
    );
  }
  const error = await writeRows({ path: output, to, tensor, format, shape }, decodedRows(input, rows, signal));
  return [{ path: output, what: describeFormat(format, shape), error }];
}

async function* decodedRows(input: string, rows: FileRows, signal: AbortSignal): AsyncGenerator<DecodedRows> {
  let first = 0;
  for await (const values of untilAborted(readRows(rows, loadKernels()), signal)) {
    yield { values, where: (row) => `${input}: row ${first + row}` };
    first += values.rows;
  }
}

/** The same bytes in another file. */
async function copy(
  source: TableSource,
  output: string,
  to: 'safetensors' | 'npy',
  tensor: string,
  signal: AbortSignal,
): Promise<Written> {
  const { dtype, shape, quantized } = source;
  const data = untilAborted(readChunks(source.file, source), signal);
  if (quantized) {
    const { rows, format, scales } = quantized;
    if (to === 'npy') {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `convert: ${source.file} is ${format.dtype}, which .npy has no place for; add --dtype f32 or f16`,
        { file: source.file },
      );
    }
    await writeQuantizedTable(
      output,
      { name: tensor, rows, format },
      { elements: data, scales: untilAborted(readChunks(scales.file, scales), signal) },
    );
    return { path: output, what: describeFormat(format, [rows, format.dim]) };
  }
  if (to === 'npy') await writeNpy(output, { dtype, shape, data });
  else await writeSafetensors(output, [{ name: tensor, dtype, shape, data }]);
  return { path: output, what: `${dtype} [${shape.join(', ')}]` };
}
