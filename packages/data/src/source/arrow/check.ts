/**
 * The vectors of a record batch, checked before a value is taken out of them: `flechette` believes what a file says of its lengths
 * and offsets, and a broken file would have it make lists of billions.
 */
import { Type, type Batch } from '@uwdata/flechette';

/** @param length values that are wanted of it @throws Error */
export function checkVectors(batch: Batch<unknown>, length: number): void {
  const { type, nullCount, validity, values, offsets, sizes, children } = batch;
  if (batch.length < length) throw new Error(`a vector of ${batch.length} values instead of ${length}`);
  if (nullCount > 0 && validity && validity.length * 8 < length) throw new Error('a vector without all of its nulls');
  switch (type.typeId) {
    case Type.Null:
      return;
    case Type.Bool:
      need(values, Math.ceil(length / 8));
      return;
    case Type.Decimal:
      need(values, length * Math.max(1, type.bitWidth / 64));
      return;
    case Type.Utf8:
    case Type.LargeUtf8:
      checkOffsets(offsets, length, values!.length);
      return;
    case Type.Utf8View:
      need(values, 16 * length);
      return;
    case Type.List:
    case Type.LargeList:
    case Type.Map:
      checkVectors(children[0]!, checkOffsets(offsets, length, children[0]!.length));
      return;
    case Type.ListView:
    case Type.LargeListView:
      checkVectors(children[0]!, checkViews(offsets, sizes, length, children[0]!.length));
      return;
    case Type.FixedSizeList:
      checkVectors(children[0]!, length * type.stride);
      return;
    case Type.Struct:
      for (const child of children) checkVectors(child, length);
      return;
    case Type.Dictionary:
      checkDictionary(batch as unknown as DictionaryVector, length);
      return;
    default:
      need(values, length);
  }
}

type Offsets = ArrayLike<number | bigint>;

interface DictionaryVector {
  readonly values: ArrayLike<number | bigint>;
  readonly validity: Uint8Array;
  readonly nullCount: number;
  readonly dictionary: { readonly length: number };
}

function need(values: { readonly length: number } | undefined, count: number): void {
  if (values!.length < count) throw new Error(`a vector of ${values!.length} elements instead of ${count}`);
}

/** @param most what they may point at @returns the last */
function checkOffsets(offsets: Offsets, length: number, most: number): number {
  if (length === 0) return 0;
  need(offsets, length + 1);
  let last = offsets[0]!;
  if (last < 0) throw new Error(`an offset of ${last}`);
  for (let i = 1; i <= length; i++) {
    const offset = offsets[i]!;
    if (offset < last) throw new Error(`an offset of ${offset} after ${last}`);
    last = offset;
  }
  if (last > most) throw new Error(`an offset of ${last} into ${most} elements`);
  return Number(last);
}

/** @returns the last element that one of them has */
function checkViews(offsets: Offsets, sizes: Offsets, length: number, most: number): number {
  need(offsets, length);
  need(sizes, length);
  let end = 0;
  for (let i = 0; i < length; i++) {
    const [offset, size] = [Number(offsets[i]), Number(sizes[i])];
    if (offset < 0 || size < 0 || offset + size > most)
      throw new Error(`elements ${offset} to ${offset + size} of ${most}`);
    end = Math.max(end, offset + size);
  }
  return end;
}

function checkDictionary({ values, validity, nullCount, dictionary }: DictionaryVector, length: number): void {
  need(values, length);
  for (let i = 0; i < length; i++) {
    if (nullCount > 0 && ((validity[i >> 3]! >> (i & 7)) & 1) === 0) continue;
    if (values[i]! < 0 || values[i]! >= dictionary.length)
      throw new Error(`value ${values[i]!} of a dictionary of ${dictionary.length}`);
  }
}
