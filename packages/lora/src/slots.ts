/**
 * Which slot holds a touched row. Slots are given out in order of first touch, so the rows of A lie packed and stay in
 * cache. The table (see `SlotTable`) has 8 bytes an entry at a load between 0.35 and 0.7; the way back takes 4.
 */
import type { Kernels, SlotTable } from '@finetable/kernels';

const maximumLoad = 0.7;

/** From rows to the slots that hold what was trained of them, in the order in which they were first touched. */
export class SlotMap {
  readonly #kernels: Kernels;
  #table: SlotTable = new Int32Array(2 * 1024).fill(-1);
  #rows = new Int32Array(512);
  #size = 0;

  constructor(kernels: Kernels) {
    this.#kernels = kernels;
  }

  /** Touched rows. */
  get size(): number {
    return this.#size;
  }

  /** Bytes of the map itself. */
  get sizeBytes(): number {
    return this.#table.byteLength + this.#rows.byteLength;
  }

  /** The table itself, which the next insertion may replace. */
  get table(): SlotTable {
    return this.#table;
  }

  /** `[size] i32`: the row of each slot, a view that is valid until the next insertion. */
  get rows(): Int32Array {
    return this.#rows.subarray(0, this.#size);
  }

  /** `out[i]` = slot of `rows[i]`, -1 where it has none. */
  find(rows: Int32Array, out: Int32Array): void {
    this.#kernels.findSlots(this.#table, rows, out);
  }

  /** Gives every row whose entry in `slots` is -1, as `find` left it, the next free slot. Rows are distinct. */
  insertMissing(rows: Int32Array, slots: Int32Array): void {
    let missing = 0;
    for (const slot of slots) if (slot < 0) missing++;
    if (missing === 0) return;
    this.#reserve(this.#size + missing);
    const known = this.#size;
    this.#size += this.#kernels.insertSlots(this.#table, rows, slots, known);
    for (let i = 0; i < rows.length; i++) if (slots[i]! >= known) this.#rows[slots[i]!] = rows[i]!;
  }

  /** Makes room for `count` rows. */
  #reserve(count: number): void {
    if (count > this.#rows.length) {
      const rows = new Int32Array(Math.max(count, Math.ceil(this.#rows.length * 1.25)));
      rows.set(this.rows);
      this.#rows = rows;
    }
    if (count <= (this.#table.length / 2) * maximumLoad) return;
    let entries = this.#table.length / 2;
    while (count > entries * maximumLoad) entries *= 2;
    this.#table = new Int32Array(2 * entries).fill(-1);
    this.#kernels.insertSlots(this.#table, this.rows, new Int32Array(this.#size).fill(-1), 0);
  }
}
