/** What several tables have open together: a table that was grown reads the parts of the one it grew from. */

interface Closeable {
  close(): void;
}

/** Things that are closed when the last table that holds them is. */
export class SharedParts {
  readonly #parts: readonly Closeable[];
  readonly #below: SharedParts | null;
  #holders = 1;

  /** @param below what the holders of this need too */
  constructor(parts: readonly Closeable[], below: SharedParts | null = null) {
    this.#parts = parts;
    this.#below = below;
    if (below) below.#holders++;
  }

  /** One holder less; each calls it once. */
  release(): void {
    if (--this.#holders > 0) return;
    for (const part of this.#parts) part.close();
    this.#below?.release();
  }
}
