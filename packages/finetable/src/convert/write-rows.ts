/** Streams of rows to a table file of any dtype. */
import type { Matrix, RowDtype, RowFormat, TensorDtype } from '@finetable/core';
import { withSpool, writeNpy, writeQuantizedTable, writeSafetensors } from '@finetable/formats';
import { loadKernels } from '@finetable/kernels';
import type { ConvertOptions } from '../program.ts';
import { RowEncoder, type EncodedRows, type RoundingError } from './row-encoder.ts';

/** What a table is called where its file gives it no name. */
export const defaultTensor = 'embeddings';

export interface RowsTarget {
  readonly path: string;
  readonly to: 'safetensors' | 'npy';
  readonly tensor: string;
  readonly format: RowFormat;
  /** As it is written; the first dimension null where rows are counted. Quantised: `[V, D]`. */
  readonly shape: readonly [null, number] | readonly number[];
}

export interface DecodedRows {
  readonly values: Matrix;
  /** What an error calls row i of them. */
  readonly where: (row: number) => string;
}

const floatTensors: Partial<Record<RowDtype, TensorDtype>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' };

/** @returns null where the target is f32, which rounds nothing */
export async function writeRows(target: RowsTarget, rows: AsyncIterable<DecodedRows>): Promise<RoundingError | null> {
  const { path, to, tensor, format, shape } = target;
  const encoder = new RowEncoder(format, loadKernels());
  async function* encoded(): AsyncGenerator<EncodedRows> {
    for await (const { values, where } of rows) yield encoder.encode(values, where);
  }
  async function* elements(): AsyncGenerator<Uint8Array> {
    for await (const { elements } of encoded()) yield elements;
  }
  try {
    if (format.groupDims > 0) {
      // The file has all scales before the elements, which come with them and wait on the disk.
      await withSpool(path, async (spool) => {
        async function* scales(): AsyncGenerator<Uint8Array> {
          for await (const { elements, scales } of encoded()) {
            await spool.write(elements);
            yield scales;
          }
        }
        await writeQuantizedTable(
          path,
          { name: tensor, rows: shape[0]!, format },
          { elements: spool.read(), scales: scales() },
        );
      });
    } else {
      const source = { dtype: floatTensors[format.dtype]!, shape, data: elements() };
      if (to === 'npy') await writeNpy(path, source);
      else await writeSafetensors(path, [{ name: tensor, ...source }]);
    }
  } finally {
    encoder.close();
  }
  return format.dtype === 'f32' ? null : encoder.error;
}

/**
 * The format that `--dtype` and `--group` ask for.
 * @param before of the table that is read; int4 keeps its groups where none are asked for
 */
export function chosenFormat(
  dtype: RowDtype,
  dim: number,
  group: ConvertOptions['group'],
  before: RowFormat | null = null,
): RowFormat {
  if (dtype === 'int8') return { dtype, dim, groupDims: dim };
  if (dtype !== 'int4') return { dtype, dim, groupDims: 0 };
  if (group === undefined && before?.dtype === 'int4') return before;
  return { dtype, dim, groupDims: group === 'row' ? dim : Math.min(dim, Number(group ?? defaultGroup)) };
}

/** docs/guide/12-formats.md has what it costs and what it gives beside the others. */
const defaultGroup = 64;

/** `F32 [3, 3]`, `int4 [3, 100] in groups of 64`. */
export function describeFormat({ dtype, dim, groupDims }: RowFormat, shape: readonly (number | null)[]): string {
  const of = dtype === 'int4' ? (groupDims === dim ? ', one group a row' : ` in groups of ${groupDims}`) : '';
  return `${floatTensors[dtype] ?? dtype} [${shape.join(', ')}]${of}`;
}
