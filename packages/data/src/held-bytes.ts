/** Bytes of the batches that are not consumed: of those that are not made yet about as many as those that are have. */
export class HeldBytes {
  readonly #most: number;
  #bytes = 0;
  #making = 0;
  #batches = 0;
  #total = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Of tasks that were not begun, the first is let through: one has to be made to know how large they are. */
  haveRoom(batches: number): boolean {
    const mean = this.#batches === 0 ? 0 : this.#total / this.#batches;
    return this.#bytes + (this.#making + batches) * mean <= this.#most;
  }

  begin(batches: number): void {
    this.#making += batches;
  }

  made(expected: number, batchBytes: readonly number[]): void {
    this.#making -= expected;
    const bytes = batchBytes.reduce((sum, of) => sum + of, 0);
    this.#bytes += bytes;
    this.#total += bytes;
    this.#batches += batchBytes.length;
  }

  consumed(bytes: number): void {
    this.#bytes -= bytes;
  }
}
