/**
 * Writing safetensors: streamed, atomic, the same bytes for the same tensors. Tensors lie by dtype size, descending, so that
 * each is aligned, then by name; the header is padded with spaces to a multiple of 8.
 *
 * A tensor whose rows are counted while it streams (`shape: [null, D]`) leaves the offsets unknown until the end. The header
 * is then written first with room for the longest numbers, and again with the true ones when they are known.
 */
import { FinetableError, tensorDtypeBytes } from '@finetable/core';
import { checkSource, writeArray, type ArraySource } from '../array.ts';
import { writeFileAtomic } from '../atomic.ts';
import { show } from '../io.ts';
import { largestHeaderBytes, metadataKey } from './header.ts';

export interface TensorSource extends ArraySource {
  readonly name: string;
}

/**
 * Writes a file, replacing one that is there.
 * @param metadata written with its keys sorted
 * @throws INVALID_ARGUMENT (names, shapes, lengths that do not fit), IO; on failure nothing is written
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorSource>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const sources = [...tensors].sort(inFileOrder);
  checkNames(path, sources, metadata);
  const estimates = sources.map((source): Entry => {
    const { values, counted } = checkSource(path, `tensor ${show(source.name)}`, source);
    const rows = counted ? Number.MAX_SAFE_INTEGER : null;
    const shape = rows === null ? (source.shape as number[]) : [rows, ...(source.shape.slice(1) as number[])];
    return { name: source.name, dtype: source.dtype, shape, bytes: rows ?? values * tensorDtypeBytes[source.dtype] };
  });
  const reserved = formatHeader(path, estimates, metadata);
  await writeFileAtomic(path, async (write) => {
    await write(reserved);
    const entries: Entry[] = [];
    for (const source of sources) {
      let bytes = 0;
      const shape = await writeArray(path, `tensor ${show(source.name)}`, source, (chunk) => {
        bytes += chunk.byteLength;
        return write(chunk);
      });
      entries.push({ name: source.name, dtype: source.dtype, shape, bytes });
    }
    if (sources.some(({ shape }) => shape[0] === null)) {
      await write(formatHeader(path, entries, metadata, reserved.byteLength), 0);
    }
  });
}

/** A tensor as the header has it. */
export interface Entry {
  name: string;
  dtype: string;
  shape: readonly number[];
  bytes: number;
}

function inFileOrder(a: TensorSource, b: TensorSource): number {
  const bySize = tensorDtypeBytes[b.dtype] - tensorDtypeBytes[a.dtype];
  return bySize || (a.name < b.name ? -1 : 1);
}

export function checkNames(
  path: string,
  sources: readonly Pick<TensorSource, 'name'>[],
  metadata: Readonly<Record<string, string>>,
): void {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_ARGUMENT', `${path}: ${message}`, { file: path });
  };
  const names = new Set<string>();
  for (const { name } of sources) {
    if (names.has(name)) refuse(`two tensors are named ${show(name)}`);
    if (name === metadataKey) refuse(`a tensor cannot be named ${metadataKey}`);
    if (/\p{Surrogate}|\0/u.test(name)) refuse(`the tensor name ${show(name)} has a NUL or half a surrogate pair`);
    names.add(name);
  }
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') refuse(`metadata ${show(key)} is ${show(value)}; allowed: a string`);
  }
}

/** Length prefix and JSON, padded with spaces to `length` bytes in all, or to the next multiple of 8. */
export function formatHeader(
  path: string,
  entries: readonly Entry[],
  metadata: Readonly<Record<string, string>>,
  length?: number,
): Uint8Array {
  const members: string[] = [];
  const keys = Object.keys(metadata).sort();
  if (keys.length > 0) {
    const pairs = keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`);
    members.push(`"${metadataKey}":{${pairs.join(',')}}`);
  }
  let offset = 0;
  for (const { name, dtype, shape, bytes } of entries) {
    // An unknown length makes this and all later offsets as long as they can get.
    const end = Math.min(offset + bytes, Number.MAX_SAFE_INTEGER);
    const spans = `"shape":[${shape.join(',')}],"data_offsets":[${offset},${end}]`;
    members.push(`${JSON.stringify(name)}:{"dtype":"${dtype}",${spans}}`);
    offset = end;
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const total = length ?? 8 + Math.ceil(json.byteLength / 8) * 8;
  if (total - 8 > largestHeaderBytes) {
    throw new FinetableError(
      'INVALID_ARGUMENT',
      `${path}: the header takes ${total} bytes; allowed: ${largestHeaderBytes}`,
      { file: path },
    );
  }
  const header = new Uint8Array(total).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(total - 8), true);
  header.set(json, 8);
  return header;
}
