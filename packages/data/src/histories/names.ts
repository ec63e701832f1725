/** Many texts in memory that threads share. */
import { FinetableError } from '@finetable/core';

/** UTF-8: text i is `bytes[offsets[i] .. offsets[i + 1]]`. */
export interface SharedTexts {
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly offsets: Uint32Array<SharedArrayBuffer>;
}

/** @throws DOES_NOT_FIT above 4 GiB */
export function shareTexts(texts: Iterable<string>, count: number): SharedTexts {
  const offsets = new Uint32Array(new SharedArrayBuffer(4 * (count + 1)));
  const encoded: Buffer[] = [];
  let [i, end] = [0, 0];
  for (const text of texts) {
    const bytes = Buffer.from(text);
    encoded.push(bytes);
    end += bytes.length;
    if (end >= 2 ** 32) throw new FinetableError('DOES_NOT_FIT', `names of more than 4 GiB; allowed: less`);
    offsets[++i] = end;
  }
  const bytes = new Uint8Array(new SharedArrayBuffer(end));
  encoded.forEach((text, i) => bytes.set(text, offsets[i]));
  return { bytes, offsets };
}

export function sharedText({ bytes, offsets }: SharedTexts, i: number): string {
  const begin = offsets[i]!;
  return Buffer.from(bytes.buffer, begin, offsets[i + 1]! - begin).toString();
}

/** Numbers for texts, in the order in which they are first seen. */
export class TextCodes {
  readonly #codes = new Map<string, number>();
  readonly #what: string;

  constructor(what: string) {
    this.#what = what;
  }

  get size(): number {
    return this.#codes.size;
  }

  /** @throws DOES_NOT_FIT above the most that a Map of V8 holds */
  code(text: string): number {
    const known = this.#codes.get(text);
    if (known !== undefined) return known;
    const code = this.#codes.size;
    if (code === 2 ** 24 - 1)
      throw new FinetableError('DOES_NOT_FIT', `${this.#what}: more than ${code} different values; allowed: as many`);
    this.#codes.set(text, code);
    return code;
  }

  texts(): IterableIterator<string> {
    return this.#codes.keys();
  }
}
