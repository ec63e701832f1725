/** Tokens of a text, by a regular expression, looked up in a vocabulary file. */
import { readFileSync } from 'node:fs';
import { FinetableError } from '@finetable/core';
import { fileError, invalidData, show, type Place } from './errors.ts';
import type { FeatureExtractor } from './feature.ts';
import { IdList } from './id-list.ts';
import { placeOf } from './source/source.ts';
import type { FeatureSpec, VocabularySpec } from './spec.ts';
import { textColumn } from './source/text-column.ts';
import { wordLines } from './word-lines.ts';

export const defaultTokenPattern = "[\\p{L}\\p{N}']+";

export function tokenFeature(spec: FeatureSpec, tokens: VocabularySpec, rows: number): FeatureExtractor {
  const { column } = spec;
  const vocabulary = readVocabulary(tokens.vocabulary, rows, spec.table);
  const pattern = new RegExp(tokens.pattern ?? defaultTokenPattern, 'gu');
  const lowercase = tokens.lowercase ?? true;
  const drop = (tokens.unknown ?? 'drop') === 'drop';
  const ids = new IdList();

  return {
    extract: (records) => {
      const texts = textColumn(records, column);
      const offsets = new Int32Array(texts.length + 1);
      ids.clear();
      texts.forEach((text, i) => {
        for (const token of (lowercase ? text.toLowerCase() : text).match(pattern) ?? []) {
          const id = vocabulary.get(token);
          if (id !== undefined) ids.push(id);
          else if (!drop) throw unknownToken(token, placeOf(records, i, column));
        }
        offsets[i + 1] = ids.length;
      });
      return { values: ids.copy(), offsets };
    },
  };

  function unknownToken(token: string, place: Place): FinetableError {
    return invalidData(
      place,
      `token ${show(token)} is not in ${tokens.vocabulary}; add it, or leave such tokens out with unknown: "drop"`,
      { value: token, vocabulary: tokens.vocabulary },
    );
  }
}

/**
 * Word to row: the word of line i + 1 is row i. A byte order mark, CRLF and a missing last line end are fine.
 * @throws NOT_FOUND, IO; INVALID_FILE where it is not UTF-8, has more lines than the table has rows, an empty line, or a
 *   word twice
 */
export function readVocabulary(file: string, rows: number, table: string): Map<string, number> {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw fileError(error, file);
  }
  const refuse = (message: string, line?: number): FinetableError =>
    new FinetableError(
      'INVALID_FILE',
      line === undefined ? `${file}: ${message}` : `${file}, line ${line}: ${message}`,
      {
        file,
        ...(line === undefined ? {} : { line }),
      },
    );
  const words = wordLines(bytes);
  if (!words) throw refuse('not UTF-8');
  if (words.length > rows) {
    throw refuse(`${words.length} words, but table ${show(table)} has ${rows} rows; line i is the word of row i - 1`);
  }
  const vocabulary = new Map<string, number>();
  words.forEach((word, row) => {
    if (word === '') throw refuse(`empty, so that row ${row} would have no word`, row + 1);
    const first = vocabulary.get(word);
    if (first !== undefined) throw refuse(`${show(word)} stands on line ${first + 1} already`, row + 1);
    vocabulary.set(word, row);
  });
  return vocabulary;
}
