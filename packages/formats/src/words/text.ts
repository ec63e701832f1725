/**
 * GloVe and word2vec text: a line per word, `word v1 … vD`. A word may have spaces inside (as some of glove.840B have), so a line
 * is read from its end: the last D fields are the numbers, the rest is the word. Only the space and the tab separate; other
 * Unicode spaces belong to words.
 */
import type { BlockBuilder } from './block.ts';
import { parseDecimal } from './decimal.ts';
import { carriageReturn, lineFeed, space, tab, type ByteSource } from './source.ts';

/** Reads whole lines into `builder` until it is full (true) or the file ends (false). `state` goes from call to call. */
export async function readTextBlock(
  source: ByteSource,
  dim: number,
  builder: BlockBuilder,
  state: TextState,
): Promise<boolean> {
  for (;;) {
    const { bytes, end } = source;
    while (!builder.isFull) {
      const lineEnd = bytes.subarray(0, end).indexOf(lineFeed, source.begin);
      if (lineEnd < 0) break;
      readLine(bytes, source.begin, lineEnd, dim, builder, state);
      source.begin = lineEnd + 1;
    }
    if (builder.isFull) return true;
    if (await source.more()) continue;
    if (source.begin < source.end) {
      readLine(source.bytes, source.begin, source.end, dim, builder, state);
      source.begin = source.end;
    }
    return false;
  }
}

export interface TextState {
  /** Lines read. */
  line: number;
  /** Of these, lines with a word. */
  rows: number;
  /** A blank line, allowed only at the end of the file; 0 for none. */
  blank: number;
}

function readLine(
  bytes: Uint8Array,
  begin: number,
  end: number,
  dim: number,
  builder: BlockBuilder,
  state: TextState,
): void {
  const line = ++state.line;
  end = trimEnd(bytes, begin, end);
  if (end === begin) {
    state.blank ||= line;
    return;
  }
  if (state.blank > 0) builder.refuse(state.blank, 'is blank');
  const { values, offset } = builder;
  let wordEnd = end;
  for (let d = dim - 1; d >= 0; d--) {
    const fieldBegin = fieldStart(bytes, begin, wordEnd);
    const value = Math.fround(parseDecimal(bytes, fieldBegin, wordEnd));
    // Infinity minus itself is NaN, as is NaN.
    if (fieldBegin === begin || value - value !== 0)
      refuseField(bytes, begin, end, fieldBegin, wordEnd, dim, builder, line);
    values[offset + d] = value;
    wordEnd = trimEnd(bytes, begin, fieldBegin);
  }
  if (wordEnd === begin) builder.refuse(line, 'the word is empty');
  // A word may end in a number ("route 66") only if it has no more than D numbers after it; one that looks like a value does not.
  const lastField = fieldStart(bytes, begin, wordEnd);
  if (
    lastField > begin &&
    !Number.isNaN(parseDecimal(bytes, lastField, wordEnd)) &&
    bytes.subarray(lastField, wordEnd).includes(0x2e)
  ) {
    builder.refuse(line, `has more than ${dim} numbers; every line has the word and ${dim} numbers`);
  }
  state.rows++;
  builder.add(bytes, begin, wordEnd, line);
}

function refuseField(
  bytes: Uint8Array,
  begin: number,
  end: number,
  fieldBegin: number,
  fieldEnd: number,
  dim: number,
  builder: BlockBuilder,
  line: number,
): never {
  const fields = countFields(bytes, begin, end);
  if (fields <= dim) builder.refuse(line, `has ${fields} fields; every line has the word and ${dim} numbers`);
  const text = Buffer.from(bytes.subarray(fieldBegin, fieldEnd)).toString().slice(0, 40);
  builder.refuse(
    line,
    `${JSON.stringify(text)} is not a finite f32 number; the last ${dim} fields of a line are numbers`,
  );
}

/** How many fields at the end of a line are numbers, its first field left out: the D of a file without a `V D` line. */
export function trailingNumbers(bytes: Uint8Array, begin: number, end: number): number {
  let at = trimEnd(bytes, begin, end);
  for (let count = 0; ; count++) {
    const fieldBegin = fieldStart(bytes, begin, at);
    if (fieldBegin === begin || Number.isNaN(parseDecimal(bytes, fieldBegin, at))) return count;
    at = trimEnd(bytes, begin, fieldBegin);
  }
}

function countFields(bytes: Uint8Array, begin: number, end: number): number {
  let fields = 0;
  for (let at = end; at > begin; fields++) at = trimEnd(bytes, begin, fieldStart(bytes, begin, at));
  return fields;
}

/** Where the field that ends at `end` begins. */
function fieldStart(bytes: Uint8Array, begin: number, end: number): number {
  while (end > begin && bytes[end - 1] !== space && bytes[end - 1] !== tab) end--;
  return end;
}

function trimEnd(bytes: Uint8Array, begin: number, end: number): number {
  while (end > begin && (bytes[end - 1] === space || bytes[end - 1] === tab || bytes[end - 1] === carriageReturn))
    end--;
  return end;
}
