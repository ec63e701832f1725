/** Products of rows that changed; see `RowProducts`. */
import { matrix } from '@finetable/core';
import { isMatrix } from '../check/values.ts';
import type { RowProducts } from '../kernels.ts';
import { gatherRows, scatterRows } from './codec.ts';
import type { PortableRows } from './rows.ts';

export function addRowProducts({ base, rows, factors, slots, counted, cross, gram }: RowProducts): void {
  const [dim, r] = [isMatrix(base) ? base.cols : base.dim, factors.dim];
  const w = matrix(1, dim);
  const now = matrix(1, r);
  const before = matrix(1, r);
  for (let i = 0; i < rows.length; i++) {
    if (slots[i]! < 0) continue;
    if (isMatrix(base)) w.data.set(base.data.subarray(rows[i]! * dim, (rows[i]! + 1) * dim));
    else gatherRows(base as PortableRows, rows.subarray(i, i + 1), w);
    const slot = slots.subarray(i, i + 1);
    gatherRows(factors as PortableRows, slot, now);
    if (counted) {
      gatherRows(counted as PortableRows, slot, before);
      scatterRows(counted as PortableRows, slot, now);
    }
    for (let k = 0; k < r; k++) {
      const was = before.data[k]!;
      const d = now.data[k]! - was;
      for (let j = 0; j < dim; j++) cross[k * dim + j]! += d * w.data[j]!;
      for (let l = 0; l < r; l++) gram[k * r + l]! += now.data[k]! * now.data[l]! - was * before.data[l]!;
    }
  }
}
