/** Products of rows that changed; see `RowProducts`. */
import { matrix } from '@finetable/core';
import type { RowProducts } from '../kernels.ts';
import { gatherRows } from './codec.ts';
import type { PortableRows } from './rows.ts';

export function addRowProducts({ base, rows, factors, slots, before, cross, gram }: RowProducts): void {
  const [dim, r] = [base.dim, factors.dim];
  const w = matrix(1, dim);
  const now = matrix(1, r);
  for (let i = 0; i < rows.length; i++) {
    if (slots[i]! < 0) continue;
    gatherRows(base as PortableRows, rows.subarray(i, i + 1), w);
    gatherRows(factors as PortableRows, slots.subarray(i, i + 1), now);
    for (let k = 0; k < r; k++) {
      const was = before.data[i * r + k]!;
      const d = now.data[k]! - was;
      for (let j = 0; j < dim; j++) cross[k * dim + j]! += d * w.data[j]!;
      for (let l = 0; l < r; l++) gram[k * r + l]! += now.data[k]! * now.data[l]! - was * before.data[i * r + l]!;
    }
  }
}
