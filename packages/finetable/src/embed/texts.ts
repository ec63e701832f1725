/** Lines of a file, some at a time. */
import { createReadStream } from 'node:fs';
import { FinetableError } from '@finetable/core';
import { ioError } from '@finetable/formats';

/** In UTF-16 code units: beyond any text worth one vector. */
const longestLine = 2 ** 24;

/**
 * The lines of a UTF-8 file in order, up to `count` at a time; an empty line is an empty text. A byte order mark, CRLF and a
 * missing last line end are fine.
 * @throws NOT_FOUND, IO, INVALID_DATA (not UTF-8, a line that never ends)
 */
export async function* readTexts(path: string, count: number): AsyncGenerator<string[]> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const refuse = (line: number, message: string): FinetableError =>
    new FinetableError('INVALID_DATA', `${path}, line ${line}: ${message}`, { file: path, line });
  let rest = '';
  let lines: string[] = [];
  let done = 0;
  const take = (chunk: Uint8Array | undefined): void => {
    try {
      rest += chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
    } catch {
      throw refuse(done + lines.length + 1, 'not UTF-8, there or a little later');
    }
    const parts = rest.split(/\r?\n/);
    rest = parts.pop()!;
    for (const part of parts) lines.push(part);
    if (rest.length > longestLine) throw refuse(done + lines.length + 1, `longer than ${longestLine} characters`);
  };
  function* whole(least: number): Generator<string[]> {
    for (; lines.length >= least && lines.length > 0; lines = lines.slice(count)) {
      yield lines.slice(0, count);
      done += Math.min(count, lines.length);
    }
  }
  const chunks = createReadStream(path) as AsyncIterable<Uint8Array>;
  try {
    for await (const chunk of chunks) {
      take(chunk);
      yield* whole(count);
    }
  } catch (error) {
    throw ioError(error, 'reading', path);
  }
  take(undefined);
  if (rest !== '') lines.push(rest);
  yield* whole(1);
}
