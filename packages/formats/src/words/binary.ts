/**
 * word2vec binary: after the line `V D`, V times the word, a space, D little-endian f32 values and, in files of the original
 * program but not of every other, a newline.
 */
import type { BlockBuilder } from './block.ts';
import { lineFeed, space, type ByteSource } from './source.ts';

/** Reads words `done + 1 ..` of `rows` into `builder` until it is full or all are read; returns how many are done then. */
export async function readBinaryBlock(
  source: ByteSource,
  rows: number,
  dim: number,
  builder: BlockBuilder,
  done: number,
): Promise<number> {
  while (done < rows && !builder.isFull) {
    while (source.begin < source.end && source.bytes[source.begin] === lineFeed) source.begin++;
    const wordEnd = source.bytes.subarray(0, source.end).indexOf(space, source.begin);
    const next = wordEnd + 1 + dim * 4;
    if (wordEnd < 0 || next > source.end) {
      if (await source.more()) continue;
      builder.refuse(done + 1, `the file ends here; its first line announces ${rows} words`);
    }
    done++;
    const { values, offset } = builder;
    const target = new Uint8Array(values.buffer, values.byteOffset + offset * 4, dim * 4);
    target.set(source.bytes.subarray(wordEnd + 1, next));
    for (let d = 0; d < dim; d++) {
      const value = values[offset + d]!;
      if (value - value !== 0) builder.refuse(done, `value ${d} is ${value}; allowed: finite numbers`);
    }
    if (wordEnd === source.begin) builder.refuse(done, 'the word is empty');
    builder.add(source.bytes, source.begin, wordEnd, done);
    source.begin = next;
  }
  if (done < rows) return done;
  do {
    while (source.begin < source.end && source.bytes[source.begin] === lineFeed) source.begin++;
    if (source.begin < source.end)
      builder.refuse(rows, `is the last that the first line announces, but bytes follow it`);
  } while (await source.more());
  return done;
}
