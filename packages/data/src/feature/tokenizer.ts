/** Tokens of a text, by a tokenizer file. */
import { FinetableError } from '@finetable/core';
import { show } from '../errors.ts';
import type { FeatureSpec, TokenizerSpec } from '../spec.ts';
import { readTokenizer } from '../tokenizer/tokenizer.ts';
import type { Encoder } from './feature.ts';
import { tokenEncoder, unknown } from './text.ts';

/** @throws what `readTokenizer` does, INVALID_FILE where it has ids beyond the table */
export function tokenizerEncoder({ column, table }: FeatureSpec, tokens: TokenizerSpec, rows: number): Encoder {
  const { maxTokens, unknown: policy = 'drop' } = tokens;
  const tokenizer = readTokenizer(tokens.tokenizer);
  const { file, size, unknownId } = tokenizer;
  if (size > rows) {
    throw new FinetableError(
      'INVALID_FILE',
      `${file}: has ids up to ${size - 1}, but table ${show(table)} has ${rows} rows; a token's id is its row`,
      { file },
    );
  }
  return tokenEncoder<number>({
    column,
    // Truncated there, since the file may have its own way.
    split: (text) => tokenizer.encode(text, maxTokens),
    row: (id) => (id === unknownId && policy !== 'keep' ? unknown : id),
    refuse: (_, text) =>
      policy === 'error'
        ? {
            message: `${show(text)} has a token that is not in ${file}; leave such tokens out with unknown: "drop", or keep the unknown token with "keep"`,
            details: { tokenizer: file },
          }
        : null,
  });
}
