/**
 * Rows of some stores as they were at one moment, read while training goes on. Nothing is copied when a snapshot is taken: a row is
 * copied before it changes for the first time, so a step pays for the rows that it moves, and only until the reading is done.
 */
import type { Kernels, RowStore } from '@finetable/kernels';

/** Rows of a block of copies: memory grows without moving what is there. */
const blockRows = 2 ** 12;
/** Read at a time, on the JavaScript thread: well below a millisecond. */
const chunkBytes = 2 ** 20;

export class RowsSnapshot {
  readonly #kernels: Kernels;
  readonly #stores: readonly RowStore[];
  readonly #rows: number;
  /** 1 + the place of each row among the copies; 0 where the row is as it was. The system gives it memory as it is written. */
  readonly #places: Int32Array;
  #copied = 0;
  /** By store; null once that has been read. */
  readonly #copies: (Uint8Array[] | null)[];

  /** @param rows the first ones of each store */
  constructor(kernels: Kernels, stores: readonly RowStore[], rows: number) {
    this.#kernels = kernels;
    this.#stores = stores;
    this.#rows = rows;
    this.#places = new Int32Array(rows);
    this.#copies = stores.map(() => []);
  }

  /** Comes before any change of these rows, each of which is there once; -1 entries are passed over. */
  keep(rows: Int32Array): void {
    const first = this.#copied;
    const fresh = rows.filter((row) => {
      if (row < 0 || row >= this.#rows || this.#places[row]! > 0) return false;
      this.#places[row] = ++this.#copied;
      return true;
    });
    for (let done = 0; done < fresh.length;) {
      const at = (first + done) % blockRows;
      const some = fresh.subarray(done, done + blockRows - at);
      this.#stores.forEach((store, i) => {
        const blocks = this.#copies[i];
        if (!blocks) return;
        const width = bytesOfRow(store);
        if (at === 0) blocks.push(new Uint8Array(blockRows * width));
        this.#kernels.readRows(store, some, blocks.at(-1)!.subarray(at * width, (at + some.length) * width));
      });
      done += some.length;
    }
  }

  /** A store's rows as they were, once. */
  async *read(store: RowStore): AsyncGenerator<Uint8Array> {
    const index = this.#stores.indexOf(store);
    const width = bytesOfRow(store);
    const most = Math.max(1, Math.floor(chunkBytes / width));
    for (let row = 0; row < this.#rows; row += most) {
      const count = Math.min(most, this.#rows - row);
      const chunk = new Uint8Array(count * width);
      this.#kernels.readBytes(store, row * width, chunk);
      const blocks = this.#copies[index]!;
      for (let i = 0; i < count; i++) {
        const place = this.#places[row + i]! - 1;
        if (place < 0) continue;
        const at = (place % blockRows) * width;
        chunk.set(blocks[Math.floor(place / blockRows)]!.subarray(at, at + width), i * width);
      }
      yield chunk;
    }
    this.#copies[index] = null;
  }
}

const bytesOfRow = ({ sizeBytes, rows }: RowStore): number => sizeBytes / rows;
