/** Notices that files changed while they are in use. */
import { stat } from 'node:fs/promises';
import { FinetableError } from '@finetable/core';
import { ioError } from '@finetable/formats';

interface Seen {
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ino: bigint;
}

/**
 * Size, modification time and identity of files. A change that leaves all three as they were is not noticed: one that put the
 * time back, or one within the clock's tick of the file system (some milliseconds) of the look before.
 */
export class FileWatch {
  readonly #files: ReadonlyMap<string, Seen>;

  private constructor(files: ReadonlyMap<string, Seen>) {
    this.#files = files;
  }

  /** @throws NOT_FOUND, IO */
  static async of(paths: readonly string[]): Promise<FileWatch> {
    const files = new Map<string, Seen>();
    for (const path of paths) files.set(path, await look(path));
    return new FileWatch(files);
  }

  /** @throws INVALID_FILE naming the file that is another than it was; NOT_FOUND, IO */
  async check(table: string, remedy: string): Promise<void> {
    for (const [path, was] of this.#files) {
      const now = await look(path);
      const what =
        now.size !== was.size
          ? `its size was ${was.size} bytes, now it is ${now.size}`
          : now.ino !== was.ino
            ? 'another file was put in its place'
            : now.mtimeNs !== was.mtimeNs
              ? 'it was written to'
              : null;
      if (what === null) continue;
      throw new FinetableError(
        'INVALID_FILE',
        `${table}: ${path} has changed since it was opened: ${what}; ${remedy}`,
        {
          table,
          file: path,
        },
      );
    }
  }
}

async function look(path: string): Promise<Seen> {
  return stat(path, { bigint: true }).catch((error: unknown) => {
    throw ioError(error, 'reading', path);
  });
}
