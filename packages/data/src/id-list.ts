/** Ids whose number is not known beforehand. Kept by its owner from batch to batch, so that it grows only once. */
export class IdList {
  #ids = new Int32Array(1024);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  clear(): void {
    this.#length = 0;
  }

  push(id: number): void {
    if (this.#length === this.#ids.length) {
      const larger = new Int32Array(this.#length * 2);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#length++] = id;
  }

  /** A copy of exactly what is in it. */
  copy(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }
}
