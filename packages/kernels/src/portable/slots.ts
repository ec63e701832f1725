/** Slot tables; see `SlotTable`. */
import type { SlotTable } from '../kernels.ts';

/** The entry that holds `row`, or the empty one where it belongs; -1 where the table is full. */
function seek(table: SlotTable, row: number): number {
  const mask = table.length / 2 - 1;
  let at = mask === 0 ? 0 : Math.imul(row, 0x9e3779b1) >>> Math.clz32(mask);
  for (let tries = 0; tries <= mask; tries++) {
    const found = table[2 * at]!;
    if (found === row || found === -1) return 2 * at;
    at = (at + 1) & mask;
  }
  return -1;
}

export function findSlots(table: SlotTable, rows: Int32Array, out: Int32Array): void {
  for (let i = 0; i < rows.length; i++) {
    const at = seek(table, rows[i]!);
    out[i] = at >= 0 && table[at] === rows[i] ? table[at + 1]! : -1;
  }
}

/** -1 where the table is full. */
export function insertSlots(table: SlotTable, rows: Int32Array, slots: Int32Array, first: number): number {
  let next = first;
  for (let i = 0; i < rows.length; i++) {
    if (slots[i]! >= 0) continue;
    const at = seek(table, rows[i]!);
    if (at < 0) return -1;
    table[at] = rows[i]!;
    slots[i] = table[at + 1] = next++;
  }
  return next - first;
}
