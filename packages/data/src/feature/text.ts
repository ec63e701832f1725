/** What all features of tokens share: text, truncation, padding, and what becomes of unknown tokens. */
import type { ErrorDetails } from '@finetable/core';
import { invalidData } from '../errors.ts';
import { placeOf } from '../source/source.ts';
import { textOf } from '../source/text-value.ts';
import type { Encoder } from './feature.ts';

export interface Tokens<T> {
  readonly column: string;
  readonly split: (text: string) => readonly T[];
  /** Its row, or `unknown`. */
  readonly row: (token: T) => number;
  /** Why a token without a row is an error; null where it is left out. */
  readonly refuse: (token: T, text: string) => Refusal | null;
  /** Keeps the first so many. */
  readonly maxTokens?: number | undefined;
  /** Shorter texts get row 0 behind. */
  readonly pad?: boolean | undefined;
}

export interface Refusal {
  readonly message: string;
  readonly details: ErrorDetails;
}

/** In the place of a row. */
export const unknown = -1;

export function tokenEncoder<T>(tokens: Tokens<T>): Encoder {
  const { column, split, row, refuse, maxTokens = Infinity, pad = false } = tokens;
  return (records, i, out) => {
    const text = textOf(records, i, column);
    const found = split(text);
    const count = Math.min(found.length, maxTokens);
    const first = out.length;
    for (let t = 0; t < count; t++) {
      const id = row(found[t]!);
      if (id !== unknown) out.push(id);
      else {
        const refusal = refuse(found[t]!, text);
        if (refusal) throw invalidData(placeOf(records, i, column), refusal.message, refusal.details);
      }
    }
    if (pad) while (out.length - first < maxTokens) out.push(0);
  };
}
