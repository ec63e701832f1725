/**
 * Quantised tables in safetensors (docs/guide/12-formats.md): the elements as one tensor, `I8 [V, D]` for int8 and `U8 [V, ceil(D / 2)]`
 * for int4, and beside them `<name>.scale`, one f32 for each group of columns of each row. A value is its element times its
 * scale. What shapes cannot tell is in the metadata of the elements' file, under `finetable.<name>`.
 */
import { FinetableError, rowBytes, rowScales, type RowFormat, type TensorDtype } from '@finetable/core';
import type { ArraySource } from '../array.ts';
import { show } from '../io.ts';
import { parseJson, type JsonObject } from '../json.ts';
import type { SafetensorsModel, TensorInfo } from './model.ts';
import { writeSafetensors, type TensorSource } from './write.ts';

/** The header's facts about a quantised table; scales themselves are data, and not read. */
export interface QuantizedTable {
  readonly format: RowFormat;
  /** V. */
  readonly rows: number;
  /** `F32 [V, G]`; with one group a row also `[V]`. */
  readonly scales: TensorInfo;
}

type Tensors = SafetensorsModel['tensors'];

export const elementDtypes = { int8: 'I8', int4: 'U8' } as const satisfies Record<string, TensorDtype>;
export type QuantizedDtype = keyof typeof elementDtypes;

export const scalesSuffix = '.scale';
export const metadataKeyOf = (name: string): string => `finetable.${name}`;

/** Whether a tensor holds the scales of another. */
export function isScales(tensors: Tensors, name: string): boolean {
  return name.endsWith(scalesSuffix) && quantizedDtype(tensors, name.slice(0, -scalesSuffix.length)) !== null;
}

/**
 * A quantised table by the name of its elements; null for a tensor that is none.
 * @throws INVALID_FILE where one is announced, by metadata or scales, and its parts do not fit together
 */
export function quantizedTable({ tensors }: Pick<SafetensorsModel, 'tensors'>, name: string): QuantizedTable | null {
  const dtype = quantizedDtype(tensors, name);
  if (dtype === null) return null;
  const elements = tensors.get(name)!;
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${elements.file}: tensor ${show(name)}: ${message}`, {
      file: elements.file,
      tensor: name,
    });
  };
  const [rows = 0, width = 0] = elements.shape;
  if (elements.dtype !== elementDtypes[dtype])
    refuse(`is ${elements.dtype}, and its metadata takes it for a quantised table; allowed: I8, U8`);
  if (elements.shape.length !== 2 || rows === 0 || width === 0)
    refuse(`has shape [${elements.shape.join(', ')}]; a table is [rows, dims], both at least 1`);
  const told = readMetadata(elements, name, refuse);
  const format = { dtype, dim: width, groupDims: width, ...told };
  if (width !== rowBytes(dtype, format.dim))
    refuse(`has ${width} bytes a row, and its metadata says ${format.dim} dims of ${dtype}`);

  const scales = tensors.get(name + scalesSuffix);
  if (!scales) return refuse(`has no scales; allowed: a tensor ${show(name + scalesSuffix)}, F32 [${rows}, …]`);
  const groups = rowScales(format);
  const { shape } = scales;
  const fits = shape[0] === rows && (shape.length === 2 ? shape[1] === groups : shape.length === 1 && groups === 1);
  if (scales.dtype !== 'F32' || !fits) {
    refuse(
      `its scales are ${scales.dtype} [${shape.join(', ')}] in ${scales.file}; allowed for ${dtype} [${rows}, ${format.dim}] in groups of ${format.groupDims}: F32 [${rows}, ${groups}]`,
    );
  }
  return { format, rows, scales };
}

/** By what announces it: metadata, or for I8 scales. U8 alone may be anything. */
function quantizedDtype(tensors: Tensors, name: string): QuantizedDtype | null {
  const info = tensors.get(name);
  if (!info) return null;
  if (metadataKeyOf(name) in info.metadata) return info.dtype === 'I8' ? 'int8' : 'int4';
  return info.dtype === 'I8' && tensors.has(name + scalesSuffix) ? 'int8' : null;
}

function readMetadata(
  { metadata, file, dtype }: TensorInfo,
  name: string,
  refuse: (message: string) => never,
): Pick<RowFormat, 'dim' | 'groupDims'> | null {
  const key = metadataKeyOf(name);
  const text = metadata[key];
  if (text === undefined) return null;
  const found = parseJson(text, `${file}: metadata ${show(key)}`);
  if (!(found instanceof Map)) return refuse(`its metadata is ${show(found)}; allowed: an object`);
  const fields = found as JsonObject;
  const dtypeFound = fields.get('dtype');
  const expected = dtype === 'I8' ? 'int8' : 'int4';
  if (dtypeFound !== expected)
    refuse(`its metadata says dtype ${show(dtypeFound ?? null)}; allowed for ${dtype}: "${expected}"`);
  const [dim, groupDims] = [fields.get('dim'), fields.get('groupDims')];
  if (typeof dim !== 'number' || dim < 1) return refuse(`its metadata says dim ${show(dim ?? null)}; allowed: from 1`);
  const groups = expected === 'int8' ? [dim] : [32, 64, 128, dim];
  if (typeof groupDims !== 'number' || !groups.includes(groupDims)) {
    return refuse(`its metadata says groupDims ${show(groupDims ?? null)}; allowed: ${groups.join(', ')}`);
  }
  return { dim, groupDims: Math.min(dim, groupDims) };
}

/**
 * Writes a quantised table, replacing a file that is there. All scales are taken from their stream before the first element.
 * @param table `rows` null: counted from the streams
 * @throws as {@link writeSafetensors}
 */
export async function writeQuantizedTable(
  path: string,
  { name, rows, format }: { readonly name: string; readonly rows: number | null; readonly format: RowFormat },
  data: { readonly elements: AsyncIterable<Uint8Array>; readonly scales: AsyncIterable<Uint8Array> },
): Promise<void> {
  const { dtype, dim, groupDims } = format;
  const shape = (cols: number): ArraySource['shape'] => (rows === null ? [null, cols] : [rows, cols]);
  // Written in this order, the larger dtype first.
  const tensors: TensorSource[] = [
    { name: name + scalesSuffix, dtype: 'F32', shape: shape(rowScales(format)), data: data.scales },
    { name, dtype: elementDtypes[dtype as QuantizedDtype], shape: shape(rowBytes(dtype, dim)), data: data.elements },
  ];
  await writeSafetensors(path, tensors, { [metadataKeyOf(name)]: JSON.stringify({ dtype, dim, groupDims }) });
}
