/** `metrics.jsonl`: one line per logged step and evaluation. A resumed run drops the lines after its checkpoint. */
import {
  closeSync,
  existsSync,
  fstatSync,
  fsync,
  ftruncateSync,
  openSync,
  readFileSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { ioError } from '@finetable/formats';

const fsyncAsync = promisify(fsync);

export class MetricsLog {
  readonly #path: string;
  readonly #file: number;
  /** Of whole lines. */
  #sizeBytes: number;

  /** Opens `path`, keeping only whole lines up to step `step`. @throws IO */
  constructor(path: string, step: number) {
    this.#path = path;
    [this.#file, this.#sizeBytes] = this.#writing(() => {
      if (existsSync(path)) truncateSync(path, keptBytes(path, step));
      const file = openSync(path, 'a');
      return [file, fstatSync(file).size];
    });
  }

  /** One line, in a single write, so that a kill leaves no half of it; nor does a full disk. @throws IO */
  write(line: Readonly<Record<string, unknown>>): void {
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
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

  /** Off the JavaScript thread. @throws IO */
  async sync(): Promise<void> {
    await fsyncAsync(this.#file).catch((error: unknown) => {
      throw ioError(error, 'writing', this.#path);
    });
  }

  close(): void {
    closeSync(this.#file);
  }

  #writing<T>(operation: () => T): T {
    try {
      return operation();
    } catch (error) {
      throw ioError(error, 'writing', this.#path);
    }
  }
}

function keptBytes(path: string, step: number): number {
  const bytes = readFileSync(path);
  for (let begin = 0; ;) {
    const end = bytes.indexOf('\n', begin);
    if (end < 0 || stepOf(bytes.toString('utf8', begin, end)) > step) return begin;
    begin = end + 1;
  }
}

/** Infinity for a line that is none of ours: what a disk may have left after a power cut is dropped. */
function stepOf(line: string): number {
  try {
    return (JSON.parse(line) as { step?: number } | null)?.step ?? Infinity;
  } catch {
    return Infinity;
  }
}
