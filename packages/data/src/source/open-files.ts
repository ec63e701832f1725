/** Files that a thread keeps open: not more than a process is given handles for. */

const mostOpen = 64;

export class OpenFiles<T extends { close(): void }> {
  readonly #open: (file: number) => T;
  /** By number of the file, the one used last at the end. */
  readonly #files = new Map<number, T>();

  constructor(open: (file: number) => T) {
    this.#open = open;
  }

  /** @throws as opening does */
  get(file: number): T {
    let found = this.#files.get(file);
    if (found && this.#files.size < mostOpen) return found;
    found ??= this.#open(file);
    this.#files.delete(file);
    this.#files.set(file, found);
    if (this.#files.size > mostOpen) {
      const [oldest, unused] = this.#files.entries().next().value!;
      this.#files.delete(oldest);
      unused.close();
    }
    return found;
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }
}
