/** Tokens of a text, by a regular expression or as Keras' TextVectorization splits it, looked up in a vocabulary. */
import type { FeatureSpec, VocabularySpec } from '../spec.ts';
import type { Encoder } from './feature.ts';
import { tokenEncoder } from './text.ts';
import { openVocabulary } from './vocabulary.ts';

/** What a word is where nobody says otherwise: letters, digits and apostrophes. The source of a regular expression. */
export const defaultTokenPattern = "[\\p{L}\\p{N}']+";

/** @throws what `openVocabulary` does */
export function wordEncoder({ column, table }: FeatureSpec, tokens: VocabularySpec, rows: number): Encoder {
  const { row, refuse } = openVocabulary(tokens, rows, table);
  const { maxTokens, pad } = tokens;
  return tokenEncoder({ column, split: wordSplitter(tokens), row, refuse, maxTokens, pad });
}

/** How a text is cut into words. */
export type Splitting = Pick<VocabularySpec, 'standardize' | 'lowercase' | 'split' | 'pattern' | 'ngrams'>;

/** The tokens of a text, in order. */
export function wordSplitter(tokens: Splitting): (text: string) => readonly string[] {
  const standardize = standardizer(tokens);
  const split = splitter(tokens);
  const { ngrams } = tokens;
  if (ngrams === undefined) return (text) => split(standardize(text));
  const lengths = typeof ngrams === 'number' ? Array.from({ length: ngrams }, (_, i) => i + 1) : ngrams;
  return (text) => joinNgrams(split(standardize(text)), lengths);
}

function standardizer({ standardize, lowercase = true }: Splitting): (text: string) => string {
  switch (standardize) {
    case undefined:
      return lowercase ? (text) => text.toLowerCase() : (text) => text;
    case 'none':
      return (text) => text;
    case 'lower':
      return lowerAscii;
    case 'strip_punctuation':
      return stripPunctuation;
    case 'lower_and_strip_punctuation':
      return (text) => stripPunctuation(lowerAscii(text));
  }
}

const lowerAscii = (text: string): string => text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
const stripPunctuation = (text: string): string => text.replace(/[!-/:-@[-`{-~]+/g, '');

function splitter({ split, pattern }: Splitting): (text: string) => readonly string[] {
  switch (split) {
    case undefined: {
      const expression = new RegExp(pattern ?? defaultTokenPattern, 'gu');
      return (text) => text.match(expression) ?? [];
    }
    case 'whitespace':
      return (text) => text.match(/[^ \t\n\v\f\r]+/g) ?? [];
    case 'character':
      return (text) => [...text];
    case 'none':
      return (text) => [text];
  }
}

/** All of one length, then all of the next. */
function joinNgrams(tokens: readonly string[], lengths: readonly number[]): string[] {
  return lengths.flatMap((length) => {
    const count = Math.max(0, tokens.length - length + 1);
    return Array.from({ length: count }, (_, i) => tokens.slice(i, i + length).join(' '));
  });
}
