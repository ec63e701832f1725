/** The rows of a table's file, changed to what an adapter makes of them: only those that it changes. */
import { FinetableError, range, rowBytes } from '@finetable/core';
import type { ChangeRows } from '@finetable/formats';
import { ChangedRows, type Adapter } from '@finetable/lora';

/**
 * W + ΔW of the changed rows, rounded to the table's float dtype. The adapter must not be trained meanwhile.
 * @throws UNSUPPORTED with `maxNorm`; NON_FINITE (the function returned) for a row with NaN, or with a value beyond the dtype's range
 */
export function mergedRows(adapter: Adapter): ChangeRows {
  const { kernels, dim, dtype, name } = adapter.table;
  if (!adapter.addsApart) {
    const message = `${name}: an adapter with maxNorm is not merged: lookups shorten long rows, its own and the base's, which no table can say; encode with it, or train without`;
    throw new FinetableError('UNSUPPORTED', message, { table: name });
  }
  const width = rowBytes(dtype, dim);
  adapter.settle();
  const changed = new ChangedRows(adapter);
  return (firstRow, bytes) => {
    const ids = changed.within(firstRow, bytes.length / width);
    if (ids.length === 0) return;
    const places = range(ids.length);
    const values = adapter.vectors(ids);
    const store = kernels.createRows(ids.length, dim, dtype);
    try {
      kernels.scatterRows(store, places, values);
      kernels.gatherRows(store, places, values);
      const bad = kernels.firstNonFinite(values.data);
      if (bad >= 0) {
        const [row, value] = [ids[Math.floor(bad / dim)]!, values.data[bad]!];
        const message = `${name}: row ${row} would hold ${value} as ${dtype}; nothing was written`;
        throw new FinetableError('NON_FINITE', message, { table: name, id: row });
      }
      const merged = new Uint8Array(ids.length * width);
      kernels.readBytes(store, 0, merged);
      ids.forEach((id, i) => bytes.set(merged.subarray(i * width, (i + 1) * width), (id - firstRow) * width));
    } finally {
      store.close();
    }
  };
}
