/** Values out of vectors: numbers and lists of numbers straight out of their buffers, everything else as the library has it. */
import { Type, type Batch } from '@uwdata/flechette';
import { jsonValue, type ColumnValues } from '../blocks.ts';

/** @param vector checked */
export function valuesOf(vector: Batch<unknown>): ColumnValues {
  const numbers = numbersOf(vector);
  if (numbers) return (row) => numbers[row];
  const elements = vector.type.typeId === Type.List && vector.nullCount === 0 ? numbersOf(vector.children[0]!) : null;
  if (!elements) return (row) => jsonValue(vector.at(row));
  const offsets = vector.offsets as Int32Array;
  return (row) => {
    const first = offsets[row]!;
    const list = new Array<number>(offsets[row + 1]! - first);
    for (let i = 0; i < list.length; i++) list[i] = elements[first + i]!;
    return list;
  };
}

/** The values themselves, where they are numbers and none is null. */
function numbersOf({ type, nullCount, values }: Batch<unknown>): ArrayLike<number> | null {
  const asTheyAre =
    (type.typeId === Type.Int && type.bitWidth <= 32) ||
    (type.typeId === Type.Float && (values instanceof Float32Array || values instanceof Float64Array));
  return asTheyAre && nullCount === 0 ? (values as unknown as ArrayLike<number>) : null;
}
