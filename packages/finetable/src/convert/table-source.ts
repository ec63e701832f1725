/** A float matrix of a safetensors or npy file as a stream of its bytes, in another element type where one is asked for. */
import { createReadStream } from 'node:fs';
import { f16ToF32, f32ToF16, FinetableError, tensorDtypeBytes, type RowDtype, type TensorDtype } from '@finetable/core';
import { openSafetensors, readNpyHeader } from '@finetable/formats';

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
export async function openTableSource(path: string, tensor: string | undefined, dtype: RowDtype | undefined): Promise<TableSource> {
  const { file, name, shape, byteOffset, byteLength, dtype: from } = await locate(path, tensor);
  const to = dtype === undefined ? from : tensorDtypes[dtype];
  if (byteLength === 0) throw new FinetableError('INVALID_ARGUMENT', `${path}: shape [${shape.join(', ')}] holds nothing to convert`, { file: path });
  const convert = from === to ? null : converters[from];
  if (convert === undefined) {
    throw new FinetableError('UNSUPPORTED', `${path}: ${from} is not converted to ${dtype}; allowed: ${Object.keys(converters).join(', ')}`, { file: path, dtype: from });
  }
  const bytes = createReadStream(file, { start: byteOffset, end: byteOffset + byteLength - 1, highWaterMark: 2 ** 20 });
  return { tensor: name, dtype: to, shape, bytes: convert ? wholeValues(bytes, tensorDtypeBytes[from], convert) : bytes };
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
  const problem = name === undefined ? `holds ${names.length} tensors; choose one with --tensor` : `has no tensor "${name}"`;
  throw new FinetableError('INVALID_ARGUMENT', `${path}: ${problem}; allowed: ${names.slice(0, 20).join(', ')}`, { file: path });
}

/** Chunks cut at whole values, each converted. A chunk that ends inside a value leaves its bytes to the next. */
async function* wholeValues(
  chunks: AsyncIterable<Buffer>,
  valueBytes: number,
  convert: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array,
): AsyncGenerator<Uint8Array> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const whole = bytes.length - (bytes.length % valueBytes);
    rest = bytes.subarray(whole);
    // Copied: typed arrays of values need an aligned start.
    if (whole > 0) yield convert(Uint8Array.prototype.slice.call(bytes, 0, whole) as Uint8Array<ArrayBuffer>);
  }
}

function narrow(bytes: Uint8Array<ArrayBuffer>): Uint8Array {
  const values = new Float32Array(bytes.buffer, 0, bytes.length / 4);
  return new Uint8Array(Uint16Array.from(values, f32ToF16).buffer);
}

function widen(bytes: Uint8Array<ArrayBuffer>): Uint8Array {
  const values = new Uint16Array(bytes.buffer, 0, bytes.length / 2);
  return new Uint8Array(Float32Array.from(values, f16ToF32).buffer);
}

/** From each of the two to the other. */
const converters: Partial<Record<TensorDtype, (bytes: Uint8Array<ArrayBuffer>) => Uint8Array>> = { F32: narrow, F16: widen };
