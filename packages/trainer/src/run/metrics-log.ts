/** `metrics.jsonl`: one line per logged step and evaluation. A resumed run drops the lines after its checkpoint. */
import { openSync, closeSync, writeSync, fsyncSync, readFileSync, truncateSync, existsSync } from 'node:fs';

export class MetricsLog {
  readonly #file: number;

  /** Opens `path`, keeping only whole lines up to step `step`. */
  constructor(path: string, step: number) {
    if (existsSync(path)) truncateSync(path, keptBytes(path, step));
    this.#file = openSync(path, 'a');
  }

  /** One line, in a single write, so that a kill leaves no half of it. */
  write(line: Readonly<Record<string, unknown>>): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
  }

  sync(): void {
    fsyncSync(this.#file);
  }

  close(): void {
    closeSync(this.#file);
  }
}

function keptBytes(path: string, step: number): number {
  const text = readFileSync(path, 'utf8');
  let kept = 0;
  for (let begin = 0; ; ) {
    const end = text.indexOf('\n', begin);
    if (end < 0) return kept;
    const line = JSON.parse(text.slice(begin, end)) as { step: number };
    if (line.step > step) return kept;
    begin = end + 1;
    kept = Buffer.byteLength(text.slice(0, begin));
  }
}
