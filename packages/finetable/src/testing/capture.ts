/** Runs a command line inside this process and keeps what it writes. */
import { Writable } from 'node:stream';
import type { Output } from '../io.ts';
import { run } from '../program.ts';

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A stream that keeps its text; with `columns`, a terminal of that width. */
export class Captured extends Writable {
  text = '';
  readonly isTTY: boolean;
  readonly columns: number | undefined;

  constructor(columns?: number) {
    super();
    this.isTTY = columns !== undefined;
    this.columns = columns;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export async function runHere(
  argv: readonly string[],
  options: { signal?: AbortSignal; stdout?: Captured } = {},
): Promise<Ended> {
  const stdout = options.stdout ?? new Captured();
  const stderr = new Captured();
  const signal = options.signal ?? new AbortController().signal;
  const status = await run(argv, { stdout: stdout satisfies Output, stderr: stderr satisfies Output, signal });
  return { status, stdout: stdout.text, stderr: stderr.text };
}
