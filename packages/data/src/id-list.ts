/** Ids whose number is not known beforehand. Kept by its owner from batch to batch, so that it grows only once. */
export class IdList {
  #ids = new Int32Array(1024);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** The ids, and room behind them: until the next `push` or `extend`. */
  get ids(): Int32Array {
    return this.#ids;
  }

  clear(): void {
    this.#length = 0;
  }

  push(id: number): void {
    if (this.#length === this.#ids.length) this.#grow(this.#length + 1);
    this.#ids[this.#length++] = id;
  }

  /** Adds `count` ids, which the caller writes into `ids`. @returns where the first is */
  extend(count: number): number {
    const first = this.#length;
    if (first + count > this.#ids.length) this.#grow(first + count);
    this.#length += count;
    return first;
  }

  /** Keeps the first `length`. */
  truncate(length: number): void {
    this.#length = length;
  }

  /** A copy of exactly what is in it. */
  copy(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }

  #grow(least: number): void {
    const larger = new Int32Array(Math.max(least, this.#ids.length * 2));
    larger.set(this.#ids);
    this.#ids = larger;
  }
}
