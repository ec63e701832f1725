/** A float matrix of a safetensors or npy file as a stream of its bytes, in another element type where one is asked for. */
import { createReadStream } from 'node:fs';
import { FinetableError, type TensorDtype } from '@finetable/core';
import { openSafetensors, readNpyHeader } from '@finetable/formats';
import { narrowed, widened } from './chunks.ts';

export interface TableSource {
  readonly tensor: string | null;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly bytes: AsyncIterable<Uint8Array>;
}

export function isTableFile(path: string): boolean {
  return /\.(npy|safetensors|index\.json)$/.test(path);
}

/** @throws INVALID_FILE, INVALID_ARGUMENT (no such tensor, or several and none named), UNSUPPORTED (integers to floats) */
export async function openTableSource(
  path: string,
  tensor: string | undefined,
  dtype: 'f32' | 'f16' | undefined,
): Promise<TableSource> {
  const { file, name, shape, byteOffset, byteLength, dtype: from } = await locate(path, tensor);
  if (byteLength === 0) {
    throw new FinetableError('INVALID_ARGUMENT', `${path}: shape [${shape.join(', ')}] holds nothing to convert`, {
      file: path,
    });
  }
  const to = dtype === undefined ? from : tensorDtypes[dtype];
  if (from !== to && from !== 'F32' && from !== 'F16') {
    throw new FinetableError('UNSUPPORTED', `${path}: ${from} is not converted to ${dtype}; allowed: F32, F16`, {
      file: path,
      dtype: from,
    });
  }
  const stored = createReadStream(file, {
    start: byteOffset,
    end: byteOffset + byteLength - 1,
    highWaterMark: 2 ** 20,
  });
  const cols = shape.slice(1).reduce((product, n) => product * n, 1);
  const bytes = from === to ? stored : from === 'F32' ? narrowed(stored, cols, path) : widened(stored);
  return { tensor: name, dtype: to, shape, bytes };
}

const tensorDtypes = { f32: 'F32', f16: 'F16' } as const;

interface Located {
  readonly file: string;
  readonly name: string | null;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly byteOffset: number;
  readonly byteLength: number;
}

async function locate(path: string, tensor: string | undefined): Promise<Located> {
  if (path.endsWith('.npy')) return { file: path, name: null, ...(await readNpyHeader(path)) };
  const { tensors } = await openSafetensors(path);
  const names = [...tensors.keys()];
  const name = tensor ?? (names.length === 1 ? names[0]! : undefined);
  const info = name === undefined ? undefined : tensors.get(name);
  if (name !== undefined && info) return { name, ...info };
  const problem =
    name === undefined ? `holds ${names.length} tensors; choose one with --tensor` : `has no tensor "${name}"`;
  throw new FinetableError('INVALID_ARGUMENT', `${path}: ${problem}; allowed: ${names.slice(0, 20).join(', ')}`, {
    file: path,
  });
}
