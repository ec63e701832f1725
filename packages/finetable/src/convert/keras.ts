/** Embeddings of Keras models: the matrix to a table, the factors of LoRA to an adapter. */
import { FinetableError, type RowDtype } from '@finetable/core';
import { openKerasFile, type AdapterTensors, type KerasDtype, type KerasFile } from '@finetable/formats';
import type { TableConversion, Written } from './command.ts';
import { chunkRows, untilAborted } from './read-rows.ts';
import { chosenFormat, describeFormat, writeRows, type DecodedRows } from './write-rows.ts';

export function isKerasFile(path: string): boolean {
  return /\.(keras|h5|hdf5)$/.test(path);
}

/** What a table is written in where nothing is asked for. int4 of Keras has zero points, which ours has not. */
const keptDtypes: Readonly<Record<KerasDtype, RowDtype>> = {
  f64: 'f32',
  f32: 'f32',
  f16: 'f16',
  bf16: 'bf16',
  int8: 'int8',
  int4: 'f32',
};

/** The matrix, without LoRA's factors where the file has them. */
export async function convertKeras({ input, output, to, options, signal }: TableConversion): Promise<Written[]> {
  const file = await openKerasFile(input);
  try {
    const embedding = file.embedding(options.tensor);
    const { name: tensor, rows, dim, lora } = embedding;
    const kept = keptDtypes[embedding.dtype];
    const dtype = options.dtype ?? (to === 'npy' && kept !== 'f16' ? 'f32' : kept);
    const format = chosenFormat(dtype, dim, options.group);
    const shape = [rows, dim];

    async function* values(): AsyncGenerator<DecodedRows> {
      const perChunk = chunkRows(dim);
      for (let first = 0; first < rows; first += perChunk) {
        const values = file.readRows(embedding, first, Math.min(rows, first + perChunk));
        yield { values, where: (row) => `${input}: ${tensor}: row ${first + row}` };
      }
    }

    const error = await writeRows({ path: output, to, tensor, format, shape }, untilAborted(values(), signal));
    const left = lora ? `, without the LoRA factors of rank ${lora.rank} (--to sparse writes those)` : '';
    return [{ path: output, what: `${describeFormat(format, shape)}${left}`, ...(error && { error }) }];
  } finally {
    file.close();
  }
}

/** @throws INVALID_ARGUMENT where the file has no factors */
export async function readKerasAdapter(path: string, layer: string | undefined): Promise<AdapterTensors> {
  const file = await openKerasFile(path);
  try {
    return adapterOf(file, layer);
  } finally {
    file.close();
  }
}

function adapterOf(file: KerasFile, layer: string | undefined): AdapterTensors {
  const embedding = file.embedding(layer);
  const { name: table, rows: tableRows, dim, dtype, lora } = embedding;
  const factors = file.readLora(embedding);
  if (!lora || !factors) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${file.path}: ${table} has no LoRA factors: Keras merges them into the matrix as it writes .keras and .weights.h5, and keeps them in model.save('….h5')`,
      { file: file.path },
    );
  }
  const { rank, alpha } = lora;
  const touched = factors.a.data;
  const rows = Int32Array.from({ length: tableRows }, (_, row) => row).filter((row) =>
    touched.subarray(row * rank, (row + 1) * rank).some((value) => value !== 0),
  );
  const a = new Float32Array(rows.length * rank);
  rows.forEach((row, i) => a.set(touched.subarray(row * rank, (row + 1) * rank), i * rank));
  return {
    table,
    base: { rows: tableRows, dim, dtype: dtype === 'f64' ? 'unknown' : dtype, fingerprint: null },
    groups: [
      {
        name: 'rest',
        members: null,
        untouched: null,
        kind: 'lora',
        rank,
        alpha,
        rsLora: false,
        rows,
        a,
        b: factors.b.data,
      },
    ],
    magnitude: null,
    baseSquares: null,
    maxNorm: null,
    grown: null,
  };
}
