import { resolve } from 'node:path';
import { FinetableError } from '@finetable/core';
import { readNpy } from '@finetable/formats';

/** `[rows]` of a .npy file: how often each row is in the data. @param field of the job @throws NOT_FOUND, INVALID_FILE */
export async function readCounts(
  file: string | undefined,
  folder: string,
  field: string,
): Promise<ArrayLike<number> | undefined> {
  if (file === undefined) return undefined;
  const path = resolve(folder, file);
  const { shape, data } = await readNpy(path);
  if (shape.length !== 1) {
    throw new FinetableError('INVALID_FILE', `${field}: ${path} has shape [${shape.join(', ')}]; allowed: [rows]`, {
      file: path,
    });
  }
  return data instanceof BigInt64Array || data instanceof BigUint64Array ? Float64Array.from(data, Number) : data;
}
