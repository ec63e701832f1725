/** A file that grows by whole records, each in a single write, so that a kill leaves no half of one; nor does a full disk. */
import { closeSync, fstatSync, fsync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { ioError } from '@finetable/formats';

const fsyncAsync = promisify(fsync);

export class AppendedFile {
  readonly path: string;
  readonly #file: number;
  /** Of whole records. */
  #sizeBytes: number;
  #syncing: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | null = null;

  /** @throws IO */
  constructor(path: string) {
    this.path = path;
    [this.#file, this.#sizeBytes] = this.#writing(() => {
      const file = openSync(path, 'a');
      return [file, fstatSync(file).size];
    });
  }

  /** @throws IO; also what ended an earlier `sync` */
  write(bytes: Uint8Array): void {
    if (this.#failure) throw this.#failure.error;
    this.#writing(() => {
      try {
        for (let done = 0; done < bytes.length;) done += writeSync(this.#file, bytes, done);
      } catch (error) {
        ftruncateSync(this.#file, this.#sizeBytes);
        throw error;
      }
    });
    this.#sizeBytes += bytes.length;
  }

  /** Begins to bring what was written to the disk; nobody waits for it but `close`. */
  sync(): void {
    this.#syncing = this.#syncing
      .then(() => fsyncAsync(this.#file))
      .catch((error: unknown) => {
        this.#failure ??= { error: ioError(error, 'writing', this.path) };
      });
  }

  async close(): Promise<void> {
    await this.#syncing;
    closeSync(this.#file);
  }

  #writing<T>(operation: () => T): T {
    try {
      return operation();
    } catch (error) {
      throw ioError(error, 'writing', this.path);
    }
  }
}
