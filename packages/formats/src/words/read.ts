/**
 * Word vectors as GloVe, word2vec and fastText publish them, read once from front to back: text with or without the first
 * line `V D`, and word2vec binary. Memory is two blocks of 4 MiB and, to find words that come twice, about 36 bytes a word.
 */
import { FinetableError } from '@finetable/core';
import { openFile, show, withFile } from '../io.ts';
import { readBinaryBlock } from './binary.ts';
import { BlockBuilder, type Duplicates, type WordBlock } from './block.ts';
import { ByteSource } from './source.ts';
import { readTextBlock, trailingNumbers } from './text.ts';

/** How word vectors are read. */
export interface WordVectorsOptions {
  /** Absent: from the first bytes. */
  readonly format?: 'text' | 'binary' | undefined;
  /** A word that comes twice is refused (the default), or all but the first are skipped, as gensim does. */
  readonly duplicates?: Duplicates | undefined;
}

/** Word vectors of a text or binary file, a block at a time. */
export interface WordVectors {
  readonly format: 'text' | 'binary';
  /** D. */
  readonly dim: number;
  /** V, where the first line says it. */
  readonly rows: number | null;
  /** Reads the file from its beginning, a block of about 4 MiB at a time. */
  readonly blocks: () => AsyncGenerator<WordBlock, void, undefined>;
}

/** Far more than any model has; keeps a hostile first line from taking memory. */
const largestDim = 100_000;

/**
 * Opens a file of word vectors; its dims are known from the first line.
 *
 * One pass to safetensors and a word list, the number of rows unknown before:
 * ```ts
 * const vectors = await readWordVectors('glove.txt');
 * await writeFileAtomic('words.txt', async (write) => {
 *   async function* values() {
 *     for await (const block of vectors.blocks()) {
 *       await write(Buffer.from(block.words.map((word) => `${word}\n`).join('')));
 *       yield new Uint8Array(block.values.buffer, 0, block.values.byteLength);
 *     }
 *   }
 *   await writeSafetensors('words.safetensors', [
 *     { name: 'embeddings', dtype: 'F32', shape: [null, vectors.dim], data: values() },
 *   ]);
 * });
 * ```
 * @throws INVALID_FILE (the first line), NOT_FOUND, IO; while reading blocks also INVALID_DATA, naming the line (in binary the
 * word): ragged lines, what is not a finite number, words that are empty, not UTF-8 or come twice, fewer or more than `V D` says
 */
export async function readWordVectors(path: string, options: WordVectorsOptions = {}): Promise<WordVectors> {
  const start = await withFile(path, (file) => readStart(path, new ByteSource(file), options.format));
  return {
    format: start.format,
    dim: start.dim,
    rows: start.rows,
    blocks: () => readBlocks(path, start, options.duplicates ?? 'refuse'),
  };
}

interface Start {
  readonly format: 'text' | 'binary';
  readonly dim: number;
  readonly rows: number | null;
  /** Bytes before the first word. */
  readonly skip: number;
}

async function readStart(path: string, source: ByteSource, wanted: 'text' | 'binary' | undefined): Promise<Start> {
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${path}: ${message}`, { file: path });
  };
  let lineEnd = -1;
  do lineEnd = source.bytes.subarray(0, source.end).indexOf(0x0a);
  while (lineEnd < 0 && (await source.more()));
  const { bytes, end } = source;
  if (end === 0) refuse('is empty');
  if (lineEnd < 0) lineEnd = end;
  const mark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  const line = Buffer.from(bytes.subarray(mark, Math.min(lineEnd, mark + 100))).toString('latin1');
  const header = /^(\d{1,15})[ \t]+(\d{1,15})[ \t\r]*$/.exec(line);
  if (!header) {
    if (wanted === 'binary')
      refuse(`the first line is ${show(line)}; word2vec binary begins with "V D", the numbers of words and dims`);
    const dim = trailingNumbers(bytes, mark, lineEnd);
    if (dim === 0 || dim > largestDim) {
      refuse(
        `the first line, ${show(line)}, has ${dim} numbers after the word; allowed: 1 to ${largestDim}. Is this a word vector file?`,
      );
    }
    return { format: 'text', dim, rows: null, skip: mark };
  }
  const [rows, dim] = [Number(header[1]), Number(header[2])];
  if (dim < 1 || dim > largestDim) refuse(`the first line says ${dim} dims; allowed: 1 to ${largestDim}`);
  const skip = lineEnd + 1;
  return { format: wanted ?? (hasControlBytes(bytes.subarray(skip, end)) ? 'binary' : 'text'), dim, rows, skip };
}

/** Text has none; of vectors in binary, nearly every one has some. */
function hasControlBytes(bytes: Uint8Array): boolean {
  return bytes.some((byte) => byte < 0x09 || (byte > 0x0d && byte < 0x20));
}

async function* readBlocks(
  path: string,
  start: Start,
  duplicates: Duplicates,
): AsyncGenerator<WordBlock, void, undefined> {
  const { format, dim, rows, skip } = start;
  const file = await openFile(path);
  try {
    const source = new ByteSource(file, undefined, Math.min(skip, file.bytes));
    const builder = new BlockBuilder(path, dim, format === 'text' ? 'line' : 'word', duplicates);
    if (format === 'binary') {
      let done = 0;
      do {
        done = await readBinaryBlock(source, rows!, dim, builder, done);
        if (!builder.isEmpty) yield builder.take();
      } while (done < rows!);
      return;
    }
    const state = { line: rows === null ? 0 : 1, rows: 0, blank: 0 };
    for (let going = true; going;) {
      going = await readTextBlock(source, dim, builder, state);
      if (!builder.isEmpty) yield builder.take();
    }
    if (rows !== null && state.rows !== rows) {
      const message = `${path}: the first line says ${rows} words, found ${state.rows}; the file is cut short or was put together from several`;
      throw new FinetableError('INVALID_FILE', message, { file: path, rows, found: state.rows });
    }
  } finally {
    await file.close();
  }
}
