/** Vectors to files, as they come: a row for each in .npy and .safetensors, with what each is of in .jsonl and .parquet. */
import { extname } from 'node:path';
import { FinetableError } from '@finetable/core';
import type { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { writeFileAtomic, type WriteChunk } from './atomic.ts';
import { writeNpy } from './npy.ts';
import { writeSafetensors } from './safetensors/write.ts';

/** Some vectors, in order. */
export interface VectorPart {
  /** `[rows, D]`. */
  readonly vectors: { readonly data: Float32Array; readonly rows: number; readonly cols: number };
  /** What each is of: a text, an id or a list of ids, a line's number. */
  readonly keys: readonly unknown[];
}

/** How vectors are written. */
export interface VectorsOptions {
  /** D. */
  readonly dim: number;
  /** What keys are called; default `key`. */
  readonly keyName?: string | undefined;
}

interface Shape {
  readonly dim: number;
  readonly keyName: string;
}

type Writer = (path: string, parts: AsyncIterable<VectorPart>, options: Shape) => Promise<void>;

const writers: Readonly<Record<string, Writer>> = {
  '.npy': (path, parts, { dim }) => writeNpy(path, { dtype: 'F32', shape: [null, dim], data: bytesOf(parts) }),
  '.safetensors': (path, parts, { dim }) =>
    writeSafetensors(path, [{ name: 'vectors', dtype: 'F32', shape: [null, dim], data: bytesOf(parts) }]),
  '.jsonl': (path, parts, { keyName }) => writeFileAtomic(path, linesOf(parts, keyName)),
  '.parquet': writeParquet,
};

/** The endings that `writeVectors` knows. */
export const vectorFormats: readonly string[] = Object.keys(writers);

/** @throws INVALID_ARGUMENT for another ending than those of `vectorFormats` */
export function checkVectorsPath(path: string): void {
  if (vectorFormats.includes(extname(path))) return;
  throw new FinetableError(
    'INVALID_ARGUMENT',
    `${path}: its ending says no format for vectors; allowed: ${vectorFormats.join(', ')}`,
    { file: path },
  );
}

/**
 * Writes vectors to a file, whole or not at all, one part after the other: memory is that of a part. Its ending chooses the format:
 * f32 `[rows, D]` in .npy, the same as tensor `vectors` in .safetensors; an object with key and `vector` a line in .jsonl; columns of
 * keys (integers where all of the first part are, else text) and of lists of f32 in .parquet, a row group for each part.
 * @returns rows written
 * @throws INVALID_ARGUMENT for another ending; IO; what the parts throw
 */
export async function writeVectors(
  path: string,
  parts: AsyncIterable<VectorPart>,
  { dim, keyName = 'key' }: VectorsOptions,
): Promise<number> {
  checkVectorsPath(path);
  let rows = 0;
  const counted = async function* (): AsyncGenerator<VectorPart> {
    for await (const part of parts) {
      rows += part.vectors.rows;
      yield part;
    }
  };
  await writers[extname(path)]!(path, counted(), { dim, keyName });
  return rows;
}

async function* bytesOf(parts: AsyncIterable<VectorPart>): AsyncGenerator<Uint8Array> {
  for await (const { vectors } of parts) {
    const { buffer, byteOffset, byteLength } = vectors.data;
    yield new Uint8Array(buffer, byteOffset, byteLength);
  }
}

async function* linesOf(parts: AsyncIterable<VectorPart>, keyName: string): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for await (const { vectors, keys } of parts) {
    const lines = rowsOf(vectors).map((vector, i) => `${JSON.stringify({ [keyName]: keys[i], vector })}\n`);
    yield encoder.encode(lines.join(''));
  }
}

const required = { repetition_type: 'REQUIRED' } as const;

async function writeParquet(path: string, parts: AsyncIterable<VectorPart>, { keyName }: Shape): Promise<void> {
  await writeFileAtomic(path, async (write) => {
    // Not at the top: every loader thread reads this package.
    const hyparquet = await import('hyparquet-writer');
    const writer = new hyparquet.ByteWriter();
    let file: ParquetWriter | null = null;
    let integers = false;
    for await (const { vectors, keys } of parts) {
      integers = file ? integers : keys.every(Number.isSafeInteger);
      file ??= parquetFile(hyparquet, writer, keyName, integers);
      if (vectors.rows === 0) continue;
      const columnData = [
        { name: keyName, data: integers ? keys.map((key) => BigInt(key as number)) : keys.map(textOf) },
        // Vectors neither repeat nor shrink.
        { name: 'vector', data: rowsOf(vectors), encoding: 'PLAIN', codec: 'UNCOMPRESSED' } as const,
      ];
      await file.write({ columnData, rowGroupSize: vectors.rows });
      await drain(writer, write);
    }
    file ??= parquetFile(hyparquet, writer, keyName, false);
    await file.finish();
    await drain(writer, write);
  });
}

function parquetFile(
  hyparquet: typeof import('hyparquet-writer'),
  writer: ByteWriter,
  keyName: string,
  integers: boolean,
): ParquetWriter {
  const key = integers ? ({ type: 'INT64' } as const) : ({ type: 'BYTE_ARRAY', converted_type: 'UTF8' } as const);
  return new hyparquet.ParquetWriter({
    writer,
    statistics: false,
    schema: [
      { name: 'root', num_children: 2 },
      { name: keyName, ...key, ...required },
      { name: 'vector', num_children: 1, converted_type: 'LIST', ...required },
      { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
      { name: 'element', type: 'FLOAT', ...required },
    ],
  });
}

/** Its offsets go on; its memory is that of a row group. */
async function drain(writer: ByteWriter, write: WriteChunk): Promise<void> {
  await write(new Uint8Array(writer.buffer, 0, writer.index));
  writer.index = 0;
}

const textOf = (key: unknown): string => (typeof key === 'string' ? key : JSON.stringify(key));

function rowsOf({ data, rows, cols }: VectorPart['vectors']): number[][] {
  return Array.from({ length: rows }, (_, i) => Array.from(data.subarray(i * cols, (i + 1) * cols)));
}
