/** `metrics.jsonl`: one line per logged step and evaluation. A resumed run drops the lines after its checkpoint. */
import { existsSync, readFileSync, truncateSync } from 'node:fs';
import { ioError } from '@finetable/formats';
import { AppendedFile } from './appended-file.ts';

export class MetricsLog {
  readonly #file: AppendedFile;

  /** Opens `path`, keeping only whole lines up to step `step`. @throws IO */
  constructor(path: string, step: number) {
    try {
      if (existsSync(path)) truncateSync(path, keptBytes(path, step));
    } catch (error) {
      throw ioError(error, 'writing', path);
    }
    this.#file = new AppendedFile(path);
  }

  /** One line. @throws IO */
  write(line: Readonly<Record<string, unknown>>): void {
    this.#file.write(Buffer.from(`${JSON.stringify(line)}\n`));
  }

  /** As `AppendedFile.sync`. */
  sync(): void {
    this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#file.close();
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
