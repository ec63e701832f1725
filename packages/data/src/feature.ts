/** Features: columns in, one bag of ids per example out. */
import type { Jagged } from '@finetable/core';
import { integerFeature } from './integers.ts';
import { ngramFeature } from './ngrams.ts';
import type { Records } from './source/source.ts';
import type { FeatureSpec } from './spec.ts';
import { tokenizerFeature } from './tokenizer/feature.ts';
import { tokenFeature } from './tokens.ts';

/** One feature, compiled once per thread: vocabulary, pattern and scratch memory are kept between batches. */
export interface FeatureExtractor {
  /**
   * One bag per record, every id in [0, rows of the table). The arrays are new.
   * @throws INVALID_DATA, ID_OUT_OF_RANGE, naming file, line and column
   */
  readonly extract: (records: Records) => Jagged;
}

/**
 * @param rows of its table
 * @throws NOT_FOUND, IO, INVALID_FILE for its vocabulary, and UNSUPPORTED for its tokenizer
 */
export function compileFeature(spec: FeatureSpec, rows: number): FeatureExtractor {
  const { tokens } = spec;
  if (tokens)
    return tokens.tokenizer === undefined ? tokenFeature(spec, tokens, rows) : tokenizerFeature(spec, tokens, rows);
  if (spec.ngrams) return ngramFeature(spec, spec.ngrams, rows);
  return integerFeature(spec, rows);
}
