/** An adapter as one list of int32, so that it can be a weight of a tfjs model: bits of its arrays behind a header in JSON. */
import { FinetableError } from '@finetable/core';
import type { AdapterTensors } from '@finetable/formats';

const arrays = { Int32Array, Float32Array, Float64Array };
type ArrayName = keyof typeof arrays;
type AnyArray = InstanceType<(typeof arrays)[ArrayName]>;

const isArray = (value: unknown): value is AnyArray => ArrayBuffer.isView(value) && value.constructor.name in arrays;

/** Where an array lies behind the header: bytes from its end. */
interface Reference {
  readonly array: ArrayName;
  readonly at: number;
  readonly length: number;
}

export function packAdapter(tensors: AdapterTensors): Int32Array {
  const found: { readonly at: number; readonly data: AnyArray }[] = [];
  let size = 0;
  const json = JSON.stringify(tensors, (_, value: unknown) => {
    if (!isArray(value)) return value;
    const at = size;
    found.push({ at, data: value });
    size += Math.ceil(value.byteLength / 8) * 8;
    return { array: value.constructor.name, at, length: value.length };
  });
  const header = new TextEncoder().encode(json);
  const begin = dataBegin(header.length);
  const out = new Int32Array((begin + size) / 4);
  const bytes = new Uint8Array(out.buffer);
  out[0] = header.length;
  bytes.set(header, 4);
  for (const { at, data } of found)
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), begin + at);
  return out;
}

/** Copies. @throws INVALID_FILE for anything that `packAdapter` does not make */
export function unpackAdapter(packed: Int32Array, where: string): AdapterTensors {
  // Their own memory, from its beginning: arrays of 8-byte elements need that.
  const { buffer } = packed.slice();
  const bytes = new Uint8Array(buffer);
  const length = packed[0] ?? 0;
  try {
    if (length < 1 || length > bytes.length - 4) throw new Error('no header');
    const json = new TextDecoder('utf8', { fatal: true }).decode(bytes.subarray(4, 4 + length));
    const begin = dataBegin(length);
    return JSON.parse(json, (_, value: unknown) => {
      if (!isReference(value)) return value;
      return new arrays[value.array](buffer, begin + value.at, value.length).slice();
    }) as AdapterTensors;
  } catch (cause) {
    throw new FinetableError('INVALID_FILE', `${where}: the adapter among the weights is damaged`, {}, { cause });
  }
}

const isReference = (value: unknown): value is Reference =>
  typeof value === 'object' && value !== null && (value as Partial<Reference>).array! in arrays && 'at' in value;

const dataBegin = (headerLength: number): number => Math.ceil((4 + headerLength) / 8) * 8;
