/**
 * Which slot holds a touched row: an open-addressing hash table (Fibonacci hashing, linear probing) from row to slot.
 * Slots are given out in order of first touch, so the rows of A lie packed and stay in cache. 8 bytes an entry at a load
 * between 0.35 and 0.7, plus 4 for the way back from slot to row.
 */

const empty = -1;
const maximumLoad = 0.7;

export class SlotMap {
  #keys = new Int32Array(1024).fill(empty);
  #slots = new Int32Array(1024);
  #rows = new Int32Array(512);
  #size = 0;

  /** Touched rows. */
  get size(): number {
    return this.#size;
  }

  /** Bytes of the table itself. */
  get sizeBytes(): number {
    return this.#keys.byteLength + this.#slots.byteLength + this.#rows.byteLength;
  }

  /** `[size] i32`: the row of each slot, a view that is valid until the next insertion. */
  get rows(): Int32Array {
    return this.#rows.subarray(0, this.#size);
  }

  /** `out[i]` = slot of `rows[i]`, -1 where it has none. */
  find(rows: Int32Array, out: Int32Array): void {
    const keys = this.#keys;
    const slots = this.#slots;
    const mask = keys.length - 1;
    const shift = Math.clz32(mask);
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      let at = Math.imul(row, 0x9e3779b1) >>> shift;
      while (keys[at] !== row && keys[at] !== empty) at = (at + 1) & mask;
      out[i] = keys[at] === row ? slots[at]! : -1;
    }
  }

  /** Gives every row whose entry in `slots` is -1, as `find` left it, the next free slot. Rows are distinct. */
  insertMissing(rows: Int32Array, slots: Int32Array): void {
    let missing = 0;
    for (const slot of slots) if (slot < 0) missing++;
    if (missing === 0) return;
    this.#reserve(this.#size + missing);
    const keys = this.#keys;
    const mask = keys.length - 1;
    const shift = Math.clz32(mask);
    for (let i = 0; i < rows.length; i++) {
      if (slots[i]! >= 0) continue;
      const row = rows[i]!;
      let at = Math.imul(row, 0x9e3779b1) >>> shift;
      while (keys[at] !== empty) at = (at + 1) & mask;
      keys[at] = row;
      slots[i] = this.#slots[at] = this.#size;
      this.#rows[this.#size++] = row;
    }
  }

  /** Makes room for `count` rows at most, so that no insertion meets a full table. */
  #reserve(count: number): void {
    if (count > this.#rows.length) {
      const rows = new Int32Array(Math.max(count, Math.ceil(this.#rows.length * 1.25)));
      rows.set(this.rows);
      this.#rows = rows;
    }
    if (count <= this.#keys.length * maximumLoad) return;
    let capacity = this.#keys.length;
    while (count > capacity * maximumLoad) capacity *= 2;
    const keys = new Int32Array(capacity).fill(empty);
    const slots = new Int32Array(capacity);
    const shift = Math.clz32(capacity - 1);
    for (let slot = 0; slot < this.#size; slot++) {
      const row = this.#rows[slot]!;
      let at = Math.imul(row, 0x9e3779b1) >>> shift;
      while (keys[at] !== empty) at = (at + 1) & (capacity - 1);
      keys[at] = row;
      slots[at] = slot;
    }
    this.#keys = keys;
    this.#slots = slots;
  }
}
