/** Tokens of a text, by a tokenizer file. */
import { FinetableError } from '@finetable/core';
import { invalidData, show } from '../errors.ts';
import type { FeatureExtractor } from '../feature.ts';
import { IdList } from '../id-list.ts';
import { placeOf } from '../source/source.ts';
import type { FeatureSpec, TokenizerSpec } from '../spec.ts';
import { textColumn } from '../source/text-column.ts';
import { readTokenizer } from './tokenizer.ts';

/** @throws what `readTokenizer` does, INVALID_FILE where it has ids beyond the table */
export function tokenizerFeature(spec: FeatureSpec, tokens: TokenizerSpec, rows: number): FeatureExtractor {
  const { column, table } = spec;
  const { maxTokens, unknown = 'drop' } = tokens;
  const tokenizer = readTokenizer(tokens.tokenizer);
  const { file, size, unknownId } = tokenizer;
  if (size > rows) {
    throw new FinetableError(
      'INVALID_FILE',
      `${file}: has ids up to ${size - 1}, but table ${show(table)} has ${rows} rows; a token's id is its row`,
      { file },
    );
  }
  const ids = new IdList();
  return {
    extract: (records) => {
      const texts = textColumn(records, column);
      const offsets = new Int32Array(texts.length + 1);
      ids.clear();
      texts.forEach((text, i) => {
        for (const id of tokenizer.encode(text, maxTokens)) {
          if (id !== unknownId || unknown === 'keep') ids.push(id);
          else if (unknown === 'error') {
            throw invalidData(
              placeOf(records, i, column),
              `${show(text)} has a token that is not in ${file}; leave such tokens out with unknown: "drop", or keep the unknown token with "keep"`,
              { tokenizer: file },
            );
          }
        }
        offsets[i + 1] = ids.length;
      });
      return { values: ids.copy(), offsets };
    },
  };
}
